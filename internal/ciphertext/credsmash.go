package ciphertext

import "rotator/internal/scan"

// newCredsmash is for rows of credsmash, a fork of credstash: with the algorithms
// aes-ctr and aes-gcm attribute key is B and holds the blob itself; rows without an
// algorithm are those of credstash, which it still reads (credsmash/crypto in the
// history of the fork). Its protocol 2 adds the name and the version of the secret
// to the encryption context; how it prints the version has not been established,
// so such rows are refused.
func newCredsmash(c *compiler) binder {
	contexts := credentialContexts(c)
	return unbound(&rowFormat{name: formatCredsmash, read: func(_ scan.Item, row rowReader) *rowSlot {
		if !isCredential(row) {
			return unreadCredential(row, formatCredsmash)
		}
		if protocol, ok := row.get(credentialProtocol); ok && protocol.Text != "1" {
			return refusedSlot(row, credentialKey, "credsmash-protocol",
				"it has protocol %q, whose encryption context also names the secret and its version in a way that is not known here; move such rows with format raw, a slot at key and the context that your version of credsmash makes", protocol.Text)
		}
		algorithm, _ := row.get(credentialAlgorithm)
		switch {
		case textual(algorithm):
			return newRowSlot(row, credentialKey, scan.KindS, formatBase64, contexts(row))
		case algorithm.Text == "aes-ctr" || algorithm.Text == "aes-gcm":
			return newRowSlot(row, credentialKey, scan.KindB, formatRaw, contexts(row))
		}
		return refusedSlot(row, credentialKey, "unknown-format",
			"it has the algorithm %q, and credsmash has aes-ctr, aes-gcm and aes-ctr-legacy",
			algorithm.Text)
	}})
}
