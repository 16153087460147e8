package fakekms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // for crypto.Hash
	_ "crypto/sha512" // for crypto.Hash
	"crypto/x509"
	"errors"
	"slices"
	"strings"
)

// signingAlgorithm is a signing algorithm (API_Sign).
type signingAlgorithm string

// hash returns the hash function of the algorithm.
func (a signingAlgorithm) hash() crypto.Hash {
	switch {
	case strings.HasSuffix(string(a), "_SHA_384"):
		return crypto.SHA384
	case strings.HasSuffix(string(a), "_SHA_512"):
		return crypto.SHA512
	}
	return crypto.SHA256
}

// signingAlgorithms returns the signing algorithms of the key spec.
func (k KeySpec) signingAlgorithms() []signingAlgorithm {
	switch {
	case k == P256:
		return []signingAlgorithm{"ECDSA_SHA_256"}
	case k == P384:
		return []signingAlgorithm{"ECDSA_SHA_384"}
	case k.bits() > 0:
		return []signingAlgorithm{
			"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
			"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512",
		}
	}
	return nil
}

// signer is a pair that can sign. It is safe for concurrent use.
type signer interface {
	sign(a signingAlgorithm, digest []byte) ([]byte, error)
}

func (p rsaPair) sign(a signingAlgorithm, digest []byte) ([]byte, error) {
	if strings.HasPrefix(string(a), "RSASSA_PSS_") {
		options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
		return rsa.SignPSS(rand.Reader, p.PrivateKey, a.hash(), digest, options)
	}
	return rsa.SignPKCS1v15(rand.Reader, p.PrivateKey, a.hash(), digest)
}

// eccPair is a key pair of a NIST curve. It only signs.
type eccPair struct{ *ecdsa.PrivateKey }

func newECCPair(spec KeySpec) (pair, error) {
	curve := elliptic.P256()
	if spec == P384 {
		curve = elliptic.P384()
	}
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	return eccPair{private}, err
}

func (p eccPair) public() ([]byte, error) { return x509.MarshalPKIXPublicKey(&p.PublicKey) }

func (p eccPair) seal(algorithm, []byte) ([]byte, error) {
	return nil, errors.New("a key of this spec does not encrypt")
}

func (p eccPair) open(algorithm, []byte) ([]byte, bool) { return nil, false }

func (p eccPair) sign(_ signingAlgorithm, digest []byte) ([]byte, error) {
	return ecdsa.SignASN1(rand.Reader, p.PrivateKey, digest)
}

type signInput struct {
	KeyID            string `json:"KeyId"`
	Message          []byte
	MessageType      string
	SigningAlgorithm signingAlgorithm
	GrantTokens      []string
	DryRun           bool
}

// digest returns the digest that is signed.
func (in signInput) digest() ([]byte, error) {
	hash := in.SigningAlgorithm.hash()
	switch in.MessageType {
	case "", "RAW":
		if len(in.Message) == 0 || len(in.Message) > maxPlaintext {
			return nil, fail("ValidationException", "the message must have 1 to %d bytes",
				maxPlaintext)
		}
		h := hash.New()
		_, _ = h.Write(in.Message)
		return h.Sum(nil), nil
	case "DIGEST":
		if len(in.Message) != hash.Size() {
			return nil, fail("ValidationException", "Digest is invalid length for algorithm %s.",
				in.SigningAlgorithm)
		}
		return in.Message, nil
	}
	return nil, fail("ValidationException", "%q is not a message type of the fake KMS",
		in.MessageType)
}

type signOutput struct {
	KeyID            string `json:"KeyId"` // an ARN
	Signature        []byte
	SigningAlgorithm signingAlgorithm
}

// sign is API_Sign, for RSA and NIST curves.
func (s *Service) sign(r request, in signInput) (any, error) {
	k, err := s.find(in.KeyID, true)
	if err != nil {
		return nil, err
	}
	call := Call{Action: "kms:Sign", KeyARN: k.arn, GrantTokens: in.GrantTokens}
	if err := s.authorize(r, call); err != nil {
		return nil, err
	}
	if state, _ := s.snapshot(k); state != Enabled {
		return nil, errState(k, state)
	}
	if k.usage != signVerify {
		return nil, fail("InvalidKeyUsageException",
			"%s key usage is %s which is not valid for Sign.", k.arn, k.usage)
	}
	if !slices.Contains(k.spec.signingAlgorithms(), in.SigningAlgorithm) {
		return nil, fail("InvalidKeyUsageException",
			"Algorithm %s is incompatible with key spec %s.", in.SigningAlgorithm, k.spec)
	}
	digest, err := in.digest()
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, errDryRun()
	}
	pair, err := k.pair()
	if err != nil {
		return nil, err
	}
	signature, err := pair.(signer).sign(in.SigningAlgorithm, digest)
	if err != nil {
		return nil, err
	}
	k.used(r)
	return signOutput{
		KeyID:            k.arn,
		Signature:        signature,
		SigningAlgorithm: in.SigningAlgorithm,
	}, nil
}
