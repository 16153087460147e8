package reencrypt

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"rotator/internal/awserr"
	"rotator/internal/outage"
	"rotator/internal/retry"
)

// Symmetric is the algorithm of every symmetric encryption key
// (API_ReEncrypt, SourceEncryptionAlgorithm).
const Symmetric = string(types.EncryptionAlgorithmSpecSymmetricDefault)

// Key is a KMS key. It is resolved once at the start of a run.
type Key struct {
	// Given is the name of the key in the job file. ARN is the key ARN that DescribeKey
	// returned for it.
	Given, ARN string
	// Algorithm is SYMMETRIC_DEFAULT, one of the RSAES_OAEP algorithms, or SM2PKE.
	Algorithm string
	// Material is the ID of the current key material. It is "" for an asymmetric key, or if
	// the server does not return it.
	Material string
	// Unusable states why a source key cannot be used. Only read-only passes have such
	// keys.
	Unusable Unusable
	// Size is the length in bytes of ciphertexts under an RSA key. It is 0 for other keys.
	Size int
}

// Symmetric reports whether the key is a symmetric encryption key. Ciphertexts under such a
// key are bound to an encryption context and name their key in the header.
func (k Key) Symmetric() bool { return k.Algorithm == Symmetric }

// sm2 reports whether ciphertexts under the key are those of SM2PKE.
func (k Key) sm2() bool { return k.Algorithm == string(types.EncryptionAlgorithmSpecSm2pke) }

// maxPlaintext returns the length in bytes of the longest plaintext that an asymmetric key
// encrypts (API_Encrypt), and 0 for a key that encrypts every plaintext of KMS or whose
// length is unknown.
func (k Key) maxPlaintext() int {
	switch {
	case k.sm2():
		return 1024
	case k.Size == 0:
		return 0
	case k.Algorithm == string(types.EncryptionAlgorithmSpecRsaesOaepSha1):
		return k.Size - 2*sha1.Size - 2
	}
	return k.Size - 2*sha256.Size - 2
}

// pinnedSymmetric reports whether KMS compares the key of a blob with this key before it
// decrypts, if the request has this key as SourceKeyId.
func (k Key) pinnedSymmetric() bool { return k.ARN != "" && k.Symmetric() }

// Request is a ReEncrypt request to the destination key of the job.
type Request struct {
	Blob []byte
	// Source is the key that must decrypt the blob. If it is zero, KMS finds the key in the
	// blob. This is possible only for symmetric keys.
	Source             Key
	Context            map[string]string
	DestinationContext map[string]string
}

// Response is the response to a ReEncrypt request.
type Response struct {
	Blob           []byte
	Source         string // ARN of the key that decrypted the blob
	SourceMaterial string // ID of the key material that decrypted the blob, or ""
	Destination    string // ARN of the key that encrypted the blob
	// DestinationMaterial is the ID of the key material that encrypted the blob, or "".
	DestinationMaterial string
	RequestID           string // ID that KMS gave the request, or ""
}

// Reencrypter sends requests to KMS. Errors are those of the AWS SDK. Each request has a
// timeout, including the time to read the response. Methods can be called concurrently.
type Reencrypter interface {
	// ReEncrypt re-encrypts one blob under the destination key.
	ReEncrypt(ctx context.Context, q Request) (Response, error)
	// Authorized asks KMS whether the caller is allowed to move blobs from source to the
	// destination key. known is false if the server does not support such requests. err is
	// nil if the caller is allowed to, otherwise the error of KMS.
	Authorized(ctx context.Context, source Key) (known bool, err error)
}

// ReEncryptFunc has the signature of the method ReEncrypt of a KMS client.
type ReEncryptFunc func(
	context.Context, *kms.ReEncryptInput, ...func(*kms.Options),
) (*kms.ReEncryptOutput, error)

// KMS implements Reencrypter with the AWS SDK. The retries of the client must be disabled,
// because every attempt must pass the limiter. The HTTP client must have a timeout, because the
// SDK sets none. A context with a deadline for each request would cost more CPU time.
type KMS struct {
	reEncrypt   ReEncryptFunc
	destination Key
	grants      []string
}

