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

func newTinkKeyset(c *compiler) Format {
	given, pattern := c.given(), c.where.pattern
	fits := c.tinkContext("context", c.spec.Context) && c.tinkContext("destination_context", c.spec.DestinationContext)
	return &bodyFormat{name: c.form.name, places: func(object *scan.Object) []place {
		if !isDocument(object.Body) {
			return []place{refusedPlace("encryptedKeyset", "not-json", "it is not one JSON document; keysets in the binary form are not read")}
		}
		keyset, refused := tinkKeyset(object.Body)
		switch {
		case refused != nil:
			return []place{placeOf("encryptedKeyset", refused)}
		case keyset == nil:
			return nil
		case !fits:
			return []place{refusedPlace(keyset.path, "missing-context", "the context of the target is none that a keyset of Tink can have; give keysets a target of their own, with format: %s", formatTinkKeyset)}
		}
		context, destination, refused := given.fill(objectLookup(object, pattern, nil))
		if refused != nil {
			return []place{placeOf(keyset.path, refused)}
		}
		p := keyset.blobPlace(context)
		if p.Refused == nil {
			p.DestinationContext = destination
		}
		return []place{p}
	}}
}

// tinkContext says whether a keyset can have this context. One that it cannot have
// is a problem of the job file, unless the target has other formats too.
func (c *compiler) tinkContext(field string, context map[string]string) bool {
	for name, value := range context {
		wrong := ""
		parts, err := parseValue(value, c.where)
		data, notHex := hex.DecodeString(value)
		switch {
		case len(context) > 1 || !slices.Contains([]string{"associatedData", "additionalData"}, name):
			wrong = "Tink has one entry in the encryption context of a keyset, associatedData or, in older releases, additionalData"
		case err != nil || len(parts) > 1 || parts[0].kind != constant: // known when the item is
		case notHex != nil || value == "" || hex.EncodeToString(data) != value:
			wrong = name + ": write the associated data in hexadecimal, in lower case, as Tink does"
		}
		if wrong != "" && c.spec.Format == formatTinkKeyset {
			c.fail(field, "%s", wrong)
		}
		if wrong != "" {
			return false
		}
	}
	return true
}

// recogniseTinkKeyset: the keyset and what it says of its keys.
func recogniseTinkKeyset(object *scan.Object) bool {
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
