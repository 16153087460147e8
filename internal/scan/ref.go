package scan

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Ref goes through JSON, into the ledger and the audit log, and JSON holds no
// bytes that are not UTF-8: they would come back as another key. S3 itself takes only
// UTF-8 in keys, but servers that put files behind its protocol name whatever the
// file system does, and the name of a file holds any byte but "/" and NUL. So such a
// key is written as a Go string literal, "a\xff", and so is a key that begins with a
// quote itself: no two keys have one Ref.

// KeyRef is the Ref of the item whose address is one key: an object, a file.
func KeyRef(key string) Ref {
	if utf8.ValidString(key) && !strings.HasPrefix(key, `"`) {
		return Ref(key)
	}
	return Ref(strconv.Quote(key))
}

// Key reads what KeyRef wrote. A *RefusedError says that it did not write this.
func (r Ref) Key() (key string, err error) {
	key = string(r)
	if strings.HasPrefix(key, `"`) {
		key, err = strconv.Unquote(key)
	}
	if err != nil || KeyRef(key) != r {
		return "", &RefusedError{
			Reason: "key",
			Detail: strconv.Quote(string(r)) + " is not how rotator writes the key of an item",
		}
	}
	return key, nil
}
