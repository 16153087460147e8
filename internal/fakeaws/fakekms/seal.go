package fakekms

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // RSAES_OAEP_SHA_1
	_ "crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"maps"
	"slices"
)

// algorithm is an EncryptionAlgorithmSpec.
type algorithm string

const (
	symmetricDefault algorithm = "SYMMETRIC_DEFAULT"
	oaepSHA1         algorithm = "RSAES_OAEP_SHA_1"
	oaepSHA256       algorithm = "RSAES_OAEP_SHA_256"
	sm2              algorithm = "SM2PKE"
)

// hash returns the hash function of OAEP.
func (a algorithm) hash() crypto.Hash {
	if a == oaepSHA1 {
		return crypto.SHA1
	}
	return crypto.SHA256
}

// A blob under a symmetric key has the layout that KMS uses today:
//
//	01 02 OP 00 78 TOKEN(32) 01 RANDOM(16) LENGTH(4, big endian) DER
//
// LENGTH is the number of bytes of DER, which is the EncryptedData of CMS (RFC 5652 section
// 8) with AES-256-GCM (RFC 5084). KMS documents only that there is an authenticated cleartext
// header that names the backing key; the other details are taken from blobs of KMS. A blob
// under an RSA key is the RSA ciphertext without a header. A blob under an SM2 key is the
// SM2Cipher of GM/T 0009 in DER: a SEQUENCE of the coordinates of a point, the SM3 digest,
// and a ciphertext of the length of the plaintext.

// token identifies key material in the header of a blob.
type token [32]byte

// origin is the OP byte. It identifies the operation that made the blob.
type origin byte

const (
	byEncrypt         origin = 2
	byGenerateDataKey origin = 3
)

const (
	tokenAt   = 5
	headerLen = tokenAt + 32 + 1 + 16
	lengthLen = 4
	nonceLen  = 12
	tagLen    = 16
	// KMS encrypts this number of bytes in addition to the plaintext. Their content is not
	// known; the fake puts zeros in front of the plaintext.
	paddingLen = 11
)

type encryptedData struct {
	Type    asn1.ObjectIdentifier
	Content struct {
		Version int
		Info    contentInfo
	} `asn1:"explicit,tag:0"`
}

type contentInfo struct {
	Type      asn1.ObjectIdentifier
	Algorithm struct {
		ID     asn1.ObjectIdentifier
		Params gcmParameters
	}
	Content []byte `asn1:"tag:0"` // ciphertext and tag
}

type gcmParameters struct {
	Nonce  []byte
	TagLen int
}

// seal encrypts the plaintext and puts the token named in the header. This is the token of
// the material unless SetHeaders says otherwise.
func (m *material) seal(
	op origin, named token, plaintext []byte, context map[string]string,
) ([]byte, error) {
	header := make([]byte, 0, headerLen+lengthLen)
	header = append(header, 1, 2, byte(op), 0, 0x78)
	header = append(header, named[:]...)
	header = append(header, 1)
	header = append(header, random(16)...)

	data := envelope(random(nonceLen))
	info := &data.Content.Info
	padded := append(make([]byte, paddingLen), plaintext...)
	info.Content = m.aead.Seal(nil, info.Algorithm.Params.Nonce, padded, aad(header, context))
	der, err := asn1.Marshal(data)
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint32(header, uint32(len(der))), der...), nil
}

// envelope returns an EncryptedData without content.
func envelope(nonce []byte) encryptedData {
	var d encryptedData
	d.Type = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}              // encryptedData
	d.Content.Info.Type = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1} // data
	algorithm := &d.Content.Info.Algorithm
	algorithm.ID = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 46} // aes256-GCM
	algorithm.Params = gcmParameters{Nonce: nonce, TagLen: tagLen}
	return d
}

// readToken returns the token in the header of a blob. It returns false if the blob does not
// have the layout.
func readToken(blob []byte) (token, bool) {
	if len(blob) <= headerLen+lengthLen {
		return token{}, false
	}
	op := origin(blob[2])
	if !bytes.Equal(blob[:2], []byte{1, 2}) || (op != byEncrypt && op != byGenerateDataKey) ||
		blob[3] != 0 || blob[4] != 0x78 || blob[tokenAt+32] != 1 {
		return token{}, false
	}
	if int64(binary.BigEndian.Uint32(blob[headerLen:])) != int64(len(blob)-headerLen-lengthLen) {
		return token{}, false
	}
	return token(blob[tokenAt : tokenAt+32]), true
}

// open decrypts a blob that seal made. It returns false for all other bytes. Like KMS, it
// does not report what is wrong.
func (m *material) open(blob []byte, context map[string]string) ([]byte, bool) {
	if _, ok := readToken(blob); !ok {
		return nil, false
	}
	der := blob[headerLen+lengthLen:]
	var data encryptedData
	if _, err := asn1.Unmarshal(der, &data); err != nil {
		return nil, false
	}
	info := data.Content.Info
	nonce := info.Algorithm.Params.Nonce
	if len(nonce) != nonceLen {
		return nil, false // Open would panic
	}
	// The envelope is not authenticated. The parser accepts several encodings, so open
	// accepts only the one that seal makes.
	want := envelope(nonce)
	want.Content.Info.Content = info.Content
	if strict, err := asn1.Marshal(want); err != nil || !bytes.Equal(strict, der) {
		return nil, false
	}
	padded, err := m.aead.Open(nil, nonce, info.Content, aad(blob[:headerLen], context))
	if err != nil || len(padded) < paddingLen {
		return nil, false
	}
	return padded[paddingLen:], true
}

// aad returns the data that a blob authenticates: its cleartext header and the encryption
// context. The encoding does not depend on the order of the pairs, and different contexts
// have different encodings.
func aad(header []byte, context map[string]string) []byte {
	out := slices.Clone(header)
	for _, name := range slices.Sorted(maps.Keys(context)) {
		for _, s := range []string{name, context[name]} {
			out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
			out = append(out, s...)
		}
	}
	return out
}

// sm2Plaintext is the maximum length of a plaintext under an SM2 key, in bytes (API_Encrypt).
const sm2Plaintext = 1024

// maxPlaintext returns the maximum length of a plaintext under the key, in bytes
// (API_Encrypt).
func (k *key) maxPlaintext(a algorithm) int {
	switch k.spec {
	case Symmetric:
		return maxPlaintext
	case SM2:
		return sm2Plaintext
	}
	return k.spec.bits()/8 - 2*a.hash().Size() - 2
}
