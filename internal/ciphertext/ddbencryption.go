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

// newDDBEncryption builds the format of items of the DynamoDB Encryption Client (Java and
// Python) with the direct KMS provider. The material description, which the signature of
// the item does not cover, holds the wrapped key in base64 as entry amzn-ddb-env-key. The
// encryption context consists of the algorithms in the description, the primary key and the
// name of the table. The context of the target can set this name if clients override it
// (DirectKmsMaterialProvider.java of aws/aws-dynamodb-encryption-java; aws_kms.py of
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
		return unreadableSignature(row)
	case value.Kind != scan.KindB:
		return refusedSlot(row, descriptionAttribute, "wrong-type",
			"attribute %s is of type %s, but its client reads B", descriptionAttribute, value.Kind)
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
	contexts := func() (context, destination map[string]string, refused *Refused) {
		context, refused = descriptionContext(item, row, value.Bytes, description, table)
		return context, context, refused
	}
	found := sealed(descriptionAttribute, blob, refused, contexts)
	if found.Refused == nil {
		found.replace = func(blob []byte) map[string]scan.Value {
			text := key.replace(value.Bytes, encode(blob))
			return map[string]scan.Value{descriptionAttribute: {Kind: scan.KindB, Bytes: text}}
		}
	}
	return found
}

// unreadableSignature refuses an item that has a signature but no description. Clients can
// store the description in another attribute, where its ciphertext would not be found.
func unreadableSignature(row rowReader) *rowSlot {
	if !row.has(signatureAttribute) {
		return nil
	}
	return unreadableRow(row, descriptionAttribute, formatDDBEncryption, signatureAttribute,
		"it has no "+descriptionAttribute+": if the client stores it under another name, read the "+
			"item and write it again under the new key; if its provider does not use KMS, add an "+
			"accept rule")
}

// otherProvider handles a description whose key is not wrapped by the direct KMS provider.
// It has no slot. It is refused if it names KMS but has no key, or if its key is a KMS
// ciphertext.
func otherProvider(row rowReader, text []byte, description map[string]span) *rowSlot {
	const help = "read the item and write it again with its client under the new key"
	wrap := string(description[descriptionWrap].in(text))
	key, hasKey := description[descriptionKey]
	if !hasKey && wrap == descriptionKMS {
		return unreadableRow(row, descriptionAttribute, formatDDBEncryption,
			descriptionWrap+" kms and no "+descriptionKey, help)
	}
	blob, _, refused := decodePadded(key.in(text))
	if hasKey && refused == nil && kmsblob.IsBlob(blob) {
		return unreadableRow(row, descriptionAttribute, formatDDBEncryption,
			descriptionWrap+fmt.Sprintf(" %q with a key that is a KMS ciphertext", wrap), help)
	}
	return nil
}

// span is the position of a value in a description. Its length precedes it.
type span struct{ start, end int }

func (s span) in(text []byte) []byte { return text[s.start:s.end] }

// replace returns the text with another value, and the length of this value.
func (s span) replace(text, value []byte) []byte {
	out := slices.Clone(text[:s.start-4])
	out = binary.BigEndian.AppendUint32(out, uint32(len(value)))
	return append(append(out, value...), text[s.end:]...)
}

// parseDescription returns the positions of the values of a material description, by name.
// A description consists of a version, which is four zero bytes, and alternating names and
// values, each preceded by its length in four bytes, big endian
// (internal/formatting/material_description.py of aws/aws-dynamodb-encryption-python).
func parseDescription(text []byte) (map[string]span, *Refused) {
	malformed := refuse("malformed", "attribute %s is not a material description of version 0; it "+
		"may be truncated", descriptionAttribute)
	if len(text) < 4 || binary.BigEndian.Uint32(text) != 0 {
		return nil, malformed
	}
	description := map[string]span{}
	for at := 4; at < len(text); {
		name, ok := nextSpan(text, at)
		if !ok {
			return nil, malformed
		}
		value, ok := nextSpan(text, name.end)
		if !ok {
			return nil, malformed
		}
		if _, twice := description[string(name.in(text))]; twice {
			return nil, refuse("ambiguous", "the material description has a name twice")
		}
		description[string(name.in(text))] = value
		at = value.end
	}
	return description, nil
}

// nextSpan returns the position of the name or value whose length is at text[at:].
func nextSpan(text []byte, at int) (span, bool) {
	if len(text)-at < 4 {
		return span{}, false
	}
	length := uint64(binary.BigEndian.Uint32(text[at:]))
	if length > uint64(len(text)-at-4) {
		return span{}, false
	}
	return span{at + 4, at + 4 + int(length)}, true
}

func descriptionContext(
	item scan.Item, row rowReader, text []byte, description map[string]span, table rule,
) (map[string]string, *Refused) {
	context, refused := table.fill(rowLookup(row))
	if refused != nil {
		return nil, refused
	}
	for _, name := range []string{descriptionCipher, descriptionSignature} {
		value, ok := description[name]
		if !ok {
			return nil, refuse("missing-context", "the encryption context needs %s, which the "+
				"material description does not have", name)
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

// keyNames returns the names of the attributes of the primary key. The address of an item is
// its primary key in JSON.
func keyNames(ref scan.Ref) ([]string, *Refused) {
	var key map[string]json.RawMessage
	if err := json.Unmarshal([]byte(ref), &key); err != nil || len(key) == 0 {
		return nil, refuse("missing-context", "the encryption context needs the primary key, but "+
			"the address of the item does not contain its attributes")
	}
	return slices.Sorted(maps.Keys(key)), nil
}
