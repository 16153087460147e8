// Package printable escapes characters that must not be printed, in text that rotator does not
// control: names of items, files and tables, and messages of servers. Such characters could
// control a terminal or a log viewer, or mislead a reader.
//
// The package escapes control characters (C0, DEL and C1), bidirectional and other format
// characters, characters without a glyph (zero-width and other default-ignorable
// characters, variation selectors, tag characters), line and paragraph separators,
// spaces other than U+0020, unassigned code points, and bytes that are not UTF-8. It uses the
// escapes of JSON: \n, \t, \u202e, and a surrogate pair for a character above U+FFFF. A byte
// that is not UTF-8 becomes \xNN. A backslash is not escaped, so that escaping twice is the same
// as escaping once.
//
// There are two layers, and most code needs only the second:
//
//   - NewWriter wraps stdout, stderr and every output file. It escapes everything except
//     newlines and tabs. Its output cannot control a terminal, but a newline in a name can still
//     forge a line.
//   - Fprintf and Sprintf format like package fmt, and escape every argument, including newlines
//     and tabs. Use them to write lines and tables, and Text for a single field.
//
// For JSON, NewWriter is enough: in a JSON string, the escapes stand for the same characters.
// AppendJSON is for code that writes JSON without encoding/json.
package printable

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Text escapes everything in s that must not be printed, including newlines and tabs. It
// returns s itself, without an allocation, if there is nothing to escape.
func Text(s string) string {
	n := cleanPrefix(s, false)
	if n == len(s) {
		return s
	}
	text := append(make([]byte, 0, len(s)+16), s[:n]...)
	return string(appendEscaped(text, s[n:], false))
}

// AppendJSON appends s as a JSON string like encoding/json, and also escapes everything that
// must not be printed. Bytes that are not UTF-8 become U+FFFD.
func AppendJSON(dst []byte, s string) []byte {
	quoted, _ := json.Marshal(s) // never fails for a string
	if cleanPrefix(quoted, false) == len(quoted) {
		return append(dst, quoted...)
	}
	return appendEscaped(dst, quoted, false)
}

// Fprintf is fmt.Fprintf with every argument escaped by Text. The format is not escaped.
func Fprintf(w io.Writer, format string, args ...any) (int, error) {
	return fmt.Fprintf(w, format, escapeAll(args)...)
}

// Sprintf is fmt.Sprintf with every argument escaped by Text.
func Sprintf(format string, args ...any) string {
	return fmt.Sprintf(format, escapeAll(args)...)
}

func escapeAll(args []any) []any {
	escaped := make([]any, len(args))
	for i, arg := range args {
		escaped[i] = argument{arg}
	}
	return escaped
}

// argument formats its value and escapes the result.
type argument struct{ value any }

// Format implements fmt.Formatter.
func (a argument) Format(f fmt.State, verb rune) {
	_, _ = io.WriteString(f, Text(fmt.Sprintf(fmt.FormatString(f, verb), a.value)))
}

// Writer escapes its input, except newlines and tabs. Each Write must contain complete
// characters: a part of a character is escaped as bytes that are not UTF-8.
type Writer struct{ w io.Writer }

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w} }

// Write implements io.Writer. It does not copy input that needs no escaping.
func (w *Writer) Write(p []byte) (int, error) {
	n := cleanPrefix(p, true)
	if n == len(p) {
		return w.w.Write(p)
	}
	text := append(make([]byte, 0, len(p)+len(p)/8+16), p[:n]...)
	if _, err := w.w.Write(appendEscaped(text, p[n:], true)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// cleanPrefix returns the length of the longest prefix of s that needs no escaping.
func cleanPrefix[T string | []byte](s T, lines bool) int {
	for i := 0; i < len(s); {
		if c := s[i]; c >= ' ' && c <= '~' || lines && (c == '\n' || c == '\t') {
			i++
			continue
		} else if c < utf8.RuneSelf {
			return i
		}
		r, size := decode(s[i:])
		if !isPrintable(r, size) {
			return i
		}
		i += size
	}
	return len(s)
}

func appendEscaped[T string | []byte](dst []byte, s T, lines bool) []byte {
	for len(s) > 0 {
		if n := cleanPrefix(s, lines); n > 0 {
			dst, s = append(dst, s[:n]...), s[n:]
			continue
		}
		r, size := decode(s)
		dst = appendEscape(dst, r, size, s[0])
		s = s[size:]
	}
	return dst
}

// decode is utf8.DecodeRune for strings and byte slices.
func decode[T string | []byte](s T) (rune, int) {
	var b [utf8.UTFMax]byte
	return utf8.DecodeRune(b[:copy(b[:], s)])
}

func appendEscape(dst []byte, r rune, size int, first byte) []byte {
	switch {
	case r == utf8.RuneError && size == 1:
		return fmt.Appendf(dst, `\x%02x`, first)
	case r == '\n':
		return append(dst, `\n`...)
	case r == '\r':
		return append(dst, `\r`...)
	case r == '\t':
		return append(dst, `\t`...)
	case r > 0xffff:
		high, low := utf16.EncodeRune(r)
		return fmt.Appendf(dst, `\u%04x\u%04x`, high, low)
	}
	return fmt.Appendf(dst, `\u%04x`, r)
}

// isPrintable reports whether a character is printed without an escape.
func isPrintable(r rune, size int) bool {
	if r == utf8.RuneError && size == 1 || !strconv.IsPrint(r) {
		return false
	}
	return !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) &&
		r != '\u2800' // a braille pattern without dots
}
