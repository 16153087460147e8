package ciphertext

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"rotator/internal/kmsblob"
	"rotator/internal/scan"
)

const formatDDBEncryption = "ddb-encryption-client"

// The attribute that holds the material description, and the names in it.
const (
	descriptionAttribute = "*amzn-ddb-map-desc*"
	descriptionKey       = "amzn-ddb-env-key"
	descriptionWrap      = "amzn-ddb-wrap-alg"
	descriptionCipher    = "amzn-ddb-env-alg"
	descriptionSignature = "amzn-ddb-sig-alg"
	signatureAttribute   = "*amzn-ddb-map-sig*"
	contextTable         = "*aws-kms-table*"
	descriptionKMS       = "kms"
)

// newDDBEncryption is for items of the DynamoDB Encryption Client (Java and Python)
// with the direct KMS provider. The wrapped key stands in the material description,
// which the signature of the item does not cover, as an entry amzn-ddb-env-key in
// base64. The encryption context is made of the algorithms in the description, of
// the primary key and of the name of the table, which the target's context can say
// where clients override it (DirectKmsMaterialProvider.java of
// aws/aws-dynamodb-encryption-java; aws_kms.py of
// aws/aws-dynamodb-encryption-python).
func newDDBEncryption(c *compiler) binder {
	c.reads = append(c.reads, descriptionAttribute, signatureAttribute, dbesdkHeader)
	c.writes = append(c.writes, descriptionAttribute)
	table := c.ownContext(contextTable, c.spec.Container, "the name of the table")
	return unbound(&rowFormat{
		name: formatDDBEncryption,
		read: func(item scan.Item, row rowReader) *rowSlot {
			return readDescription(item, row, table)
		},
	})
}

func readDescription(item scan.Item, row rowReader, table rule) *rowSlot {
	value, ok := row.get(descriptionAttribute)
	switch {
	case !ok:
		return unreadSignature(row)
	case value.Kind != scan.KindB:
		return refusedSlot(row, descriptionAttribute, "wrong-type",
			"attribute %s is of type %s, and its client reads B", descriptionAttribute, value.Kind)
	}
	description, refused := parseDescription(value.Bytes)
	if refused != nil {
		return heldSlot(row, descriptionAttribute, refused)
	}
	key, hasKey := description[descriptionKey]
	wrap, hasWrap := description[descriptionWrap]
	if !hasKey || hasWrap && string(wrap.in(value.Bytes)) != descriptionKMS {
		return otherProvider(row, value.Bytes, description)
	}
	blob, encode, refused := decodePadded(key.in(value.Bytes))
	found := sealed(descriptionAttribute, blob, refused, func() (context, destination map[string]string, refused *Refused) {
		context, refused = descriptionContext(item, row, value.Bytes, description, table)
		return context, context, refused
	})
	if found.Refused == nil {
		found.replace = func(blob []byte) map[string]scan.Value {
			return map[string]scan.Value{descriptionAttribute: {Kind: scan.KindB, Bytes: key.replace(value.Bytes, encode(blob))}}
		}
	}
	return found
}

// unreadSignature refuses an item that is signed and has no description. Clients can keep
// the description under another name, where its ciphertext would not be seen.
func unreadSignature(row rowReader) *rowSlot {
	if !row.has(signatureAttribute) {
		return nil
	}
	return unreadRow(row, descriptionAttribute, formatDDBEncryption, signatureAttribute,
		"it has no "+descriptionAttribute+": if the client is configured with another name for "+
			"it, read the item and write it again under the new key; with a provider that does "+
			"not use KMS, accept it")
}

// otherProvider reads a description whose provider does not wrap its key by KMS: it is no
// slot, unless the description says KMS and has no key, or its key is a ciphertext of KMS.
func otherProvider(row rowReader, text []byte, description map[string]stretch) *rowSlot {
	const help = "read the item and write it again with its client under the new key"
	wrap := string(description[descriptionWrap].in(text))
	key, hasKey := description[descriptionKey]
	if !hasKey && wrap == descriptionKMS {
		return unreadRow(row, descriptionAttribute, formatDDBEncryption,
			descriptionWrap+" kms and no "+descriptionKey, help)
	}
	blob, _, refused := decodePadded(key.in(text))
	if hasKey && refused == nil && kmsblob.IsBlob(blob) {
		return unreadRow(row, descriptionAttribute, formatDDBEncryption,
			descriptionWrap+fmt.Sprintf(" %q and a key that is a ciphertext of KMS", wrap), help)
	}
	return nil
}

// stretch is where a value stands in a description, behind its length.
type stretch struct{ start, end int }

func (s stretch) in(text []byte) []byte { return text[s.start:s.end] }

// replace returns the text with another value there, and its length.
func (s stretch) replace(text, value []byte) []byte {
	out := slices.Clone(text[:s.start-4])
	out = binary.BigEndian.AppendUint32(out, uint32(len(value)))
	return append(append(out, value...), text[s.end:]...)
}

// parseDescription takes a material description apart: a version of four zero
// bytes, then names and values in turn, each behind its length in four bytes, big
// end first (internal/formatting/material_description.py of
// aws/aws-dynamodb-encryption-python).
func parseDescription(text []byte) (map[string]stretch, *Refused) {
	malformed := &Refused{Reason: "malformed", Detail: "attribute " + descriptionAttribute + " is not a material description of version 0; it may be cut short"}
	if len(text) < 4 || binary.BigEndian.Uint32(text) != 0 {
		return nil, malformed
	}
	description := map[string]stretch{}
	for at := 4; at < len(text); {
		name, ok := nextStretch(text, at)
		if !ok {
			return nil, malformed
		}
		value, ok := nextStretch(text, name.end)
		if !ok {
			return nil, malformed
		}
		if _, twice := description[string(name.in(text))]; twice {
			return nil, &Refused{Reason: "ambiguous", Detail: "its material description has a name twice"}
		}
		description[string(name.in(text))] = value
		at = value.end
	}
	return description, nil
}

func nextStretch(text []byte, at int) (stretch, bool) {
	if len(text)-at < 4 {
		return stretch{}, false
	}
	length := uint64(binary.BigEndian.Uint32(text[at:]))
	if length > uint64(len(text)-at-4) {
		return stretch{}, false
	}
	return stretch{at + 4, at + 4 + int(length)}, true
}

func descriptionContext(
	item scan.Item, row rowReader, text []byte, description map[string]stretch, table rule,
) (map[string]string, *Refused) {
	context, refused := table.fill(rowLookup(row))
	if refused != nil {
		return nil, refused
	}
	for _, name := range []string{descriptionCipher, descriptionSignature} {
		value, ok := description[name]
		if !ok {
			return nil, &Refused{Reason: "missing-context", Detail: "its context needs " + name + ", and its material description has none"}
		}
		context["*"+name+"*"] = string(value.in(text))
	}
	key, refused := keyNames(item.Ref)
	if refused != nil {
		return nil, refused
	}
	for _, name := range key {
		value, refused := contextValue(row, name, scan.KindS, scan.KindN, scan.KindB)
		if refused != nil {
			return nil, refused
		}
		context[name] = value
	}
	return context, nil
}

// keyNames are the names of the attributes of the primary key: those in the address
// of the item, which is the key in JSON.
func keyNames(ref scan.Ref) ([]string, *Refused) {
	var key map[string]json.RawMessage
	if err := json.Unmarshal([]byte(ref), &key); err != nil || len(key) == 0 {
		return nil, &Refused{Reason: "missing-context", Detail: "its context needs the primary key, and the address of the item does not say which attributes that is"}
	}
	return slices.Sorted(maps.Keys(key)), nil
}
