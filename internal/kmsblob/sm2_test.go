package kmsblob_test

import (
	"bytes"
	"testing"

	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fakesm2"
	"rotator/internal/kmsblob"
)

// TestSM2: a ciphertext under an SM2 key has the layout and shows the length of its
// plaintext. A ciphertext with a changed frame, or under another kind of key, does not.
func TestSM2(t *testing.T) {
	kms := fakekms.New(fakekms.Config{Region: "cn-northwest-1", Account: "111122223333",
		SM2: fakesm2.New})
	blobs := map[fakekms.KeySpec][]byte{}
	for _, spec := range []fakekms.KeySpec{fakekms.SM2, fakekms.RSA2048, fakekms.Symmetric} {
		key, err := kms.CreateKey(spec)
		if err != nil {
			t.Fatal(err)
		}
		for _, length := range []int{1, 127, 128, 190} {
			if blobs[spec], err = kms.Encrypt(key, make([]byte, length), nil); err != nil {
				t.Fatal(err)
			}
			n, ok := kmsblob.SM2Plaintext(blobs[spec])
			if ok != (spec == fakekms.SM2) || ok && n != length {
				t.Errorf("%s: a plaintext of %d bytes: %d, %v", spec, length, n, ok)
			}
		}
	}
	blob := blobs[fakekms.SM2]
	for name, other := range map[string][]byte{
		"nothing":  nil,
		"cut":      blob[:len(blob)-1],
		"longer":   append(bytes.Clone(blob), 0),
		"a tag":    append([]byte{0x31}, blob[1:]...),
		"no DER":   bytes.Repeat([]byte{0x30}, len(blob)),
		"a digest": bytes.Replace(blob, []byte{4, 32}, []byte{4, 31}, 1),
	} {
		if kmsblob.IsSM2(other) {
			t.Errorf("%s is recognised as an SM2 ciphertext", name)
		}
	}
}
