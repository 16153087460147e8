package filescan

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"rotator/internal/scan"
)

// A scan.Ref goes through JSON, which holds no bytes that are not UTF-8, and the
// name of a file holds any byte but "/" and NUL. So a path that is not UTF-8 is
// written as a Go string literal, "a\xff", and so is one that begins with a quote
// itself: no two paths have one Ref. s3scan does the same with keys.

// refOf is the address of the file at a path below the root.
func refOf(path string) scan.Ref {
	if utf8.ValidString(path) && !strings.HasPrefix(path, `"`) {
		return scan.Ref(path)
	}
	return scan.Ref(strconv.Quote(path))
}

// keyOf reads what refOf wrote.
func keyOf(ref scan.Ref) (path string, err error) {
	path = string(ref)
	if strings.HasPrefix(path, `"`) {
		path, err = strconv.Unquote(path)
	}
	if err != nil || refOf(path) != ref {
		return "", &scan.RefusedError{Reason: "key", Detail: fmt.Sprintf("%q is not how rotator writes the path of a file", ref)}
	}
	return path, nil
}
