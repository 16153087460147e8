package kmsblob

import "encoding/asn1"

// sm2Digest is the length of an SM3 digest. sm2Coordinate is the maximum length of a
// coordinate of a point on the curve, including the zero byte that keeps an INTEGER positive.
const (
	sm2Digest     = 32
	sm2Coordinate = 33
	sequence      = 0x30 // the first byte of a SEQUENCE in DER
)

// IsSM2 reports whether b has the layout of a ciphertext under an SM2 key.
func IsSM2(b []byte) bool {
	_, ok := SM2Plaintext(b)
	return ok
}

// SM2Plaintext returns the length of the plaintext of a ciphertext under an SM2 key, which
// follows from its layout. It returns false for other bytes.
//
// KMS accepts and returns these ciphertexts in ASN.1 DER, as SM2Cipher of GM/T 0009-2012
// (developer guide, "Offline operations with SM2 key pairs"):
//
//	SEQUENCE { x INTEGER, y INTEGER, digest OCTET STRING (32), text OCTET STRING }
//
// The text has the length of the plaintext. Nothing in it names the key.
func SM2Plaintext(b []byte) (int, bool) {
	if len(b) == 0 || b[0] != sequence { // asn1 would allocate an error for each blob of KMS
		return 0, false
	}
	var parts struct{ X, Y, Digest, Text asn1.RawValue }
	if rest, err := asn1.Unmarshal(b, &parts); err != nil || len(rest) > 0 {
		return 0, false
	}
	is := func(v asn1.RawValue, tag int) bool {
		return v.Class == asn1.ClassUniversal && v.Tag == tag && !v.IsCompound && len(v.Bytes) > 0
	}
	ok := is(parts.X, asn1.TagInteger) && len(parts.X.Bytes) <= sm2Coordinate &&
		is(parts.Y, asn1.TagInteger) && len(parts.Y.Bytes) <= sm2Coordinate &&
		is(parts.Digest, asn1.TagOctetString) && len(parts.Digest.Bytes) == sm2Digest &&
		is(parts.Text, asn1.TagOctetString)
	return len(parts.Text.Bytes), ok
}
