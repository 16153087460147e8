// Package kmsblob parses the headers of KMS ciphertext blobs. It is the only package that
// knows their layout.
//
// AWS documents that a blob under a symmetric key starts with a cleartext header, which is
// authenticated and identifies the backing key (AWS KMS cryptographic details, "Working with
// customer data"). It does not document the layout. Results of this package are therefore
// hints: only KMS decides under which key a blob is.
//
// These layouts have been observed. OP is 2 (Encrypt) or 3 (GenerateDataKey). LEN is big
// endian and counts the bytes after it, which start with the tag of a DER SEQUENCE.
//
//	current  01 02 OP 00 78 TOKEN(32) 01 RANDOM(16) LEN(4) DER
//	older    01 01 OP 00 78 TOKEN(32) LEN(4) DER
//	oldest   0a 20 TOKEN(32) 12 VARINT 01 01 01 OP 00 78 TOKEN(32) ...
//
// Sources: awsteele.com/blog/2020/11/29/cursory-kms-research.html, and published blobs:
// the example of API_ReEncrypt, and aws-sdk-ruby issue 1174.
package kmsblob

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
)

// MaxSize is the largest CiphertextBlob that ReEncrypt accepts, in bytes (API_ReEncrypt).
const MaxSize = 6144

// TokenLen is the length of the identifier of the backing key in a header, in bytes.
const TokenLen = 32

// Token identifies the key material of a blob under a symmetric key. It does not contain the
// key ID: compare it with tokens of blobs that KMS decrypted. No blob has the zero Token.
type Token struct {
	layout byte // tokens of different layouts are different
	name   [TokenLen]byte
}

// The layouts, by the byte in which they differ.
const (
	layoutCurrent = 2
	layoutOlder   = 1
	layoutOldest  = 10
)

// Offsets within a header of the current and of the older layout.
const (
	operationAt = 2
	tokenAt     = 5
	randomLen   = 16
	lengthLen   = 4
)

const derSequence = 0x30

// ReadToken returns the token of a complete blob. It returns false for an unknown layout and
// if the length differs from the length in the header.
func ReadToken(blob []byte) (Token, bool) {
	if len(blob) < 2 {
		return Token{}, false
	}
	switch {
	case blob[0] == 1 && blob[1] == layoutCurrent:
		return readHeader(blob, layoutCurrent)
	case blob[0] == 1 && blob[1] == layoutOlder:
		return readHeader(blob, layoutOlder)
	case blob[0] == layoutOldest && blob[1] == TokenLen:
		t, _, ok := readOldest(blob)
		return t, ok
	}
	return Token{}, false
}

// IsBlob reports whether b is a blob under a symmetric key in a known layout, from its first
// to its last byte. Do not use it to reject blobs: layouts can change, and other servers have
// their own layouts.
func IsBlob(b []byte) bool {
	t, ok := ReadToken(b)
	if !ok || len(b) > MaxSize {
		return false
	}
	if t.layout == layoutOldest {
		_, size, _ := readOldest(b)
		return size == len(b)
	}
	return b[lengthAt(t.layout)+lengthLen] == derSequence
}

// lengthAt returns the offset of LEN.
func lengthAt(layout byte) int {
	if layout == layoutCurrent {
		return tokenAt + TokenLen + 1 + randomLen
	}
	return tokenAt + TokenLen
}

// readHeader reads the current and the older layout.
func readHeader(blob []byte, layout byte) (t Token, ok bool) {
	at := lengthAt(layout)
	if len(blob) <= at+lengthLen || !isOperation(blob[operationAt:tokenAt]) {
		return Token{}, false
	}
	if layout == layoutCurrent && blob[tokenAt+TokenLen] != 1 {
		return Token{}, false
	}
	if int(binary.BigEndian.Uint32(blob[at:])) != len(blob)-at-lengthLen {
		return Token{}, false
	}
	return Token{layout, [TokenLen]byte(blob[tokenAt:])}, true
}

// isOperation reports whether b is OP 00 78.
func isOperation(b []byte) bool {
	return (b[0] == 2 || b[0] == 3) && b[1] == 0 && b[2] == 0x78
}

// readOldest reads the layout that contains the token twice. size is the length of the blob
// according to its header; more bytes may follow.
func readOldest(blob []byte) (t Token, size int, ok bool) {
	const at = 2
	if len(blob) <= at+TokenLen || blob[at+TokenLen] != 0x12 {
		return Token{}, 0, false
	}
	name, rest := blob[at:at+TokenLen], blob[at+TokenLen+1:]
	length, used := binary.Uvarint(rest)
	if used <= 0 || length > uint64(len(rest)-used) {
		return Token{}, 0, false
	}
	inner := rest[used:][:length]
	if len(inner) < 6+TokenLen || !bytes.HasPrefix(inner, []byte{1, 1, 1}) ||
		!isOperation(inner[3:6]) || !bytes.Equal(inner[6:6+TokenLen], name) {
		return Token{}, 0, false
	}
	return Token{layoutOldest, [TokenLen]byte(name)}, len(blob) - len(rest) + used +
		int(length), true
}

// HasPrefix reports whether b begins as blobs of the known layouts do. The rest of b may be
// damaged, cut off or of another layout.
func HasPrefix(b []byte) bool {
	current := len(b) >= tokenAt && b[0] == 1 && b[3] == 0 && b[4] == 0x78
	return current || bytes.HasPrefix(b, []byte{layoutOldest, TokenLen})
}

// String returns the layout and the token in hexadecimal, for records.
func (t Token) String() string { return hex.EncodeToString(append([]byte{t.layout}, t.name[:]...)) }
