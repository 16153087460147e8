package ciphertext

import (
	"bytes"
	"encoding/hex"
	"slices"

	"rotator/internal/scan"
)

// formatTinkKeyset reads an encrypted keyset of Tink, written as JSON
// (tink-crypto/tink-go, keyset/json_io.go): encryptedKeyset is the ciphertext in
// base64. The encryption context is associatedData, or additionalData in older
// releases: the associated data of the keyset in hexadecimal
// (tink-go-awskms, integration/awskms). It is stored nowhere, so the target says
// it; a keyset without associated data has none.
const formatTinkKeyset = "tink-keyset"

func newTinkKeyset(c *compiler) binder {
	given, pattern := c.targetContext(), c.where.pattern
	c.tinkContext("context", c.spec.Context)
	c.tinkContext("destination_context", c.spec.DestinationContext)
	return unbound(&bodyFormat{name: c.def.name, sites: orUnread(func(object *scan.Object) []editSite {
		if !isDocument(object.Body) {
			return []editSite{refusedSitef("encryptedKeyset", "not-json", "it is not one JSON document; keysets in the binary form are not read")}
		}
		keyset, refused := tinkKeyset(object.Body)
		switch {
		case refused != nil:
			return []editSite{refusedSite("encryptedKeyset", refused)}
		case keyset == nil:
			return nil
		}
		context, destination, refused := given.fill(objectLookup(object, pattern, nil))
		if refused != nil {
			return []editSite{refusedSite(keyset.path, refused)}
		}
		p := keyset.blobSite(context)
		if p.Refused == nil {
			p.DestinationContext = destination
		}
		return []editSite{p}
	}, markedTinkKeyset)})
}

// tinkContext refuses a context that no keyset has.
func (c *compiler) tinkContext(field string, context map[string]string) {
	for name, value := range context {
		if len(context) > 1 || !slices.Contains([]string{"associatedData", "additionalData"}, name) {
			c.fail(field, "Tink has one entry in the encryption context of a keyset, associatedData or, in older releases, additionalData")
			return
		}
		parts, err := parseValue(value, c.where)
		if err != nil || len(parts) > 1 || parts[0].kind != constant {
			return // what is in it depends on the item
		}
		if data, err := hex.DecodeString(value); err != nil || value == "" || hex.EncodeToString(data) != value {
			c.fail(field, "%s: write the associated data in hexadecimal, in lower case, as Tink does", name)
		}
	}
}

// recogniseTinkKeyset: the keyset and what it says of its keys.
func recogniseTinkKeyset(_ Format, object *scan.Object) bool {
	if !bytes.Contains(object.Body, []byte("encryptedKeyset")) || !opensObject(object.Body) || !isDocument(object.Body) {
		return false
	}
	keyset, refused := tinkKeyset(object.Body)
	info, _ := jsonNode(object.Body, "keysetInfo")
	return refused == nil && keyset != nil && info != nil && info.kind == nodeMap
}

// tinkKeyset returns the ciphertext of a keyset; nil when it has none, as one that
// is not encrypted.
func tinkKeyset(body []byte) (*node, *Refused) {
	found, refused := jsonNode(body, "encryptedKeyset")
	switch {
	case found == nil || refused != nil:
		return nil, refused
	case found.kind != nodeText || found.write == nil:
		return nil, &Refused{Reason: "wrong-type", Detail: "encryptedKeyset is not a string"}
	}
	return found, nil
}
