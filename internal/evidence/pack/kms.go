package pack

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"rotator/internal/awserr"
)

// KeyError is the error of a key that cannot sign a pack.
type KeyError struct{ Key, Detail string }

func (e *KeyError) Error() string { return fmt.Sprintf("key %s: %s", e.Key, e.Detail) }

// KMSSigner signs with an asymmetric key of AWS KMS.
type KMSSigner struct {
	client  *kms.Client
	signing Signing
	public  crypto.PublicKey
	text    []byte // of public, in PEM
}

var _ Signer = (*KMSSigner)(nil)

// NewKMSSigner returns a signer with the key that key names: an id, an ARN or an alias. It reads
// the public key. The error is a *KeyError if the key does not sign, or not with an algorithm that
// a pack can have.
func NewKMSSigner(ctx context.Context, client *kms.Client, key string) (*KMSSigner, error) {
	out, err := client.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: aws.String(key)})
	if awserr.Code(err) == "UnsupportedOperationException" {
		return nil, &KeyError{key, "it is symmetric; a key that signs has the key usage " +
			"SIGN_VERIFY and the key spec ECC_NIST_P256 or RSA_2048, RSA_3072 or RSA_4096"}
	}
	if err != nil {
		return nil, fmt.Errorf("read the public key of %s: %w", key, err)
	}
	if out.KeyUsage != types.KeyUsageTypeSignVerify {
		return nil, &KeyError{key, fmt.Sprintf("its key usage is %s, not SIGN_VERIFY",
			out.KeyUsage)}
	}
	s := &KMSSigner{client: client}
	s.signing.Key = aws.ToString(out.KeyId)
	for _, usable := range usableAlgorithms() {
		if s.signing.Algorithm == "" && slices.Contains(out.SigningAlgorithms, usable) {
			s.signing.Algorithm = string(usable)
		}
	}
	if s.signing.Algorithm == "" {
		return nil, &KeyError{key, fmt.Sprintf("its key spec is %s, which signs with none of %v",
			out.KeySpec, usableAlgorithms())}
	}
	if s.public, err = x509.ParsePKIXPublicKey(out.PublicKey); err != nil {
		return nil, fmt.Errorf("read the public key of %s: %w", key, err)
	}
	s.text = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: out.PublicKey})
	return s, nil
}

// usableAlgorithms returns the algorithms of signatures on packs.
func usableAlgorithms() []types.SigningAlgorithmSpec {
	return []types.SigningAlgorithmSpec{
		types.SigningAlgorithmSpecEcdsaSha256,
		types.SigningAlgorithmSpecRsassaPssSha256,
	}
}

// Identity implements Signer.
func (s *KMSSigner) Identity() Signing { return s.signing }

// PublicKey implements Signer.
func (s *KMSSigner) PublicKey() []byte { return s.text }

// Sign implements Signer. It verifies the signature that KMS returns.
func (s *KMSSigner) Sign(
	ctx context.Context, digest []byte,
) (signature []byte, requestID string, err error) {
	out, err := s.client.Sign(ctx, &kms.SignInput{
		KeyId:            aws.String(s.signing.Key),
		Message:          digest,
		MessageType:      types.MessageTypeDigest,
		SigningAlgorithm: types.SigningAlgorithmSpec(s.signing.Algorithm),
	})
	if err != nil {
		return nil, "", fmt.Errorf("sign with %s: %w", s.signing.Key, err)
	}
	if err := verify(s.public, digest, out.Signature); err != nil {
		return nil, "", fmt.Errorf("the signature that KMS returned for %s: %w", s.signing.Key, err)
	}
	requestID, _ = awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return out.Signature, requestID, nil
}

// errSignature is the error of a signature that the key did not make.
var errSignature = errors.New("the signature is not valid")

// verify checks a signature over a SHA-256 digest: ECDSA in DER, or RSASSA-PSS.
func verify(key crypto.PublicKey, digest, signed []byte) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(k, digest, signed) {
			return nil
		}
		return errSignature
	case *rsa.PublicKey:
		if rsa.VerifyPSS(k, crypto.SHA256, digest, signed, nil) == nil {
			return nil
		}
		return errSignature
	}
	return fmt.Errorf("a key of the type %T does not sign packs", key)
}
