package ciphertext

import (
	"encoding/hex"
	"slices"

	"rotator/internal/scan"
)

// formatTinkKeyset is the format of encrypted keysets of Tink in JSON (tink-crypto/tink-go,
// keyset/json_io.go): encryptedKeyset is the ciphertext in base64. The encryption context is
// associatedData, or additionalData in older releases, with the associated data of the keyset
// in hexadecimal (tink-go-awskms, integration/awskms). The associated data is not stored, so
// the context comes from the target. A keyset without associated data has no context.
const formatTinkKeyset = "tink-keyset"

func newTinkKeyset(c *compiler) binder {
	contexts, pattern := c.targetContext(), c.where.pattern
	c.tinkContext("context", c.spec.Context)
	c.tinkContext("destination_context", c.spec.DestinationContext)
	return unbound(&bodyFormat{
		name: c.def.name,
		sites: orUnreadable(func(object *scan.Object) []editSite {
			if !isDocument(object.Body) {
				return []editSite{refusedSitef("encryptedKeyset", "not-json",
					"the body is not one JSON document; rotator cannot read keysets in "+
						"binary form")}
			}
			keyset, refused := tinkKeyset(object.Body)
			switch {
			case refused != nil:
				return []editSite{refusedSite("encryptedKeyset", refused)}
			case keyset == nil:
				return nil
			}
			context, destination, refused := contexts.fill(objectLookup(object, pattern, nil))
			if refused != nil {
				return []editSite{refusedSite(keyset.path, refused)}
			}
			p := keyset.blobSite(context)
			if p.Refused == nil {
				p.DestinationContext = destination
			}
			return []editSite{p}
		}, markedTinkKeyset),
	})
}

// tinkContext refuses a context that Tink does not use.
func (c *compiler) tinkContext(field string, context map[string]string) {
	for name, value := range context {
		if len(context) > 1 ||
			!slices.Contains([]string{"associatedData", "additionalData"}, name) {
			c.fail(field, "Tink uses one entry in the encryption context of a keyset: "+
				"associatedData or, in older releases, additionalData")
			return
		}
		parts, err := parseValue(value, c.where)
		if err != nil || len(parts) > 1 || parts[0].kind != constant {
			return // the value depends on the item
		}
		data, err := hex.DecodeString(value)
		if err != nil || value == "" || hex.EncodeToString(data) != value {
			c.fail(field, "%s: write the associated data in hexadecimal in lower case, like Tink",
				name)
		}
	}
}

// recogniseTinkKeyset reports whether a file has an encrypted keyset and its keysetInfo.
func recogniseTinkKeyset(_ Format, object *scan.Object) bool {
	body := object.Body
	if !has(body, "encryptedKeyset") || !opensObject(body) || !isDocument(body) {
		return false
	}
	keyset, refused := tinkKeyset(body)
	info, _ := jsonNode(body, "keysetInfo")
	return refused == nil && keyset != nil && info != nil && info.kind == nodeMap
}

// tinkKeyset returns the ciphertext of a keyset, or nil for a keyset that is not encrypted.
func tinkKeyset(body []byte) (*node, *Refused) {
	found, refused := jsonNode(body, "encryptedKeyset")
	switch {
	case found == nil || refused != nil:
		return nil, refused
	case found.kind != nodeText || found.write == nil:
		return nil, refuse("wrong-type", "encryptedKeyset is not a string")
	}
	return found, nil
}
