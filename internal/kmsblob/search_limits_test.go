package kmsblob

import (
	"bytes"
	"compress/gzip"
	"encoding/ascii85"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// reversed returns the bytes in the opposite order.
func reversed(b []byte) []byte {
	b = bytes.Clone(b)
	slices.Reverse(b)
	return b
}

// unrecognised returns a blob in encodings that the search does not recognise, by their names in
// the documentation.
func unrecognised(t *testing.T, blob []byte) map[string][]byte {
	t.Helper()
	var compressed, numbers, escapes bytes.Buffer
	w := gzip.NewWriter(&compressed)
	once := base64.StdEncoding.EncodeToString(blob) // gzip stores random bytes as they are
	if _, err := w.Write([]byte(once)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, b := range blob {
		fmt.Fprintf(&numbers, "%d,", b)
		fmt.Fprintf(&escapes, `\u%04x`, b)
	}
	text85 := make([]byte, ascii85.MaxEncodedLen(len(blob)))
	text85 = text85[:ascii85.Encode(text85, blob)]
	return map[string][]byte{
		"base32":              []byte(base32.StdEncoding.EncodeToString(blob)),
		"base85":              text85,
		"reversed":            reversed(blob),
		"compressed":          compressed.Bytes(),
		"base64 twice":        []byte(base64.StdEncoding.EncodeToString([]byte(once))),
		"array of numbers":    numbers.Bytes(),
		"one escape per byte": escapes.Bytes(),
	}
}

// TestUnrecognisedEncodings: the documentation names the encodings that the search does not
// recognise. A blob in one of them counts as a value without a header.
func TestUnrecognisedEncodings(t *testing.T) {
	t.Parallel()
	docs, err := os.ReadFile(filepath.Join("..", "..", "docs", "job-file.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(docs), "## Ciphertexts that no slot names")
	section, _, _ = strings.Cut(section, "\n## ")
	section = strings.Join(strings.Fields(section), " ")
	for layout, blob := range blobs(11) {
		for name, data := range unrecognised(t, blob) {
			if found := hits(t, data); len(found) > 0 {
				t.Errorf("%s, %s: %+v is found", layout, name, found)
			}
			if word := strings.Join(strings.Fields(name), " "); !strings.Contains(section, word) {
				t.Errorf("docs/job-file.md does not name %q", word)
			}
		}
	}
}
