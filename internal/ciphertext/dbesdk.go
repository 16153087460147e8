package ciphertext

// dbesdkHeader is the attribute in which the AWS Database Encryption SDK for
// DynamoDB keeps the header of an item, with its wrapped data keys in it
// (specification/structured-encryption/header.md of
// aws/aws-database-encryption-sdk-dynamodb).
const dbesdkHeader = "aws_dbe_head"

// dbesdkSlot refuses an item of the AWS Database Encryption SDK; nil when the row
// is none. Its header carries a commitment, an HMAC over everything before it under
// a key derived from the data key, so that no other wrapped key can take the place
// of the one that is there.
func dbesdkSlot(row rowReader) *rowSlot {
	if !row.has(dbesdkHeader) {
		return nil
	}
	return refusedSlot(row, dbesdkHeader, "dbesdk-header",
		"it is an item of the AWS Database Encryption SDK, whose header commits to its wrapped keys; read and write it again with the SDK under the new key, or, where it uses a hierarchical keyring, move the branch key store (format %s)", formatBranchKeystore)
}
