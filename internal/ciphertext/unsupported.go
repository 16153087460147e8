package ciphertext

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"rotator/internal/kmsblob"
	"rotator/internal/scan"
)

// unsupportedSites finds what bears the marks of a format that cannot be moved. It is the
// last that format auto asks.
func unsupportedSites(object *scan.Object) []editSite {
	switch {
	case isESDKMessage(object.Body):
		return []editSite{{Slot: Slot{Refused: esdkMessage()}}}
	case isParquetKeyMaterial(object):
		return []editSite{refusedSitef("", "parquet-key-material", "it is of Parquet modular encryption, whose wrapped keys are made by a KmsClient of the user's own: nobody else can say what they are; rotate them with the key tools of Parquet (KeyToolkit.rotateMasterKeys)")}
	case !beginsWithFramedBlob(object.Body):
	case strings.HasSuffix(object.Key, sneakerSuffix):
		return []editSite{refusedSitef("", "sneaker", "it is a secret of sneaker, which seals the payload with the ARN of the key: upload it again, or use sneaker rotate")}
	default:
		return []editSite{refusedSitef("", "ambiguous", "it begins with the length of a KMS ciphertext and the ciphertext, as tink-envelope and sneaker have it, and nothing tells them apart; give it a target with format tink-envelope or length-prefixed if it is of those")}
	}
	if refused := markedBody(object); refused != nil {
		return []editSite{refusedSite("", refused)}
	}
	if object.ServerSideKMS {
		return []editSite{refusedSitef("", "sse-kms-only", "nothing in it is encrypted but by S3 itself (SSE-KMS), where no ciphertext can be read or written: give it another key with UpdateObjectEncryption, or by a copy onto itself")}
	}
	return nil
}

// esdkMessage is the refusal of a message, wherever it stands.
func esdkMessage() *Refused {
	return &Refused{Reason: "esdk-message", Detail: "it is a message of the AWS Encryption SDK, whose header is sealed with the data key, wrapped keys included: decrypt it and encrypt it again with the SDK"}
}

// isParquetKeyMaterial says that an object is the external key material of a Parquet
// file, or a Parquet file with an encrypted footer (parquet-hadoop, crypto/keytools/
// KeyMaterial.java and HadoopFSKeyMaterialStore.java of github.com/apache/parquet-java;
// Encryption.md of github.com/apache/parquet-format). What stands in wrappedDEK and
// wrappedKEK is whatever KmsClient.wrapKey of the user's class returned.
func isParquetKeyMaterial(object *scan.Object) bool {
	name := object.Key[strings.LastIndexByte(object.Key, '/')+1:]
	external := strings.Contains(name, "_KEY_MATERIAL_FOR_") && strings.HasSuffix(name, ".json") &&
		bytes.Contains(object.Body, []byte("keyMaterialType")) && bytes.Contains(object.Body, []byte("PKMT1"))
	magic := []byte("PARE")
	return external || len(object.Body) > 2*len(magic) && bytes.HasPrefix(object.Body, magic) && bytes.HasSuffix(object.Body, magic)
}

// sneakerSuffix is the end of the keys of its secrets (upload.go of
// github.com/codahale/sneaker).
const sneakerSuffix = ".aes"

// beginsWithFramedBlob says that a body begins with the length of a blob, in 32 bits
// and big endian, and that very blob, and goes on (envelope.go of
// github.com/codahale/sneaker; aead/kms_envelope_aead.go of
// github.com/tink-crypto/tink-go).
func beginsWithFramedBlob(body []byte) bool {
	if len(body) < 4 {
		return false
	}
	length, rest := binary.BigEndian.Uint32(body), body[4:]
	return uint64(length) < uint64(len(rest)) && kmsblob.IsBlob(rest[:length])
}

// isESDKMessage says that a body is a message of the AWS Encryption SDK, or the
// base64 of one, in which KMS has a part: it reads the header up to the provider of
// the first wrapped key (data-format/message-header.md of
// github.com/awslabs/aws-encryption-sdk-specification).
func isESDKMessage(body []byte) bool {
	if isESDKHeader(body) {
		return true
	}
	// The text of a message begins with its version in base64; a header that names
	// a provider early is a short one, and what is longer is not looked at.
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
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("+/-_", r)
}

// isESDKHeader reads version, algorithm suite, message id, AAD, and the number and
// the provider of wrapped keys.
func isESDKHeader(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	var at int
	switch {
	case b[0] == 1 && b[1] == 0x80 && slices.Contains([]uint16{0x0014, 0x0046, 0x0078, 0x0114, 0x0146, 0x0178, 0x0214, 0x0346, 0x0378}, binary.BigEndian.Uint16(b[2:])):
		at = 4 + 16
	case b[0] == 2 && slices.Contains([]uint16{0x0478, 0x0578}, binary.BigEndian.Uint16(b[1:])):
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

// esdkField reads a field behind its length, and says where the next one begins;
// -1 if it does not end inside of b.
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
