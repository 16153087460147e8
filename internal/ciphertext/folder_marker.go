package ciphertext

import (
	"strings"

	"rotator/internal/scan"
)

// isFolderMarker reports whether an S3 object represents a folder. The console
// and many tools create an empty object whose key ends in a slash (Amazon S3
// User Guide, "Organizing objects in the Amazon S3 console by using folders").
// Hadoop creates one whose key ends in _$folder$. Formats with ciphertexts in
// metadata still read the metadata of such an object.
func isFolderMarker(object *scan.Object) bool {
	return object.Bucket != "" && object.Size == 0 && len(object.Body) == 0 &&
		(strings.HasSuffix(object.Key, "/") || strings.HasSuffix(object.Key, "_$folder$"))
}
