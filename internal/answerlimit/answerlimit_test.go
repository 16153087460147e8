package answerlimit

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// TestReader: a text of the maximum length is read completely, with reads of any size. A longer
// text is not.
func TestReader(t *testing.T) {
	text := strings.Repeat("0123456789", 10)
	for name, around := range map[string]func(io.Reader) io.Reader{
		"plain": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader,
		"data with the end": iotest.DataErrReader, "halves": iotest.HalfReader,
	} {
		for limit := range int64(len(text) + 5) {
			r := NewReader(around(strings.NewReader(text)))
			r.Allow("the text", limit)
			got, err := io.ReadAll(r)
			var long *TooLongError
			if limit >= int64(len(text)) {
				if err != nil || string(got) != text {
					t.Errorf("%s, limit %d: %d bytes, %v", name, limit, len(got), err)
				}
			} else if !errors.As(err, &long) || long.Limit != limit || string(got) != text[:limit] {
				t.Errorf("%s, limit %d: %d bytes, %v", name, limit, len(got), err)
			}
		}
	}
}
