package main

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// The stores: the place of the slot in an item.
const (
	rows    = "dynamodb"    // in an attribute of a row
	bodies  = "s3"          // in the body of an object
	headers = "s3-metadata" // in the user metadata of an object
)

// object is an S3 object of the stub.
type object struct {
	body                        []byte
	metadata                    map[string]string
	contentType, etag, modified string
}

// objectOf returns the object of item i whose slot is under a key.
func objectOf(store, key string, i int) object {
	o := object{contentType: "application/json", modified: "Mon, 02 Mar 2026 10:00:00 GMT"}
	if key == destinationKey {
		o.modified = "Mon, 02 Mar 2026 10:05:00 GMT"
	}
	if store == headers { // the ETag depends only on the body, as that of S3
		o.contentType, o.body = "application/octet-stream", []byte(filler+filler)
		o.metadata, o.etag = metadataOf(key, i), etagOf(sourceKey, i)
		return o
	}
	o.body, o.etag = bodyOf(key, i), etagOf(key, i)
	return o
}

// etagOf returns 16 bytes in place of the MD5 of a body.
func etagOf(key string, i int) string {
	return `"` + hex.EncodeToString(blobOf(key, i)[100:116]) + `"`
}

// bodyOf returns JSON of about 4 KB, with the ciphertext in the middle.
func bodyOf(key string, i int) []byte {
	return fmt.Appendf(nil, `{"tenant":%q,"before":%q,"secret":%q,"after":%q}`, tenantOf(i), filler,
		base64.StdEncoding.EncodeToString(blobOf(key, i)), filler)
}

var filler = strings.Repeat("nothing to see here ", 90)

// The metadata names under which the S3 Encryption Client stores a wrapped data key and its
// encryption context (docs/formats.md).
const (
	wrappedKey     = "x-amz-key-v2"
	wrappedContext = "x-amz-matdesc"
)

// metadataOf returns the user metadata that the S3 Encryption Client writes.
func metadataOf(key string, i int) map[string]string {
	return map[string]string{
		wrappedKey: base64.StdEncoding.EncodeToString(blobOf(key, i)),
		wrappedContext: fmt.Sprintf(`{"tenant":%q,"purpose":"pii"}`,
			tenantOf(i)),
		"x-amz-iv": base64.StdEncoding.EncodeToString(blobOf(sourceKey,
			i)[200:212]),
		"x-amz-cek-alg":                    "AES/GCM/NoPadding",
		"x-amz-tag-len":                    "128",
		"x-amz-wrap-alg":                   "kms+context",
		"x-amz-unencrypted-content-length": "3584",
	}
}
