package rotate

import (
	"bytes"
	"encoding/binary"
)

// token is what the header of a blob under a symmetric key says of the key that made
// it. KMS documents that there is a cleartext header which names the backing key and
// is authenticated (AWS KMS cryptographic details, "Working with customer data"), and
// nothing of its layout: so a token is only ever compared with those of blobs that
// KMS has decrypted, and a blob of any other layout has none.
type token struct {
	layout byte // tokens of different layouts are different
	name   [tokenLen]byte
}

const tokenLen = 32

// The layouts that have been seen. TOKEN is 32 bytes, OP 2 (Encrypt) or 3
// (GenerateDataKey), and LEN, big endian, counts the bytes behind it.
//
//	current  01 02 OP 00 78 TOKEN 01 RANDOM(16) LEN(4) ...
//	older    01 01 OP 00 78 TOKEN LEN(4) ...
//	oldest   0a 20 TOKEN 12 VARINT 01 01 01 OP 00 78 TOKEN ...
//
// Sources: awsteele.com/blog/2020/11/29/cursory-kms-research.html, and blobs that have
// been published: the example of API_ReEncrypt, and aws-sdk-ruby issue 1174.
const (
	layoutCurrent = 2
	layoutOlder   = 1
	layoutOldest  = 10
)

// readToken is false for a blob of unknown layout.
func readToken(blob []byte) (token, bool) {
	if len(blob) < 2 {
		return token{}, false
	}
	switch {
	case blob[0] == 1 && blob[1] == layoutCurrent:
		return readHeader(blob, layoutCurrent, []byte{1}, 16)
	case blob[0] == 1 && blob[1] == layoutOlder:
		return readHeader(blob, layoutOlder, nil, 0)
	case blob[0] == layoutOldest && blob[1] == tokenLen:
		return readOldest(blob)
	}
	return token{}, false
}

// readHeader reads the two layouts that begin alike. Behind the token come the bytes of
// mark, so many random ones, and the length of the rest.
func readHeader(blob []byte, layout byte, mark []byte, random int) (t token, ok bool) {
	const at = 5
	rest := at + tokenLen + len(mark) + random + 4
	if len(blob) <= rest || !operation(blob[2:at]) || !bytes.HasPrefix(blob[at+tokenLen:], mark) ||
		int(binary.BigEndian.Uint32(blob[rest-4:])) != len(blob)-rest {
		return token{}, false
	}
	return token{layout, [tokenLen]byte(blob[at:])}, true
}

// operation says whether b is OP 00 78.
func operation(b []byte) bool {
	return (b[0] == 2 || b[0] == 3) && b[1] == 0 && b[2] == 0x78
}

// readOldest reads the layout that has the token twice.
func readOldest(blob []byte) (t token, ok bool) {
	const at = 2
	if len(blob) <= at+tokenLen || blob[at+tokenLen] != 0x12 {
		return token{}, false
	}
	name, rest := blob[at:at+tokenLen], blob[at+tokenLen+1:]
	length, used := binary.Uvarint(rest)
	if used <= 0 || length > uint64(len(rest)-used) {
		return token{}, false
	}
	inner := rest[used:][:length]
	if len(inner) < 6+tokenLen || !bytes.HasPrefix(inner, []byte{1, 1, 1}) || !operation(inner[3:6]) || !bytes.Equal(inner[6:6+tokenLen], name) {
		return token{}, false
	}
	return token{layoutOldest, [tokenLen]byte(name)}, true
}