var _ Reencrypter = (*KMS)(nil)

// NewKMS returns a KMS that moves blobs to destination. Requests contain the grant tokens.
func NewKMS(reEncrypt ReEncryptFunc, destination Key, grantTokens []string) *KMS {
	return &KMS{reEncrypt: reEncrypt, destination: destination, grants: grantTokens}
}

// ReEncrypt implements Reencrypter with API_ReEncrypt.
func (k *KMS) ReEncrypt(ctx context.Context, q Request) (Response, error) {
	out, err := k.reEncrypt(ctx, k.input(q))
	if err != nil {
		return Response{}, err
	}
	requestID, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return Response{
		Blob:                out.CiphertextBlob,
		Source:              aws.ToString(out.SourceKeyId),
		SourceMaterial:      aws.ToString(out.SourceKeyMaterialId),
		Destination:         aws.ToString(out.KeyId),
		DestinationMaterial: aws.ToString(out.DestinationKeyMaterialId),
		RequestID:           requestID,
	}, nil
}

func (k *KMS) input(q Request) *kms.ReEncryptInput {
	in := &kms.ReEncryptInput{
		CiphertextBlob:                 q.Blob,
		DestinationKeyId:               &k.destination.ARN,
		DestinationEncryptionAlgorithm: types.EncryptionAlgorithmSpec(k.destination.Algorithm),
		DestinationEncryptionContext:   q.DestinationContext,
		SourceEncryptionContext:        q.Context,
		GrantTokens:                    k.grants,
	}
	if q.Source.ARN != "" {
		in.SourceKeyId = &q.Source.ARN
		in.SourceEncryptionAlgorithm = types.EncryptionAlgorithmSpec(q.Source.Algorithm)
	}
	return in
}

// Authorized implements Reencrypter with a dry run that contains no ciphertext
// (API_ReEncrypt, DryRunModifiers). Some servers do not support dry runs.
func (k *KMS) Authorized(ctx context.Context, source Key) (known bool, err error) {
	in := k.input(Request{Source: source})
	in.DryRun = aws.Bool(true)
	in.DryRunModifiers = []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}
	_, err = k.reEncrypt(ctx, in)
	var allowed *types.DryRunOperationException
	if errors.As(err, &allowed) {
		return true, nil
	}
	switch retry.Classify(err) {
	case retry.KindDenied, retry.KindKeyState, retry.KindCredentials, retry.KindThrottled,
		retry.KindTransient, retry.KindUnknown, retry.KindStopped:
		return true, err
	}
	// a success, or an error about the missing ciphertext: the server does not support dry runs
	return false, nil
}

// KeyError is the error for a key of the job file that cannot be used.
type KeyError struct {
	Given  string // the key as the job file names it
	Field  string // the field of the job file at fault; "" if it is the one that contains Given
	Detail string // one sentence: the fault and how to fix it
	// Wrong is true if the job file must be corrected, and false if the cause is the state of
	// the key or missing permissions.
	Wrong bool
	Err   error // the error of the request to KMS, or nil
}

func (e *KeyError) Error() string { return fmt.Sprintf("key %s: %s", e.Given, e.Detail) }
func (e *KeyError) Unwrap() error { return e.Err }

// describeKey returns the description of a key by KMS. The permission can be that of a grant,
// so the request contains the grant tokens of the job (API_DescribeKey, GrantTokens).
func describeKey(
	ctx context.Context, client *kms.Client, given string, tokens []string,
) (*types.KeyMetadata, error) {
	out, err := client.DescribeKey(ctx,
		&kms.DescribeKeyInput{KeyId: &given, GrantTokens: tokens})
	if err != nil {
		return nil, err
	}
	return out.KeyMetadata, nil
}

