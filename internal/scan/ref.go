package scan

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Refs are stored as JSON in the ledger and in the audit log. JSON cannot represent bytes
// that are not UTF-8: a key with such bytes would be read back as a different key. S3 accepts
// only UTF-8 in keys, but servers that expose files through the S3 API accept the names that
// the file system has, and a file name can contain any byte except "/" and NUL. Therefore
// such a key is written as a Go string literal, "a\xff", and so is a key that begins with a
// quotation mark. No two keys have the same Ref.

// KeyRef returns the Ref of an item that is addressed by one key, such as an object or a
// file.
func KeyRef(key string) Ref {
	if utf8.ValidString(key) && !strings.HasPrefix(key, `"`) {
		return Ref(key)
	}
	return Ref(strconv.Quote(key))
}

// Key returns the key of a Ref that KeyRef returned. It returns a *RefusedError for any other
// Ref.
func (r Ref) Key() (key string, err error) {
	key = string(r)
	if strings.HasPrefix(key, `"`) {
		key, err = strconv.Unquote(key)
	}
	if err != nil || KeyRef(key) != r {
		return "", &RefusedError{
			Reason: "key",
			Detail: strconv.Quote(string(r)) + " is not an item key that rotator wrote",
		}
	}
	return key, nil
}
