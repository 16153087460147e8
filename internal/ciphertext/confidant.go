package ciphertext

import (
	"fmt"
	"strings"

	"rotator/internal/scan"
)

const formatConfidant = "confidant"

const (
	confidantKey  = "data_key"
	confidantType = "data_type"
	confidantID   = "id"
)

// newConfidant builds the format of the live and archive tables of Confidant. Attribute
// data_key is of type B, and its bytes are base64 text, because BinaryAttribute of PynamoDB
// before 6.0 encodes twice (docs/upgrading_binary.rst of pynamodb/PynamoDB). The encryption
// context is the ID of the credential. The ID of a row with a revision of the credential is
// this ID, a dash and the revision (_get_decrypted_credential_pairs in
// confidant/models/credential.py of lyft/confidant). Services have no data_key.
func newConfidant(c *compiler) binder {
	c.reads = append(c.reads, confidantKey, confidantType, confidantID, dbesdkHeader)
	c.writes = append(c.writes, confidantKey)
	return unbound(&rowFormat{name: formatConfidant, read: readConfidant})
}

func readConfidant(_ scan.Item, row rowReader) *rowSlot {
	if !row.has(confidantKey) {
		return unreadableConfidant(row)
	}
	kind, refused := contextValue(row, confidantType, scan.KindS)
	if refused != nil {
		return heldSlot(row, confidantKey, refused)
	}
	if strings.HasSuffix(kind, "blind-credential") {
		return refusedSlot(row, confidantKey, "blind-credential",
			"the row is a blind credential, which the user's own client encrypts under one "+
				"key per "+
				"Region; write it again with that client")
	}
	contexts := func() (context, destination map[string]string, refused *Refused) {
		id, refused := contextValue(row, confidantID, scan.KindS)
		if kind != "credential" {
			id, _, _ = strings.Cut(id, "-")
		}
		context = map[string]string{confidantID: id}
		return context, context, refused
	}
	return newRowSlot(row, confidantKey, scan.KindB, formatBase64, contexts)
}

// unreadableConfidant refuses a credential without a data key. Services have no data key and
// no slot.
func unreadableConfidant(row rowReader) *rowSlot {
	kind, _ := row.get(confidantType)
	if kind.Kind != scan.KindS || !strings.HasSuffix(kind.Text, "credential") {
		return nil
	}
	return unreadableRow(row, confidantKey, formatConfidant, fmt.Sprintf("data_type %q", kind.Text),
		"the row has no data_key, so Confidant cannot read it either: restore or delete it")
}