// ResolveKey calls DescribeKey for a key ID, key ARN, alias name or alias ARN, and checks that
// the key supports algorithm; "" means SYMMETRIC_DEFAULT. The caller must check Key.Unusable.
// Errors are *KeyError or those of the AWS SDK.
func ResolveKey(
	ctx context.Context, client *kms.Client, given, algorithm string, tokens []string,
) (Key, error) {
	meta, err := describeKey(ctx, client, given, tokens)
	if err != nil {
		return Key{}, describeError(given, client.Options().Region, err)
	}
	key := Key{
		Given:     given,
		ARN:       aws.ToString(meta.Arn),
		Algorithm: algorithm,
		Material:  aws.ToString(meta.CurrentKeyMaterialId),
	}
	if key.Algorithm == "" {
		key.Algorithm = Symmetric
	}
	key.Size = rsaSizes()[meta.KeySpec]
	if meta.KeyUsage != "" && meta.KeyUsage != types.KeyUsageTypeEncryptDecrypt {
		return Key{}, &KeyError{
			Given: given,
			Wrong: true,
			Detail: fmt.Sprintf("its key usage is %s; name a key with the key usage "+
				"ENCRYPT_DECRYPT", meta.KeyUsage),
		}
	}
	if err := checkAlgorithm(key, meta.EncryptionAlgorithms); err != nil {
		return Key{}, err
	}
	key.Unusable = stateOf(meta)
	return key, nil
}

// rsaSizes returns the ciphertext length in bytes of each RSA key spec: the
// length of the modulus.
func rsaSizes() map[types.KeySpec]int {
	return map[types.KeySpec]int{types.KeySpecRsa2048: 256, types.KeySpecRsa3072: 384,
		types.KeySpecRsa4096: 512}
}

func checkAlgorithm(key Key, offered []types.EncryptionAlgorithmSpec) error {
	for _, a := range offered {
		if string(a) == key.Algorithm {
			return nil
		}
	}
	if len(offered) == 0 && key.Symmetric() {
		return nil // some servers do not return the algorithms
	}
	names := make([]string, len(offered))
	for i, a := range offered {
		names[i] = string(a)
	}
	return &KeyError{Given: key.Given, Wrong: true, Detail: fmt.Sprintf(
		"it does not support %s; set algorithm to %s", key.Algorithm, strings.Join(names, " or "))}
}

// grantTokenError returns the error for grant tokens that KMS refuses, or nil if err is a
// different error.
func grantTokenError(given string, err error) *KeyError {
	if awserr.Code(err) != "InvalidGrantTokenException" {
		return nil
	}
	return &KeyError{Given: given, Err: err,
		Detail: "KMS refuses a token in kms.grant_tokens, which is mistyped, or its grant was " +
			"retired or revoked; correct or remove it"}
}

// otherServerError returns the error for a response to DescribeKey that is not one of KMS,
// such as that of a proxy or of a wrong endpoint. It returns nil if err is another error.
func otherServerError(given string, err error) *KeyError {
	status := awserr.Status(err)
	if !awserr.WithoutCode(err) {
		return nil
	}
	switch {
	case status < http.StatusMultipleChoices || status >= http.StatusInternalServerError,
		status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
		return nil // can be temporary
	}
	return &KeyError{Given: given, Field: "kms.endpoint", Wrong: status != http.StatusForbidden,
		Detail: outage.CauseOf(err) + ", and the response has no error code of KMS; check " +
			"kms.endpoint, AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_KMS and the proxy, if there is one"}
}

// describeError returns the error for a failed DescribeKey request: a *KeyError if the job file
// or the permissions must be corrected, otherwise err with a prefix.
func describeError(given, region string, err error) error {
	if refused := grantTokenError(given, err); refused != nil {
		return refused
	}
	if other := otherServerError(given, err); other != nil {
		return other
	}
	switch retry.Classify(err) {
	case retry.KindKeyState:
		return &KeyError{Given: given, Wrong: true, Err: err,
			Detail: fmt.Sprintf("KMS in %s has no such key; check the name, the account and "+
				"kms.region (ReEncrypt never crosses Regions)", region)}
	case retry.KindInvalidCiphertext:
		return &KeyError{Given: given, Wrong: true, Err: err,
			Detail: "KMS does not accept this as a key ID, key ARN, alias name or alias ARN"}
	case retry.KindDenied:
		return &KeyError{Given: given, Err: err,
			Detail: "kms:DescribeKey is denied; allow it in the IAM policy and in the key policy " +
				"(deploy/iam), or in a grant"}
	}
	return fmt.Errorf("describe key %s: %w", given, err)
}
