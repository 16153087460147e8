package kmsblob

import (
	"bytes"
	"encoding/base64"
	"slices"
)

// anchor is how base64 writes the beginning of a header at one alignment: the character
// to look for, those of which one comes next, and how many bits of the header, all zero,
// stand in front of them. The text of the five bytes is, with ? for one that depends on
// OP and . for one that depends on what is around,
//
//	01 02 OP 00 78:  AQI?AH..  ..ECA?B4  ...BA??Ae...
//	01 01 OP 00 78:  AQE?AH..  ..EBA?B4  ...BAQ?Ae...
//
// The anchors are characters that are rare in binaries and in prose. A is not one of
// them: base64 makes runs of it where there are zeros.
type anchor struct {
	char  byte
	next  [2]byte
	zeros int
}

// searchBase64 looks for one anchor.
func (f *Finder) searchBase64(a anchor) {
	data := f.data
	last := len(data) - (shortestText - 2)
	for i := 1; i <= last && f.more; i++ {
		if data[i] != a.char {
			next := bytes.IndexByte(data[i:last+1], a.char)
			if next < 0 {
				return
			}
			i += next
		}
		if c := data[i+1]; c != a.next[0] && c != a.next[1] && !isBetween(c) {
			continue
		}
		f.try(text{data: data, at: i, base64: true, have: a.zeros})
	}
}

// searchHex looks for the digits 78 of 01 LAYOUT OP 00 78, in bytes and in UTF-16.
func (f *Finder) searchHex() {
	const before = 8 // digits
	data := f.data
	for i := before; i < len(data)-2*TokenLen && f.more; i++ {
		if data[i] != '7' {
			next := bytes.IndexByte(data[i:len(data)-2*TokenLen], '7')
			if next < 0 {
				return
			}
			i += next
		}
		width := 1
		if data[i+1] == 0 {
			width = 2
		}
		at := i - before*width
		if data[i+width] != '8' {
			continue
		}
		if data[i-width] == '0' && at >= 0 && data[at] == '0' {
			f.try(text{data: data, at: at})
		} else if gap := gapBefore(data, i); gap != "" {
			f.try(text{data: data, at: i - 4*(2+len(gap)), gap: gap})
		}
	}
}

// gapBefore returns what separates the bytes of a text in hex whose fifth byte begins at i,
// as in 01:02:02:00:78 or 0x01, 0x02; "" if this is no such text.
func gapBefore(data []byte, i int) string {
	for _, gap := range [...]string{" ", ":", "-", ",", ", ", `\x`, `\\x`, " 0x", ",0x", ", 0x"} {
		first, fourth := i-4*(2+len(gap)), i-2-len(gap)
		if first >= 0 && string(data[i-len(gap):i]) == gap &&
			string(data[first:first+2]) == "01" && string(data[fourth:fourth+2]) == "00" {
			return gap
		}
	}
	return ""
}

// try reports the blob whose header begins at t, if there is one.
func (f *Finder) try(t text) {
	if !t.follows() {
		return
	}
	begin := t
	f.buf = t.read(f.buf[:0], tokenAt)
	if len(f.buf) < tokenAt || !isPrefix(f.buf) {
		return
	}
	front := 0
	if f.buf[1] == layoutOlder {
		f.buf, t = begin.before(f.buf[:0]), begin
		front = len(f.buf)
	}
	f.buf = t.read(f.buf, front+lengthAt(layoutCurrent)+lengthLen+1)
	b, ok := parse(f.buf, front)
	if !ok {
		return
	}
	stop := b.start + b.size
	f.buf = t.read(f.buf, stop)
	bits := (front-b.start)*8 + begin.have // of the blob, in front of begin
	h := Hit{Offset: max(0, begin.at-(bits+t.width()-1)/t.width()), End: t.at,
		Encoding: t.encoding(), Token: b.token}
	h.Whole = b.stated && stop <= len(f.buf)
	h.Blob = f.buf[b.start:min(stop, len(f.buf))]
	f.more = f.found(h)
}

// text decodes base64 or hex.
type text struct {
	data   []byte
	at     int
	base64 bool   // false for hex
	std    bool   // the text has + or /
	url    bool   // the text has - or _
	gap    string // for hex: the separator between two bytes
	acc    uint32
	have   int // how many of the low bits of acc are not yet in a byte
}

// read appends decoded bytes to buf until it has n bytes or the text ends.
func (t *text) read(buf []byte, n int) []byte {
	slow := t.at // before this offset, characters are read one by one
	for len(buf) < n {
		if t.base64 && t.have == 0 && t.at >= slow {
			more := t.readRun(buf, n)
			if len(more) > len(buf) {
				buf = more
				continue
			}
			slow = t.at + runLen
		}
		v, ok := t.next()
		if !ok {
			break
		}
		t.acc, t.have = t.acc<<t.width()|uint32(v), t.have+t.width()
		if t.have >= 8 {
			t.have -= 8
			buf = append(buf, byte(t.acc>>t.have))
		}
	}
	return buf
}

// runLen is the number of characters that readRun reads at once.
const runLen = 64

// readRun is read for characters of base64 with nothing between them, as far as these go
// in whole runs. It begins where a group of four characters does.
func (t *text) readRun(buf []byte, n int) []byte {
	size := min(runLen, (n-len(buf))/3*4, (len(t.data)-t.at)/4*4)
	if size <= 0 {
		return buf
	}
	encoding := base64.RawStdEncoding
	if t.url {
		encoding = base64.RawURLEncoding
	}
	run := t.data[t.at : t.at+size]
	free := slices.Grow(buf, size/4*3)
	decoded, err := encoding.Decode(free[len(buf):cap(free)], run)
	if err != nil || decoded != size/4*3 { // it skips line breaks
		return buf
	}
	t.at += size
	return free[:len(buf)+decoded]
}

