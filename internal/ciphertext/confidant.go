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

// newConfidant is for the tables of Confidant, live and archive. Attribute data_key
// is B, and its bytes are base64 text: BinaryAttribute of PynamoDB before 6.0
// encodes twice (docs/upgrading_binary.rst of pynamodb/PynamoDB). The encryption
// context is the id of the credential; a row that keeps a revision of it has the
// revision behind a dash in its own id (_get_decrypted_credential_pairs in
// confidant/models/credential.py of lyft/confidant). Services have no data_key.
func newConfidant(c *compiler) binder {
	c.reads = append(c.reads, confidantKey, confidantType, confidantID, dbesdkHeader)
	c.writes = append(c.writes, confidantKey)
	return unbound(&rowFormat{name: formatConfidant, read: readConfidant})
}

func readConfidant(_ scan.Item, row rowReader) *rowSlot {
	if !row.has(confidantKey) {
		return unreadConfidant(row)
	}
	kind, refused := contextValue(row, confidantType, scan.KindS)
	if refused != nil {
		return heldSlot(row, confidantKey, refused)
	}
	if strings.HasSuffix(kind, "blind-credential") {
		return refusedSlot(row, confidantKey, "blind-credential",
			"it is a blind credential, which is encrypted by the user's own client, under a key for each Region; write it again with that client")
	}
	return newRowSlot(row, confidantKey, scan.KindB, formatBase64, func() (context, destination map[string]string, refused *Refused) {
		id, refused := contextValue(row, confidantID, scan.KindS)
		if kind != "credential" {
			id, _, _ = strings.Cut(id, "-")
		}
		context = map[string]string{confidantID: id}
		return context, context, refused
	})
}

// unreadConfidant refuses a row that says it is a credential, and has no data key. Services
// have none.
func unreadConfidant(row rowReader) *rowSlot {
	kind, _ := row.get(confidantType)
	if kind.Kind != scan.KindS || !strings.HasSuffix(kind.Text, "credential") {
		return nil
	}
	return unreadRow(row, confidantKey, formatConfidant, fmt.Sprintf("data_type %q", kind.Text),
		"it has no data_key, so Confidant cannot read it either: restore it, or delete it")
}
