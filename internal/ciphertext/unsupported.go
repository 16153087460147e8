package ciphertext

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"rotator/internal/kmsblob"
	"rotator/internal/scan"
)

// unsupportedSites refuses an object that has the marks of a format that cannot be moved.
// Format auto calls it for objects that no format recognises.
func unsupportedSites(object *scan.Object) []editSite {
	switch {
	case isESDKMessage(object.Body):
		return []editSite{refusedSite("", esdkMessage())}
	case isParquetKeyMaterial(object):
		return []editSite{refusedSitef("", "parquet-key-material", "the object belongs to Parquet "+
			"modular encryption, whose wrapped keys have a format that is defined by the user's "+
			"KmsClient; rotate them with the key tools of Parquet (KeyToolkit.rotateMasterKeys)")}
	case !beginsWithFramedBlob(object.Body):
	case strings.HasSuffix(object.Key, sneakerSuffix):
		return []editSite{refusedSitef("", "sneaker", "the object is a secret of sneaker, which "+
			"authenticates the payload with the ARN of the key: upload the secret again, or use "+
			"sneaker rotate")}
	default:
		return []editSite{refusedSitef("", "ambiguous", "the object starts with the length of a "+
			"KMS ciphertext and the ciphertext, like objects of Tink and sneaker, which cannot be "+
			"distinguished; add a target with format tink-envelope or a length-prefixed format")}
	}
	if refused := markedBody(object); refused != nil {
		return []editSite{refusedSite("", refused)}
	}
	if object.ServerSideKMS {
		return []editSite{refusedSitef("", "sse-kms-only", "the object is encrypted only by S3 "+
			"itself (SSE-KMS), which does not expose the ciphertext of its data key: change "+
			"its key "+
			"with UpdateObjectEncryption, or copy the object onto itself")}
	}
	return nil
}

// esdkMessage refuses a message of the AWS Encryption SDK.
func esdkMessage() *Refused {
	return refuse("esdk-message",
		"the value is a message of the AWS Encryption SDK, whose header, "+
			"including the wrapped keys, is authenticated with the data key: decrypt it and "+
			"encrypt it "+
			"again with the SDK")
}

// isParquetKeyMaterial reports whether an object is the external key material of a Parquet
// file, or a Parquet file with an encrypted footer (parquet-hadoop, crypto/keytools/
// KeyMaterial.java and HadoopFSKeyMaterialStore.java of github.com/apache/parquet-java;
// Encryption.md of github.com/apache/parquet-format). The values of wrappedDEK and
// wrappedKEK are results of KmsClient.wrapKey of a class of the user.
func isParquetKeyMaterial(object *scan.Object) bool {
	name := object.Key[strings.LastIndexByte(object.Key, '/')+1:]
	if strings.Contains(name, "_KEY_MATERIAL_FOR_") && strings.HasSuffix(name, ".json") &&
		has(object.Body, "keyMaterialType", "PKMT1") {
		return true
	}
	magic := []byte("PARE")
	return len(object.Body) > 2*len(magic) && bytes.HasPrefix(object.Body, magic) &&
		bytes.HasSuffix(object.Body, magic)
}

// sneakerSuffix is the suffix of the keys of sneaker's secrets (upload.go of
// github.com/codahale/sneaker).
const sneakerSuffix = ".aes"

// beginsWithFramedBlob reports whether a body consists of the length of a blob (32 bits, big
// endian), the blob, and more bytes (envelope.go of github.com/codahale/sneaker;
// aead/kms_envelope_aead.go of github.com/tink-crypto/tink-go).
func beginsWithFramedBlob(body []byte) bool {
	if len(body) < 4 {
		return false
	}
	length, rest := binary.BigEndian.Uint32(body), body[4:]
	return uint64(length) < uint64(len(rest)) && kmsblob.IsBlob(rest[:length])
}

// isESDKMessage reports whether a body is a message of the AWS Encryption SDK with a data
// key that KMS wrapped, or the base64 of one. It reads the header up to the provider of the
// first wrapped key (data-format/message-header.md of
// github.com/awslabs/aws-encryption-sdk-specification).
func isESDKMessage(body []byte) bool {
	if isESDKHeader(body) {
		return true
	}
	// The base64 of a message starts with its version. Only the first bytes are examined,
	// which contain the provider.
	text := strings.TrimLeft(string(body[:min(len(body), maxESDKText)]), " \t\r\n")
	if !strings.HasPrefix(text, "AY") && !strings.HasPrefix(text, "Ag") {
		return false
	}
	text = strings.NewReplacer("\r", "", "\n", "").Replace(text)
	end := strings.IndexFunc(text, func(r rune) bool { return !isBase64(r) })
	if end >= 0 {
		text = text[:end]
	}
	header, _, _ := decodeText([]byte(text[:len(text)/4*4]), strings.ContainsAny(text, "-_"))
	return isESDKHeader(header)
}

const maxESDKText = 128 << 10

func isBase64(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' ||
		strings.ContainsRune("+/-_", r)
}

// isESDKHeader reports whether b starts with the header of a message. It reads version,
// algorithm suite, message ID, AAD, the number of wrapped keys, and the first provider.
func isESDKHeader(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	suitesV1 := []uint16{
		0x0014, 0x0046, 0x0078, 0x0114, 0x0146, 0x0178, 0x0214, 0x0346, 0x0378,
	}
	suitesV2 := []uint16{0x0478, 0x0578}
	var at int
	switch {
	case b[0] == 1 && b[1] == 0x80 && slices.Contains(suitesV1, binary.BigEndian.Uint16(b[2:])):
		at = 4 + 16
	case b[0] == 2 && slices.Contains(suitesV2, binary.BigEndian.Uint16(b[1:])):
		at = 3 + 32
	default:
		return false
	}
	if _, at = esdkField(b, at); at < 0 { // the AAD
		return false
	}
	if at+2 > len(b) || binary.BigEndian.Uint16(b[at:]) == 0 {
		return false
	}
	provider, at := esdkField(b, at+2)
	return at >= 0 && strings.HasPrefix(string(provider), "aws-kms")
}

// esdkField returns the field after its length at b[at:], and the offset of the next field.
// The offset is -1 if the field does not end within b.
func esdkField(b []byte, at int) ([]byte, int) {
	if at+2 > len(b) {
		return nil, -1
	}
	end := at + 2 + int(binary.BigEndian.Uint16(b[at:]))
	if end > len(b) {
		return nil, -1
	}
	return b[at+2 : end], end
}
