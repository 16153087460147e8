package redact

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// text is a text with its escapes decoded. It records which bytes must be removed.
type text struct {
	source string
	bytes  []byte
	// begin and end are the offsets of each byte in source.
	begin, end []int
	secret     []bool // for each byte
}

// decode decodes the escapes of s.
func decode(s string) *text {
	t := &text{source: s}
	for i := 0; i < len(s); {
		decoded, n := unescape(s[i:])
		if n == 0 {
			decoded, n = s[i:i+1], 1
		}
		for j := range len(decoded) {
			t.bytes = append(t.bytes, decoded[j])
			t.begin, t.end = append(t.begin, i), append(t.end, i+n)
		}
		i += n
	}
	return t
}

// mark marks the bytes from begin to end for removal.
func (t *text) mark(begin, end int) {
	if begin < 0 || begin == end {
		return
	}
	if t.secret == nil {
		t.secret = make([]bool, len(t.bytes))
	}
	for i := begin; i < end; i++ {
		t.secret[i] = true
	}
}

// redacted returns the source without the marked bytes.
func (t *text) redacted() string {
	if t.secret == nil {
		return t.source
	}
	var out strings.Builder
	from := 0
	for i := 0; i < len(t.secret); i++ {
		if !t.secret[i] {
			continue
		}
		j := i
		for j < len(t.secret) && t.secret[j] {
			j++
		}
		if begin := t.begin[i]; begin >= from {
			out.WriteString(t.source[from:begin] + Mark)
		}
		from, i = t.end[j-1], j
	}
	out.WriteString(t.source[from:])
	return out.String()
}

// unescape decodes the escape at the start of s and returns its length n, or 0 if there is none.
func unescape(s string) (decoded string, n int) {
	switch s[0] {
	case '\\':
		return unescapeBackslash(s)
	case '%':
		hex := strings.TrimPrefix(s[1:], "25") // escaped twice
		if b, ok := number(hex, 2, 16); ok {
			return string([]byte{byte(b)}), len(s) - len(hex) + 2
		}
		if b, ok := number(s[1:], 2, 16); ok {
			return string([]byte{byte(b)}), 3
		}
	case '&':
		return unescapeReference(s)
	}
	return "", 0
}

// unescapeBackslash decodes an escape of Go or JSON. An escape has several backslashes if the
// text was escaped several times.
func unescapeBackslash(s string) (decoded string, n int) {
	rest := strings.TrimLeft(s, `\`)
	if rest == "" {
		return `\`, len(s)
	}
	n = len(s) - len(rest) + 1
	switch c := rest[0]; c {
	case 'x', 'u', 'U':
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
		if r, ok := number(rest[1:], digits, 16); ok {
			return character(r), n + digits
		}
	case 'n', 'r', 't', 'a', 'b', 'f', 'v':
		control := map[byte]string{
			'n': "\n", 'r': "\r", 't': "\t", 'a': "\a", 'b': "\b", 'f': "\f", 'v': "\v",
		}
		return control[c], n
	case '"', '\'', '/':
		return rest[:1], n
	}
	if b, ok := number(rest, 3, 8); ok && b < 256 {
		return string([]byte{byte(b)}), n + 2
	}
	return `\`, n - 1
}

// unescapeReference decodes a character reference of XML.
func unescapeReference(s string) (decoded string, n int) {
	end := strings.IndexByte(s[:min(len(s), 10)], ';')
	if end < 0 {
		return "", 0
	}
	name := s[1:end]
	names := map[string]string{"amp": "&", "quot": `"`, "apos": "'", "lt": "<", "gt": ">"}
	if c, ok := names[name]; ok {
		return c, end + 1
	}
	if !strings.HasPrefix(name, "#") {
		return "", 0
	}
	digits, base := name[1:], 10
	if strings.HasPrefix(digits, "x") || strings.HasPrefix(digits, "X") {
		digits, base = digits[1:], 16
	}
	if r, ok := number(digits, len(digits), base); ok {
		return character(r), end + 1
	}
	return "", 0
}

// character returns the text of an escaped code point: one byte if it is below U+0100, because
// some programs write bytes that way in JSON, otherwise the character.
func character(r uint64) string {
	if r < 0x100 {
		return string([]byte{byte(r)})
	}
	return string(rune(min(r, utf8.MaxRune+1))) // U+FFFD if it is not a code point
}

// number reads the digits at the start of s.
func number(s string, digits, base int) (uint64, bool) {
	if digits < 1 || len(s) < digits || slices.Contains([]byte("+-_"), s[0]) {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:digits], base, 32)
	return n, err == nil
}
