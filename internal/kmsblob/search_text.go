package kmsblob

import (
	"bytes"
	"encoding/base64"
	"slices"
)

// anchor describes the base64 text of the beginning of a header at one alignment. The search
// looks for the character first, which one of the characters next must follow. The header has
// zeros bits before the anchor, and all of them are zero.
//
// These are the texts of the first five bytes of a header. A ? depends on OP, and a . depends on
// the bytes before and after:
//
//	01 02 OP 00 78:  AQI?AH..  ..ECA?B4  ...BA??Ae...
//	01 01 OP 00 78:  AQE?AH..  ..EBA?B4  ...BAQ?Ae...
//
// The anchors are characters that are rare in binary data and in prose. A is not suitable,
// because zero bytes are runs of A in base64.
type anchor struct {
	first byte
	next  [2]byte
	zeros int
}

// searchBase64 looks for one anchor.
func (f *Finder) searchBase64(a anchor) {
	data := f.data
	last := len(data) - (shortestText - 2)
	for i := 1; i <= last && f.running; i++ {
		if data[i] != a.first {
			next := bytes.IndexByte(data[i:last+1], a.first)
			if next < 0 {
				return
			}
			i += next
		}
		if c := data[i+1]; c != a.next[0] && c != a.next[1] && !isSeparator(c) {
			continue
		}
		f.tryHeader(text{data: data, offset: i, base64: true, bits: a.zeros})
	}
}

// searchHex looks for the digits 78 of 01 LAYOUT OP 00 78, in bytes and in UTF-16.
func (f *Finder) searchHex() {
	const before = 8 // digits
	data := f.data
	for i := before; i < len(data)-2*TokenLen && f.running; i++ {
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
			f.tryHeader(text{data: data, offset: at})
		} else if separator := separatorBefore(data, i); separator != "" {
			f.tryHeader(text{data: data, offset: i - 4*(2+len(separator)), separator: separator})
		}
	}
}

// separatorBefore returns the separator between the bytes of a hex text whose fifth byte begins
// at i, as in 01:02:02:00:78 or 0x01, 0x02. It returns "" if there is no such text.
func separatorBefore(data []byte, i int) string {
	for _, separator := range [...]string{
		" ",
		":",
		"-",
		",",
		", ",
		`\x`,
		`\\x`,
		" 0x",
		",0x",
		", 0x",
	} {
		first, fourth := i-4*(2+len(separator)), i-2-len(separator)
		if first >= 0 && string(data[i-len(separator):i]) == separator &&
			string(data[first:first+2]) == "01" && string(data[fourth:fourth+2]) == "00" {
			return separator
		}
	}
	return ""
}

// tryHeader reports the blob whose header begins at t, if there is one.
func (f *Finder) tryHeader(t text) {
	if !t.precededByZeros() {
		return
	}
	begin := t
	f.buf = t.read(f.buf[:0], tokenAt)
	if len(f.buf) < tokenAt || !isPrefix(f.buf) {
		return
	}
	prefixLen := 0
	if f.buf[1] == layoutOlder {
		f.buf, t = begin.preceding(f.buf[:0]), begin
		prefixLen = len(f.buf)
	}
	f.buf = t.read(f.buf, prefixLen+lengthAt(layoutCurrent)+lengthLen+1)
	b, ok := parse(f.buf, prefixLen)
	if !ok {
		return
	}
	stop := b.start + b.size
	f.buf = t.read(f.buf, stop)
	bits := (prefixLen-b.start)*8 + begin.bits // of the blob, before begin
	h := Hit{Offset: max(0, begin.offset-(bits+t.width()-1)/t.width()), End: t.offset,
		Encoding: t.encoding(), Token: b.token}
	h.Whole = b.stated && stop <= len(f.buf)
	h.Blob = f.buf[b.start:min(stop, len(f.buf))]
	f.running = f.callback(h)
}

// text decodes base64 or hex.
type text struct {
	data      []byte
	offset    int
	base64    bool   // false for hex
	std       bool   // the text has + or /
	url       bool   // the text has - or _
	separator string // for hex: the separator between two bytes
	acc       uint32
	bits      int // the number of low bits of acc that are not yet decoded
}

// read appends decoded bytes to buf until it has n bytes or the text ends.
func (t *text) read(buf []byte, n int) []byte {
	slow := t.offset // before this offset, characters are read one by one
	for len(buf) < n {
		if t.base64 && t.bits == 0 && t.offset >= slow {
			more := t.readRun(buf, n)
			if len(more) > len(buf) {
				buf = more
				continue
			}
			slow = t.offset + runLen
		}
		v, ok := t.next()
		if !ok {
			break
		}
		t.acc, t.bits = t.acc<<t.width()|uint32(v), t.bits+t.width()
		if t.bits >= 8 {
			t.bits -= 8
			buf = append(buf, byte(t.acc>>t.bits))
		}
	}
	return buf
}

// runLen is the number of characters that readRun reads at once.
const runLen = 64

