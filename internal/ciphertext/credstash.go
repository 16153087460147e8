package ciphertext

import "rotator/internal/scan"

const (
	formatCredstash = "credstash"
	formatCredsmash = "credsmash"
)

// The attributes of a credential that the format uses. contents and hmac depend on the data
// key, which does not change, so only their presence matters.
const (
	credentialKey       = "key"
	credentialContents  = "contents"
	credentialAlgorithm = "algorithm"
	credentialProtocol  = "protocol"
	credentialHMAC      = "hmac"
)

// newCredstash builds the format of rows of credstash, and of its Go port unicreds: attribute
// key is of type S and holds the blob in base64 (seal_aes_ctr_legacy in credstash.py of
// fugue/credstash, PutSecret in ds.go of Versent/unicreds). Users pass the encryption context
// on the command line of put and get, and it is not stored. It therefore comes from the
// target: from a context file by name, or from one context for all rows.
func newCredstash(c *compiler) binder {
	contexts := credentialContexts(c)
	read := func(_ scan.Item, row rowReader) *rowSlot {
		if !isCredential(row) {
			return unreadableCredential(row, formatCredstash)
		}
		if algorithm, _ := row.get(credentialAlgorithm); !textual(algorithm) {
			return refusedSlot(row, credentialKey, "credsmash",
				"the row has algorithm %q, which credstash does not have; for rows of credsmash, "+
					"use format %s", algorithm.Text, formatCredsmash)
		}
		return newRowSlot(row, credentialKey, scan.KindS, formatBase64, contexts(row))
	}
	return unbound(&rowFormat{name: formatCredstash, read: read})
}

// credentialContexts declares the attributes of a credential, and returns a function for the
// contexts of a row.
func credentialContexts(c *compiler) func(rowReader) contextsOf {
	c.reads = append(c.reads, credentialKey, credentialContents, credentialAlgorithm,
		credentialProtocol, credentialHMAC, dbesdkHeader)
	c.writes = append(c.writes, credentialKey)
	fromTarget := c.targetContext()
	return func(row rowReader) contextsOf {
		return func() (context, destination map[string]string, refused *Refused) {
			return fromTarget.fill(rowLookup(row))
		}
	}
}

// isCredential reports whether a row has a wrapped key and a ciphertext under it.
func isCredential(row rowReader) bool {
	return row.has(credentialKey) && row.has(credentialContents)
}

// unreadableCredential refuses a row that has the key and the HMAC of a credential, but no
// contents. Rows without key or HMAC are not credentials and have no slot.
func unreadableCredential(row rowReader, format string) *rowSlot {
	if !row.has(credentialKey) || !row.has(credentialHMAC) {
		return nil
	}
	return unreadableRow(row, credentialKey, format, "key and hmac",
		"the row has no contents, so its client cannot read it either: restore or delete it")
}

// textual reports whether a credential is stored as text, as credstash does: it has no
// algorithm, or the name of this algorithm in credsmash.
func textual(algorithm scan.Value) bool {
	return algorithm.Kind == 0 ||
		algorithm.Kind == scan.KindS && (algorithm.Text == "" || algorithm.Text == "aes-ctr-legacy")
}
