package kmsblob

import (
	"bytes"
	"encoding/binary"
)

// Encoding is the encoding of a blob that Search found.
type Encoding string

// The encodings that Search knows.
const (
	Raw       Encoding = "raw bytes"
	Base64    Encoding = "base64"
	Base64URL Encoding = "base64url"
	Hex       Encoding = "hex"
	// SeparatedHex is hex with separators between the bytes, as in 01:02 or 0x01, 0x02.
	SeparatedHex Encoding = "hex with separators"
)

// Hit is one place where Search found the header of a blob.
type Hit struct {
	// Offset and End delimit the encoded blob in the searched data. End is after its last
	// byte, or after the part that could be decoded.
	Offset, End int
	Encoding    Encoding
	Token       Token
	// Blob is the decoded blob, starting with its header. It is valid until the callback
	// returns.
	Blob []byte
	// Whole is false if the blob is shorter than its header states.
	Whole bool
}

// Finder searches data for blobs under symmetric keys, by the header bytes that do not depend
// on the key. It is not safe for concurrent use. The zero value is ready to use, and does not
// allocate until it finds a blob.
type Finder struct {
	data     []byte
	callback func(Hit) bool
	buf      []byte // decoded bytes of a text
	running  bool
}

// Shortest is the minimum length of data in which Search finds a blob: a raw header up to the
// end of its token.
const Shortest = tokenAt + TokenLen

// shortestText is the minimum length of a text, which is in base64, the shortest encoding.
const shortestText = (Shortest*8 + 5) / 6

// Search calls found for each blob in data until found returns false. It finds raw bytes, base64
// and base64url at each of their three alignments, and hex in both cases, also with separators
// between the bytes. Texts may contain line breaks and the escapes of JSON and URLs, and may be
// in UTF-16. Search reports the hits of one encoding and alignment in the order of their offsets.
//
// A blob is a hit if its complete token is in data, and every byte of the header that is in data
// has a value that the layout allows. At least 62 bits are fixed this way, so the probability of
// a false hit in random bytes is below 2^-60 at each offset, and below 2^-34 at the few offsets
// whose header is truncated by the end of the data.
func (f *Finder) Search(data []byte, found func(Hit) bool) {
	if len(data) < Shortest {
		return
	}
	f.data, f.callback, f.running = data, found, true
	f.searchRaw()
	if len(data) >= shortestText {
		f.searchHex()
		f.searchBase64(anchor{first: 'Q', next: [2]byte{'I', 'E'}, zeros: 6})
		f.searchBase64(anchor{first: 'E', next: [2]byte{'C', 'B'}, zeros: 4})
		f.searchBase64(anchor{first: 'B', next: [2]byte{'A', 'A'}, zeros: 2})
	}
	f.data, f.callback = nil, nil
}

// searchRaw looks for 01 LAYOUT OP 00 78. The oldest layout has these bytes too.
func (f *Finder) searchRaw() {
	data := f.data
	last := len(data) - Shortest
	for i := 0; i <= last && f.running; i++ {
		if data[i] != 1 {
			next := bytes.IndexByte(data[i:last+1], 1)
			if next < 0 {
				return
			}
			i += next
		}
		if data[i+4] != 0x78 || !isPrefix(data[i:]) {
			continue
		}
		b, ok := parse(data, i)
		if !ok {
			continue
		}
		end := min(b.start+b.size, len(data))
		f.running = f.callback(Hit{Offset: b.start, End: end, Encoding: Raw, Token: b.token,
			Blob: data[b.start:end], Whole: b.stated && end == b.start+b.size})
		i += tokenAt - 1 // not to the end: a truncated blob may be followed by another blob
	}
}

// isPrefix reports whether b begins with 01 LAYOUT OP 00 78. b must have at least 5 bytes. OP may
// have any small value, although only 2 and 3 have been observed.
func isPrefix(b []byte) bool {
	return b[0] == 1 && (b[1] == layoutCurrent || b[1] == layoutOlder) &&
		b[2] != 0 && b[2] < 16 && b[3] == 0 && b[4] == 0x78
}

// parsed is the position of a blob in a buffer. size is the length in the header. If the header
// is truncated, size is the rest of the buffer, and stated is false.
type parsed struct {
	token       Token
	start, size int
	stated      bool
}

// parse reads the header at data[at:], which may be truncated. isPrefix must be true for it.
func parse(data []byte, at int) (p parsed, ok bool) {
	b := data[at:]
	if len(b) < Shortest {
		return p, false
	}
	layout := b[1]
	if layout == layoutOlder {
		if p, ok := parseOldest(data, at); ok {
			return p, true
		}
	}
	p = parsed{token: Token{layout, [TokenLen]byte(b[tokenAt:])}, start: at, size: len(b)}
	if layout == layoutCurrent && len(b) > Shortest && b[Shortest] != 1 {
		return p, false
	}
	length := lengthAt(layout)
	sealed := length + lengthLen
	if len(b) < sealed { // the first two bytes of a truncated length are zero
		lengthPrefix := b[min(length, len(b)):min(length+2, len(b))]
		return p, len(bytes.Trim(lengthPrefix, "\x00")) == 0
	}
	n := binary.BigEndian.Uint32(b[length:])
	if n == 0 || n > uint32(MaxSize-sealed) || len(b) > sealed && b[sealed] != derSequence {
		return p, false
	}
	p.size, p.stated = sealed+int(n), true
	return p, true
}

// oldestPrefixLen is the maximum number of bytes before 01 LAYOUT OP 00 78 in the oldest layout.
const oldestPrefixLen = 2 + TokenLen + 1 + binary.MaxVarintLen16 + 1

// parseOldest reads a header of the oldest layout, whose inner part starts with 01 at at-1.
func parseOldest(data []byte, at int) (p parsed, ok bool) {
	inner := at - 1
	for varint := 1; varint <= 2; varint++ {
		start := inner - varint - 1 - TokenLen - 2
		if start < 0 || data[inner] != 1 || data[start] != layoutOldest ||
			data[start+1] != TokenLen || data[start+2+TokenLen] != 0x12 {
			continue
		}
		name := data[start+2 : start+2+TokenLen]
		n, used := binary.Uvarint(data[inner-varint : inner])
		if used != varint || n < 6+TokenLen || n > MaxSize ||
			!bytes.Equal(name, data[at+tokenAt:at+Shortest]) {
			continue
		}
		size := inner - start + int(n)
		return parsed{Token{layoutOldest, [TokenLen]byte(name)}, start, size, true}, true
	}
	return p, false
}

// MayHold reports whether b can contain a blob: damaged, of another layout, after other bytes,
// encoded, truncated or compressed. b must not itself be a blob of a known layout.
func MayHold(b []byte) bool {
	if HasPrefix(b) {
		return true
	}
	for _, magic := range []string{
		"\x1f\x8b\x08", "\x28\xb5\x2f\xfd", "BZh", "\xfd7zXZ", "PK\x03\x04", "\x78\x01",
		"\x78\x5e", "\x78\x9c", "\x78\xda", "\x04\x22\x4d\x18", "\xff\xfe", "\xfe\xff",
	} {
		if bytes.HasPrefix(b, []byte(magic)) {
			return true
		}
	}
	hit := false
	(&Finder{}).Search(b, func(Hit) bool {
		hit = true
		return false
	})
	return hit
}
