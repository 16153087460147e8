package fakekms

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"strings"
)

// pair is the key pair of an asymmetric key. It is safe for concurrent use.
type pair interface {
	// public returns the SubjectPublicKeyInfo in DER (API_GetPublicKey).
	public() ([]byte, error)
	// seal encrypts a plaintext of at most maxPlaintext bytes.
	seal(a algorithm, plaintext []byte) ([]byte, error)
	// open decrypts a ciphertext of seal or of a client with the public key. It returns false
	// for all other bytes.
	open(a algorithm, blob []byte) ([]byte, bool)
}

// newPair generates the key pair of an asymmetric key.
func (s *Service) newPair(spec KeySpec) (pair, error) {
	if spec == SM2 {
		k, err := s.config.SM2()
		return sm2Pair{k}, err
	}
	if len(spec.algorithms()) == 0 {
		return newECCPair(spec)
	}
	private, err := rsa.GenerateKey(rand.Reader, spec.bits())
	return rsaPair{private}, err
}

// makes reports whether the service can create keys of the spec. SM2 keys exist in the China
// Regions only (API_CreateKey, KeySpec).
func (s *Service) makes(spec KeySpec) bool {
	if spec == SM2 {
		return s.config.SM2 != nil && strings.HasPrefix(s.config.Region, "cn-")
	}
	return spec == Symmetric || spec.bits() > 0 || spec == P256 || spec == P384
}

type rsaPair struct{ *rsa.PrivateKey }

func (p rsaPair) public() ([]byte, error) { return x509.MarshalPKIXPublicKey(&p.PublicKey) }

func (p rsaPair) seal(a algorithm, plaintext []byte) ([]byte, error) {
	return rsa.EncryptOAEP(a.hash().New(), rand.Reader, &p.PublicKey, plaintext, nil)
}

func (p rsaPair) open(a algorithm, blob []byte) ([]byte, bool) {
	if len(blob) != p.Size() {
		return nil, false
	}
	plaintext, err := rsa.DecryptOAEP(a.hash().New(), rand.Reader, p.PrivateKey, blob, nil)
	return plaintext, err == nil
}

// SM2Key is a key pair of the spec SM2. It must be safe for concurrent use.
type SM2Key interface {
	// PublicKey returns the SubjectPublicKeyInfo in DER.
	PublicKey() ([]byte, error)
	// Encrypt returns the ciphertext in ASN.1 DER, the only form that KMS accepts (developer
	// guide, "Offline operations with SM2 key pairs").
	Encrypt(plaintext []byte) ([]byte, error)
	// Decrypt decrypts a ciphertext of that form.
	Decrypt(ciphertext []byte) ([]byte, error)
}

type sm2Pair struct{ SM2Key }

func (p sm2Pair) public() ([]byte, error) { return p.PublicKey() }

func (p sm2Pair) seal(_ algorithm, plaintext []byte) ([]byte, error) { return p.Encrypt(plaintext) }

func (p sm2Pair) open(_ algorithm, blob []byte) ([]byte, bool) {
	if !bytes.HasPrefix(blob, []byte{0x30}) { // the library also accepts other forms
		return nil, false
	}
	plaintext, err := p.Decrypt(blob)
	return plaintext, err == nil
}
