package ciphertext

import "rotator/internal/scan"

// newCredsmash builds the format of rows of credsmash, a fork of credstash. With the
// algorithms aes-ctr and aes-gcm, attribute key is of type B and holds the blob. Rows without
// an algorithm have the format of credstash, which credsmash also reads (credsmash/crypto in
// the history of the fork). Protocol 2 adds the name and the version of the secret to the
// encryption context. It is not known how it formats the version, so such rows are refused.
func newCredsmash(c *compiler) binder {
	contexts := credentialContexts(c)
	read := func(_ scan.Item, row rowReader) *rowSlot {
		if !isCredential(row) {
			return unreadableCredential(row, formatCredsmash)
		}
		if protocol, ok := row.get(credentialProtocol); ok && protocol.Text != "1" {
			return refusedSlot(row, credentialKey, "credsmash-protocol",
				"the row has protocol %q, which adds the name and the version of the secret to "+
					"the encryption context in a form that rotator does not know; move such rows "+
					"with format raw, a slot with path key, and the context of your version of "+
					"credsmash",
				protocol.Text)
		}
		algorithm, _ := row.get(credentialAlgorithm)
		switch {
		case textual(algorithm):
			return newRowSlot(row, credentialKey, scan.KindS, formatBase64, contexts(row))
		case algorithm.Text == "aes-ctr" || algorithm.Text == "aes-gcm":
			return newRowSlot(row, credentialKey, scan.KindB, formatRaw, contexts(row))
		}
		return refusedSlot(row, credentialKey, "unknown-format",
			"the row has algorithm %q, but credsmash has only aes-ctr, aes-gcm and aes-ctr-legacy",
			algorithm.Text)
	}
	return unbound(&rowFormat{name: formatCredsmash, read: read})
}
