package ciphertext

import (
	"strings"

	"rotator/internal/scan"
)

// isFolderMarker reports whether an S3 object stands for a folder: the console and many
// tools make an empty one whose key ends in a slash (Amazon S3 User Guide, "Organizing
// objects in the Amazon S3 console by using folders"), and Hadoop one whose key ends in
// _$folder$. Its body holds nothing. Metadata is looked at all the same by the formats
// that keep ciphertexts there.
func isFolderMarker(object *scan.Object) bool {
	return object.Bucket != "" && object.Size == 0 && len(object.Body) == 0 &&
		(strings.HasSuffix(object.Key, "/") || strings.HasSuffix(object.Key, "_$folder$"))
}
