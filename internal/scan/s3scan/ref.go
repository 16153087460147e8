package s3scan

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"rotator/internal/scan"
)

// A scan.Ref goes through JSON, into the ledger and the audit log, and JSON holds
// no bytes that are not UTF-8: they would come back as another key. S3 itself
// takes only UTF-8 in keys, but servers that put files behind its protocol name
// whatever the file system does. So such a key is written as a Go string literal,
// "a\xff", and so is a key that begins with a quote itself: no two keys have one
// Ref.

// refOf is the address of the object with a key.
func refOf(key string) scan.Ref {
	if utf8.ValidString(key) && !strings.HasPrefix(key, `"`) {
		return scan.Ref(key)
	}
	return scan.Ref(strconv.Quote(key))
}

// keyOf reads what refOf wrote.
func keyOf(ref scan.Ref) (string, error) {
	if !strings.HasPrefix(string(ref), `"`) {
		return string(ref), nil
	}
	key, err := strconv.Unquote(string(ref))
	if err != nil || refOf(key) != ref {
		return "", &scan.RefusedError{Reason: "key", Detail: fmt.Sprintf("%s is not how rotator writes the key of an object", ref)}
	}
	return key, nil
}
