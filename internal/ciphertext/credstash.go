package ciphertext

import "rotator/internal/scan"

const (
	formatCredstash = "credstash"
	formatCredsmash = "credsmash"
)

// The attributes of a credential that matter here. Its hmac and contents are made
// with the data key, which stays the same, so they are never read: credstash keeps
// hmac as B and unicreds as S, and both have to stay what they are.
const (
	credentialKey       = "key"
	credentialContents  = "contents"
	credentialAlgorithm = "algorithm"
	credentialProtocol  = "protocol"
	credentialHMAC      = "hmac"
)

// newCredstash is for rows of credstash, and of its Go port unicreds: the whole
// KMS blob in attribute key, as base64 in S (seal_aes_ctr_legacy in credstash.py of
// fugue/credstash, PutSecret in ds.go of Versent/unicreds). The encryption context
// is given on the command line of put and get, and stored nowhere, so the target
// says it: by name from a file, or for all rows; without either there is none.
func newCredstash(c *compiler) binder {
	contexts := credentialContexts(c)
	return unbound(&rowFormat{name: formatCredstash, read: func(_ scan.Item, row rowReader) *rowSlot {
		if !isCredential(row) {
			return unreadCredential(row, formatCredstash)
		}
		if algorithm, _ := row.get(credentialAlgorithm); !textual(algorithm) {
			return refusedSlot(row, credentialKey, "credsmash",
				"it has the algorithm %q, which credstash does not have; it may be a row of "+
					"credsmash, for which there is format %s", algorithm.Text, formatCredsmash)
		}
		return newRowSlot(row, credentialKey, scan.KindS, formatBase64, contexts(row))
	}})
}

// credentialContexts notes what is read and written, and returns what gives each
// row its contexts.
func credentialContexts(c *compiler) func(rowReader) contextsOf {
	c.reads = append(c.reads, credentialKey, credentialContents, credentialAlgorithm,
		credentialProtocol, credentialHMAC, dbesdkHeader)
	c.writes = append(c.writes, credentialKey)
	given := c.targetContext()
	return func(row rowReader) contextsOf {
		return func() (context, destination map[string]string, refused *Refused) {
			return given.fill(rowLookup(row))
		}
	}
}

// isCredential knows a credential by its two parts: a wrapped key, and what it
// encrypts.
func isCredential(row rowReader) bool {
	return row.has(credentialKey) && row.has(credentialContents)
}

// unreadCredential refuses a row with the key and the HMAC of a credential, without which
// no client reads it, and without contents. Rows of something else are no slot: locks, or
// items in the clear.
func unreadCredential(row rowReader, format string) *rowSlot {
	if !row.has(credentialKey) || !row.has(credentialHMAC) {
		return nil
	}
	return unreadRow(row, credentialKey, format, "key and hmac",
		"it has no contents, so its client cannot read it either: restore it, or delete it")
}

// textual says that a credential is one of text, as credstash writes them: without
// an algorithm, or with the name that credsmash gave to this way.
func textual(algorithm scan.Value) bool {
	return algorithm.Kind == 0 || algorithm.Kind == scan.KindS && (algorithm.Text == "" || algorithm.Text == "aes-ctr-legacy")
}
