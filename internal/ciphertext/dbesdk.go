package ciphertext

// dbesdkHeader is the attribute in which the AWS Database Encryption SDK for DynamoDB stores
// the header of an item, which contains its wrapped data keys
// (specification/structured-encryption/header.md of
// aws/aws-database-encryption-sdk-dynamodb).
const dbesdkHeader = "aws_dbe_head"

// dbesdkSlot refuses an item of the AWS Database Encryption SDK. It returns nil for other
// rows. The header contains an HMAC, under a key derived from the data key, over the wrapped
// keys, so that they cannot be replaced.
func dbesdkSlot(row rowReader) *rowSlot {
	if !row.has(dbesdkHeader) {
		return nil
	}
	return refusedSlot(row, dbesdkHeader, "dbesdk-header",
		"the item is encrypted by the AWS Database Encryption SDK, whose header commits to its "+
			"wrapped keys: read it and write it again with the SDK under the new key; if it "+
			"uses a "+
			"hierarchical keyring, move the branch key store instead (format %s)",
		formatBranchKeystore)
}
