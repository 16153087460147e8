package ciphertext

import (
	"bytes"
	"encoding/binary"

	"rotator/internal/scan"
)

// newBareBlob takes a body that is nothing but a blob of KMS, or the base64 of one,
// and bears the marks of it. Its contexts are those of the target.
func newBareBlob(c *compiler) Format {
	contexts, pattern := c.given(), c.where.pattern
	return &bodyFormat{name: formatRaw, places: func(object *scan.Object) []place {
		format, ok := bareBlob(object.Body)
		if !ok {
			return nil
		}
		blob, form, refused := decode(format, object.Body)
		slot := Slot{Refused: refused}
		if refused == nil {
			slot.Context, slot.DestinationContext, slot.Refused = contexts.fill(objectLookup(object, pattern, nil))
		}
		if slot.Refused != nil {
			return []place{{Slot: slot}}
		}
		slot.Blob = blob
		p := place{Slot: slot, edits: []edit{{start: 0, end: len(object.Body), text: form}}}
		if format != formatRaw && !bytes.ContainsAny(object.Body, "+/-_") {
			p.edits[0].text, p.unfit = neitherAlphabet(form), &Refused{Reason: "ambiguous", Detail: "it reads the same in base64 and in base64url, and the new ciphertext would not: " + namesBase64}
		}
		return []place{p}
	}}
}

const namesBase64 = "give it a target that names base64 or base64url"

// neitherAlphabet writes a blob only where its text, too, is the same in base64 and
// in base64url.
func neitherAlphabet(form func([]byte) []byte) func([]byte) []byte {
	return func(blob []byte) []byte {
		text := form(blob)
		if bytes.ContainsAny(text, "+/-_") {
			return nil
		}
		return text
	}
}

// recogniseBareBlob is for format auto.
func recogniseBareBlob(object *scan.Object) bool {
	_, ok := bareBlob(object.Body)
	return ok
}

// bareBlob says in which format a body is a blob that can be told by its layout.
func bareBlob(body []byte) (format string, ok bool) {
	if looksLikeBlob(body) {
		return formatRaw, true
	}
	if len(body) > 2*MaxBlob { // longer than the base64 of any blob
		return "", false
	}
	for _, format := range []string{formatBase64, formatBase64URL} {
		if blob, _, ok := decodeText(body, format == formatBase64URL); ok && looksLikeBlob(blob) {
			return format, true
		}
	}
	return "", false
}

// Where what stands in a blob under a symmetric key. KMS documents no more than
// that a cleartext header names the backing key (AWS KMS cryptographic details);
// these are the layouts of published blobs: the one of today, the one before, whose
// header has no random part, and the first, a protocol buffer that names the
// backing key twice.
const (
	blobTokenAt  = 5
	blobTokenLen = 32
	blobRandom   = 1 + 16
)

// looksLikeBlob says that b has, from its first byte to its last, the layout of a
// blob under a symmetric key. It is used to recognise a blob, never to refuse one:
// layouts can change, and servers other than AWS have their own.
func looksLikeBlob(b []byte) bool {
	if len(b) > MaxBlob || len(b) < blobTokenAt+blobTokenLen+4 {
		return false
	}
	if b[0] == 0x0a && b[1] == blobTokenLen {
		return looksLikeFirstBlob(b)
	}
	at := blobTokenAt + blobTokenLen
	switch {
	case b[0] != 1 || b[3] != 0 || b[4] != 0x78 || b[2] != 2 && b[2] != 3:
		return false
	case b[1] == 2:
		at += blobRandom
	case b[1] != 1:
		return false
	}
	if len(b) < at+4+1 {
		return false
	}
	length, sealed := binary.BigEndian.Uint32(b[at:]), b[at+4:]
	return uint64(length) == uint64(len(sealed)) && sealed[0] == 0x30
}

// looksLikeFirstBlob is for the first layout: field 1 holds the name of the backing
// key, field 2 the rest, which begins with the header that later stood alone.
func looksLikeFirstBlob(b []byte) bool {
	name, rest := b[2:2+blobTokenLen], b[2+blobTokenLen:]
	if len(rest) < 2 || rest[0] != 0x12 {
		return false
	}
	length, n := binary.Uvarint(rest[1:])
	if n <= 0 || length != uint64(len(rest)-1-n) {
		return false
	}
	inner := rest[1+n:]
	const nameAt = 6
	return len(inner) >= nameAt+blobTokenLen && inner[0] == 1 && inner[4] == 0 && inner[5] == 0x78 &&
		bytes.Equal(inner[nameAt:nameAt+blobTokenLen], name)
}