// readRun is a fast read for base64 characters without separators. It decodes complete runs of
// characters only. It must be called at the beginning of a group of four characters.
func (t *text) readRun(buf []byte, n int) []byte {
	size := min(runLen, (n-len(buf))/3*4, (len(t.data)-t.offset)/4*4)
	if size <= 0 {
		return buf
	}
	encoding := base64.RawStdEncoding
	if t.url {
		encoding = base64.RawURLEncoding
	}
	run := t.data[t.offset : t.offset+size]
	free := slices.Grow(buf, size/4*3)
	decoded, err := encoding.Decode(free[len(buf):cap(free)], run)
	if err != nil || decoded != size/4*3 { // Decode skips line breaks
		return buf
	}
	t.offset += size
	return free[:len(buf)+decoded]
}

// width returns the number of bits per character.
func (t *text) width() int {
	if t.base64 {
		return 6
	}
	return 4
}

// maxSeparator is the maximum number of bytes between two characters of a text.
const maxSeparator = 128

// next reads one character. It skips bytes that may separate two characters: line breaks with
// the following indentation, their escapes, and the zero bytes of UTF-16.
func (t *text) next() (v byte, ok bool) {
	if t.separator != "" && t.bits == 0 && bytes.HasPrefix(t.data[t.offset:], []byte(t.separator)) {
		t.offset += len(t.separator)
	}
	line := false
	for end := min(len(t.data), t.offset+maxSeparator); t.offset < end; {
		c := t.data[t.offset]
		n := 1
		if c == '\\' || c == '%' {
			c, n = unescape(t.data[t.offset:])
		}
		if v, ok := t.value(c); ok {
			t.offset += n
			return v, true
		}
		switch {
		case c == '\n' || c == '\r':
			line = true
		case c == 0, line && (c == ' ' || c == '\t'):
		default:
			return 0, false
		}
		t.offset += n
	}
	return 0, false
}

// value returns the bits of a character. All characters of a base64 text belong to the same of
// the two alphabets.
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
	case t.separator != "":
		return SeparatedHex
	case !t.base64:
		return Hex
	case t.url:
		return Base64URL
	}
	return Base64
}

// unescape decodes an escape of JSON or of a URL at the start of b. It returns the character and
// the length of the escape. The character is 0, which next skips, for a backslash that is escaped
// itself, as in JSON within JSON, and for a backslash before a line break. The character is ' '
// if there is no valid escape.
func unescape(b []byte) (c byte, n int) {
	switch {
	case len(b) < 2:
		return ' ', 1
	case b[0] == '%' && len(b) >= 3:
		c, ok := hexByte(b[1:])
		return byteOrSpace(c, ok), 3
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
		return byteOrSpace(c, ok), 6
	}
	return ' ', 1
}

func hexByte(b []byte) (c byte, ok bool) {
	high, ok := hexDigit(b[0])
	low, okLow := hexDigit(b[1])
	return high<<4 | low, ok && okLow
}

func byteOrSpace(c byte, ok bool) byte {
	if !ok {
		return ' '
	}
	return c
}

// isSeparator reports whether c can begin a separator between two characters of a text.
func isSeparator(c byte) bool {
	return c == 0 || c == '\n' || c == '\r' || c == '\\' || c == '%'
}

// precededByZeros reports whether the character before the text can contain the first bits of the
// header, which are zero.
func (t *text) precededByZeros() bool {
	i := t.offset - 1
	if t.bits == 0 {
		return true
	}
	if i >= 1 && t.data[i] == 0 {
		i-- // UTF-16
	}
	switch c := t.data[i]; {
	case isSeparator(c) || c == ' ' || c == '\t':
		return true // a line break within the header
	case (c == 'n' || c == 'r') && i >= 1 && t.data[i-1] == '\\':
		return true
	default:
		v, ok := (&text{base64: true}).value(c)
		return ok && v&(1<<t.bits-1) == 0
	}
}

// preceding decodes the characters before the text and appends the bytes to buf, at most as many
// as the oldest layout has there. It leaves out the bits that t contains already.
func (t *text) preceding(buf []byte) []byte {
	const window = 8 * oldestPrefixLen // with escapes and line breaks
	var units [window]byte
	n := 0
	reader := text{
		data:      t.data[:t.offset],
		offset:    max(0, t.offset-window),
		base64:    t.base64,
		separator: t.separator,
	}
	for reader.offset < t.offset {
		v, ok := reader.next()
		switch {
		case ok:
			units[n] = v
			n++
		case reader.offset < t.offset: // not a character of the encoding
			n, reader.offset = 0, reader.offset+1
		}
	}
	bits := n*t.width() - t.bits
	skip := bits - min(bits/8, oldestPrefixLen)*8
	acc, bitCount := uint32(0), -skip
	for _, v := range units[:n] {
		acc, bitCount = acc<<t.width()|uint32(v), bitCount+t.width()
		if bitCount >= 8 {
			bitCount -= 8
			buf = append(buf, byte(acc>>bitCount))
		}
	}
	return buf
}
