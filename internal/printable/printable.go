// Package printable makes text from outside safe to show: names of items, files and
// tables, messages of servers, everything that a terminal, a log viewer or a reader
// could take for something else than text.
//
// Escaped are control characters (C0, DEL and C1), bidirectional and other format
// characters, characters without a glyph (zero-width and other default-ignorable
// characters, variation selectors, tag characters), line and paragraph separators,
// spaces other than U+0020, code points that no character has, and bytes that are not
// UTF-8. The escapes are those of JSON (\n, \t, \u202e, and two of them for a character
// above U+FFFF); a byte that is not UTF-8 becomes \xNN. A backslash stays as it is, so that
// escaping twice is the same as escaping once.
//
// There are two layers, and most code needs only the second:
//
//   - NewWriter stands before stdout, stderr and every file for people or programs. It
//     escapes everything but newlines and tabs. What passes through it is harmless, but a
//     newline in a name can still forge a line.
//   - Fprintf and Sprintf are those of fmt with every argument escaped, newlines and tabs
//     too. Use them to write lines and tables, and Text for a single field.
//
// JSON needs nothing but NewWriter: inside a string of valid JSON the escapes mean the
// same character. AppendJSON is for code that writes JSON by hand.
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

// Text escapes everything in s that must not be printed, newlines and tabs included. It
// returns s itself, without an allocation, if there is nothing to escape.
func Text(s string) string {
	n := clean(s, false)
	if n == len(s) {
		return s
	}
	text := append(make([]byte, 0, len(s)+16), s[:n]...)
	return string(appendEscaped(text, s[n:], false))
}

// AppendJSON appends s as a JSON string, as encoding/json writes it, with everything
// escaped that must not be printed. Bytes that are not UTF-8 become U+FFFD.
func AppendJSON(dst []byte, s string) []byte {
	quoted, _ := json.Marshal(s) // which cannot fail for a string
	if clean(quoted, false) == len(quoted) {
		return append(dst, quoted...)
	}
	return appendEscaped(dst, quoted, false)
}

// Fprintf is fmt.Fprintf with every argument escaped as Text does it. The format is
// written as it is.
func Fprintf(w io.Writer, format string, args ...any) (int, error) {
	return fmt.Fprintf(w, format, escapeAll(args)...)
}

// Sprintf is fmt.Sprintf with every argument escaped as Text does it.
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

// argument formats like its value, escaped.
type argument struct{ value any }

// Format implements fmt.Formatter.
func (a argument) Format(f fmt.State, verb rune) {
	_, _ = io.WriteString(f, Text(fmt.Sprintf(fmt.FormatString(f, verb), a.value)))
}

// Writer escapes what is written to it, except newlines and tabs. Each Write must hold
// whole characters: half of one is escaped as bytes that are not UTF-8.
type Writer struct{ w io.Writer }

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w} }

// Write implements io.Writer. What needs no escaping is passed on without a copy.
func (w *Writer) Write(p []byte) (int, error) {
	n := clean(p, true)
	if n == len(p) {
		return w.w.Write(p)
	}
	text := append(make([]byte, 0, len(p)+len(p)/8+16), p[:n]...)
	if _, err := w.w.Write(appendEscaped(text, p[n:], true)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// clean returns the length of the longest prefix of s that needs no escaping.
func clean[T string | []byte](s T, lines bool) int {
	for i := 0; i < len(s); {
		if c := s[i]; c >= ' ' && c <= '~' || lines && (c == '\n' || c == '\t') {
			i++
			continue
		} else if c < utf8.RuneSelf {
			return i
		}
		r, size := decode(s[i:])
		if !shown(r, size) {
			return i
		}
		i += size
	}
	return len(s)
}

func appendEscaped[T string | []byte](dst []byte, s T, lines bool) []byte {
	for len(s) > 0 {
		if n := clean(s, lines); n > 0 {
			dst, s = append(dst, s[:n]...), s[n:]
			continue
		}
		r, size := decode(s)
		dst = appendEscape(dst, r, size, s[0])
		s = s[size:]
	}
	return dst
}

// decode is utf8.DecodeRune of the first character.
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

// shown reports whether a character is printed as it is.
func shown(r rune, size int) bool {
	if r == utf8.RuneError && size == 1 || !strconv.IsPrint(r) {
		return false
	}
	return !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) &&
		r != '\u2800' // a braille pattern without dots
}