// width returns the number of bits per character.
func (t *text) width() int {
	if t.base64 {
		return 6
	}
	return 4
}

// maxBetween is the maximum number of bytes between two characters of a text.
const maxBetween = 128

// next reads one character. It skips bytes that may separate two characters: line breaks with
// the following indentation, their escapes, and the zero bytes of UTF-16.
func (t *text) next() (v byte, ok bool) {
	if t.gap != "" && t.have == 0 && bytes.HasPrefix(t.data[t.at:], []byte(t.gap)) {
		t.at += len(t.gap)
	}
	line := false
	for end := min(len(t.data), t.at+maxBetween); t.at < end; {
		c := t.data[t.at]
		n := 1
		if c == '\\' || c == '%' {
			c, n = unescape(t.data[t.at:])
		}
		if v, ok := t.value(c); ok {
			t.at += n
			return v, true
		}
		switch {
		case c == '\n' || c == '\r':
			line = true
		case c == 0, line && (c == ' ' || c == '\t'):
		default:
			return 0, false
		}
		t.at += n
	}
	return 0, false
}

// value returns the bits of a character. A text is in one of the two alphabets of base64.
func (t *text) value(c byte) (v byte, ok bool) {
	if !t.base64 {
		return hexDigit(c)
	}
	switch {
	case c >= 'A' && c <= 'Z':
		return c - 'A', true
	case c >= 'a' && c <= 'z':
		return c - 'a' + 26, true
	case c >= '0' && c <= '9':
		return c - '0' + 52, true
	case (c == '+' || c == '/') && !t.url:
		t.std = true
		return 62 + (c-'+')/4, true
	case (c == '-' || c == '_') && !t.std:
		t.url = true
		return 62 + (c-'-')/50, true
	}
	return 0, false
}

func hexDigit(c byte) (v byte, ok bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

func (t *text) encoding() Encoding {
	switch {
	case t.gap != "":
		return SeparatedHex
	case !t.base64:
		return Hex
	case t.url:
		return Base64URL
	}
	return Base64
}

// unescape reads an escape of JSON or of a URL: the character it stands for, and how
// long it is. A backslash that is escaped itself, as in JSON within JSON, counts as zero
// bytes do: it stands between characters. So does one in front of a line break. The
// character is ' ' where there is no such escape.
func unescape(b []byte) (c byte, n int) {
	switch {
	case len(b) < 2:
		return ' ', 1
	case b[0] == '%' && len(b) >= 3:
		c, ok := hexByte(b[1:])
		return orSpace(c, ok), 3
	case b[0] == '%':
		return ' ', 1
	}
	switch b[1] {
	case '\\', '\n', '\r', 0:
		return 0, 1
	case '/':
		return '/', 2
	case 'n', 'r', 't':
		return '\n', 2
	case 'u':
		if len(b) < 6 || b[2] != '0' || b[3] != '0' {
			return ' ', 1
		}
		c, ok := hexByte(b[4:])
		return orSpace(c, ok), 6
	}
	return ' ', 1
}

func hexByte(b []byte) (c byte, ok bool) {
	high, ok := hexDigit(b[0])
	low, also := hexDigit(b[1])
	return high<<4 | low, ok && also
}

func orSpace(c byte, ok bool) byte {
	if !ok {
		return ' '
	}
	return c
}

// isBetween reports whether c may begin a separator of two characters of a text.
func isBetween(c byte) bool {
	return c == 0 || c == '\n' || c == '\r' || c == '\\' || c == '%'
}

// follows reports whether what stands in front of the text can have the first bits of
// the header, which are zero.
func (t *text) follows() bool {
	i := t.at - 1
	if t.have == 0 {
		return true
	}
	if i >= 1 && t.data[i] == 0 {
		i-- // UTF-16
	}
	switch c := t.data[i]; {
	case isBetween(c) || c == ' ' || c == '\t':
		return true // a line ends within the header
	case (c == 'n' || c == 'r') && i >= 1 && t.data[i-1] == '\\':
		return true
	default:
		v, ok := (&text{base64: true}).value(c)
		return ok && v&(1<<t.have-1) == 0
	}
}

// before decodes what stands in front of the text, as much as the oldest layout has
// there, and appends it to buf. The bits that t has already are not part of it.
func (t *text) before(buf []byte) []byte {
	const window = 8 * oldestFront // with escapes and line breaks
	var units [window]byte
	n := 0
	reader := text{data: t.data[:t.at], at: max(0, t.at-window), base64: t.base64, gap: t.gap}
	for reader.at < t.at {
		v, ok := reader.next()
		switch {
		case ok:
			units[n] = v
			n++
		case reader.at < t.at: // no character of the text
			n, reader.at = 0, reader.at+1
		}
	}
	bits := n*t.width() - t.have
	skip := bits - min(bits/8, oldestFront)*8
	acc, have := uint32(0), -skip
	for _, v := range units[:n] {
		acc, have = acc<<t.width()|uint32(v), have+t.width()
		if have >= 8 {
			have -= 8
			buf = append(buf, byte(acc>>have))
		}
	}
	return buf
}
