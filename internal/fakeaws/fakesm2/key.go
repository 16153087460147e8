// Package fakesm2 implements SM2 keys for the fake KMS. It is a separate package because
// its cryptography is not in the standard library; only tests link it.
package fakesm2

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"fmt"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"

	"rotator/internal/fakeaws/fakekms"
)

// Key is a key pair of the spec SM2.
type Key struct{ private *sm2.PrivateKey }

var _ fakekms.SM2Key = (*Key)(nil)

// New creates a Key. It is a value for the SM2 field of the configuration of a fake.
func New() (fakekms.SM2Key, error) {
	private, err := sm2.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make an SM2 key: %w", err)
	}
	return &Key{private}, nil
}

// PublicKey implements fakekms.SM2Key.
func (k *Key) PublicKey() ([]byte, error) {
	return smx509.MarshalPKIXPublicKey(&k.private.PublicKey)
}

// Encrypt implements fakekms.SM2Key. About one of 130 ciphertexts of a plaintext of one byte cannot
// be decrypted by the library: Encrypt discards these.
func (k *Key) Encrypt(plaintext []byte) ([]byte, error) {
	const attempts = 20
	for range attempts {
		ciphertext, err := sm2.EncryptASN1(rand.Reader, &k.private.PublicKey, plaintext)
		if err != nil {
			return nil, err
		}
		decrypted, err := k.Decrypt(ciphertext)
		if err == nil && bytes.Equal(decrypted, plaintext) {
			return ciphertext, nil
		}
	}
	return nil, fmt.Errorf("no ciphertext of %d can be decrypted", attempts)
}

// Decrypt implements fakekms.SM2Key.
func (k *Key) Decrypt(ciphertext []byte) ([]byte, error) {
	return sm2.Decrypt(k.private, ciphertext)
}

// Encrypt encrypts outside of KMS, with the public key that GetPublicKey returns.
func Encrypt(publicKey, plaintext []byte) ([]byte, error) {
	parsed, err := smx509.ParsePKIXPublicKey(publicKey)
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	if !ok || !sm2.IsSM2PublicKey(public) {
		return nil, fmt.Errorf("%T is not an SM2 key", parsed)
	}
	return sm2.EncryptASN1(rand.Reader, public, plaintext)
}
