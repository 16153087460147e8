package awsspec

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func kmsSignCases() []kmsCase {
	return []kmsCase{
		{"GetPublicKey/the keys of each kind", kmsPublicKey},
		{"Sign/ECDSA over a message and over its digest", kmsSign},
		{"Sign/invalid requests are refused", kmsSignRefused},
		{"GetKeyRotationStatus/before and after it is enabled", kmsRotationStatus},
		{"GetKeyLastUsage/Sign is recorded with its request id", kmsLastUsageSign},
		{"ListGrants/page by page", kmsGrantPages},
	}
}

// eccKey creates a key pair that signs with ECDSA_SHA_256.
func (p *kmsProbe) eccKey() *types.KeyMetadata {
	p.Helper()
	out, err := p.CreateKey(p.ctx, &kms.CreateKeyInput{
		KeySpec:  types.KeySpecEccNistP256,
		KeyUsage: types.KeyUsageTypeSignVerify,
	})
	p.must(err)
	return out.KeyMetadata
}

// signature signs a message and returns the response.
func (p *kmsProbe) signature(
	keyID *string, message []byte, kind types.MessageType,
) *kms.SignOutput {
	p.Helper()
	out, err := p.Sign(p.ctx, &kms.SignInput{
		KeyId:            keyID,
		Message:          message,
		MessageType:      kind,
		SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
	})
	p.must(err)
	return out
}

// API_GetPublicKey: the key in DER, its spec, usage and algorithms. A symmetric key has none.
func kmsPublicKey(p *kmsProbe) {
	k := p.eccKey()
	out, err := p.GetPublicKey(p.ctx, &kms.GetPublicKeyInput{KeyId: k.KeyId})
	p.must(err)
	if *out.KeyId != *k.Arn || out.KeySpec != types.KeySpecEccNistP256 ||
		out.KeyUsage != types.KeyUsageTypeSignVerify || len(out.EncryptionAlgorithms) > 0 ||
		!slices.Equal(out.SigningAlgorithms,
			[]types.SigningAlgorithmSpec{types.SigningAlgorithmSpecEcdsaSha256}) {
		p.Errorf("the public key of %s has id %s, spec %s, usage %s, algorithms %v and %v", *k.Arn,
			*out.KeyId, out.KeySpec, out.KeyUsage, out.EncryptionAlgorithms, out.SigningAlgorithms)
	}
	if _, err := x509.ParsePKIXPublicKey(out.PublicKey); err != nil {
		p.Errorf("the public key is not in DER: %v", err)
	}
	_, err = p.GetPublicKey(p.ctx, &kms.GetPublicKeyInput{KeyId: p.key().KeyId})
	p.want("UnsupportedOperationException", err)
	p.disable(*k.KeyId)
	_, err = p.GetPublicKey(p.ctx, &kms.GetPublicKeyInput{KeyId: k.KeyId})
	p.want("DisabledException", err)
}

// API_Sign, MessageType: RAW is hashed, DIGEST is not. The signature is in DER.
func kmsSign(p *kmsProbe) {
	k := p.eccKey()
	public, err := p.GetPublicKey(p.ctx, &kms.GetPublicKeyInput{KeyId: k.KeyId})
	p.must(err)
	parsed, err := x509.ParsePKIXPublicKey(public.PublicKey)
	p.must(err)
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		p.Fatalf("the public key is %T", parsed)
	}
	message := []byte("message")
	digest := sha256.Sum256(message)
	for kind, signed := range map[types.MessageType][]byte{
		types.MessageTypeRaw:    message,
		types.MessageTypeDigest: digest[:],
	} {
		out := p.signature(k.KeyId, signed, kind)
		if *out.KeyId != *k.Arn || out.SigningAlgorithm != types.SigningAlgorithmSpecEcdsaSha256 {
			p.Errorf("%s: the response is for %s with %s", kind, *out.KeyId, out.SigningAlgorithm)
		}
		if !ecdsa.VerifyASN1(key, digest[:], out.Signature) {
			p.Errorf("%s: the signature does not verify", kind)
		}
	}
}

// API_Sign: the length of a digest, the key usage, the algorithm, and the state of the key.
func kmsSignRefused(p *kmsProbe) {
	k := p.eccKey()
	in := kms.SignInput{
		KeyId:            k.KeyId,
		Message:          []byte("not a digest"),
		MessageType:      types.MessageTypeDigest,
		SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
	}
	refused := func(code string, change func(*kms.SignInput)) {
		p.Helper()
		changed := in
		change(&changed)
		_, err := p.Sign(p.ctx, &changed)
		p.want(code, err)
	}
	refused("ValidationException", func(*kms.SignInput) {})
	in.MessageType = types.MessageTypeRaw
	refused("ValidationException", func(i *kms.SignInput) { i.Message = make([]byte, 4097) })
	refused("InvalidKeyUsageException", func(i *kms.SignInput) { i.KeyId = p.key().KeyId })
	refused("InvalidKeyUsageException", func(i *kms.SignInput) {
		i.SigningAlgorithm = types.SigningAlgorithmSpecRsassaPssSha256
	})
	refused("DryRunOperationException", func(i *kms.SignInput) { i.DryRun = aws.Bool(true) })
	p.disable(*k.KeyId)
	refused("DisabledException", func(*kms.SignInput) {})
}

// API_EnableKeyRotation, API_GetKeyRotationStatus. The status of a disabled key can be read.
func kmsRotationStatus(p *kmsProbe) {
	k := p.key()
	status := func() *kms.GetKeyRotationStatusOutput {
		p.Helper()
		out, err := p.GetKeyRotationStatus(p.ctx,
			&kms.GetKeyRotationStatusInput{KeyId: k.KeyId})
		p.must(err)
		return out
	}
	if out := status(); out.KeyRotationEnabled || out.NextRotationDate != nil {
		p.Errorf("a new key rotates: %v, at %v", out.KeyRotationEnabled, out.NextRotationDate)
	}
	_, err := p.EnableKeyRotation(p.ctx, &kms.EnableKeyRotationInput{
		KeyId:                k.KeyId,
		RotationPeriodInDays: aws.Int32(180),
	})
	p.must(err)
	p.disable(*k.KeyId)
	out := status()
	if until := time.Until(aws.ToTime(out.NextRotationDate)); !out.KeyRotationEnabled ||
		aws.ToInt32(out.RotationPeriodInDays) != 180 || (until-180*24*time.Hour).Abs() > time.Hour {
		p.Errorf("rotates: %v, every %d days, next in %v", out.KeyRotationEnabled,
			aws.ToInt32(out.RotationPeriodInDays), until)
	}
	_, err = p.GetKeyRotationStatus(p.ctx,
		&kms.GetKeyRotationStatusInput{KeyId: p.signingKey().KeyId})
	p.want("UnsupportedOperationException", err)
}

// API_GetKeyLastUsage, API_KeyLastUsageData. Sign is recorded, with the id of the request. AWS
// can take an hour until the use appears.
func kmsLastUsageSign(p *kmsProbe) {
	k := p.eccKey()
	signed := p.signature(k.KeyId, []byte("message"), types.MessageTypeRaw)
	got := p.lastUsage(*k.KeyId).KeyLastUsage
	if got.Operation != types.KeyLastUsageTrackingOperationSign ||
		aws.ToString(got.KmsRequestId) != requestID(signed.ResultMetadata) {
		p.Errorf("the last use is %s by request %q, want Sign by %q", got.Operation,
			aws.ToString(got.KmsRequestId), requestID(signed.ResultMetadata))
	}
}

// API_ListGrants, Limit, Marker and GranteePrincipal. A new grant can be missing for minutes.
func kmsGrantPages(p *kmsProbe) {
	k := p.key()
	made := map[string]bool{}
	for range 5 {
		made[*p.grant(k).GrantId] = true
	}
	pages := kms.NewListGrantsPaginator(p.Client, &kms.ListGrantsInput{
		KeyId:            k.KeyId,
		Limit:            aws.Int32(2),
		GranteePrincipal: p.grantee(k),
	})
	seen := map[string]bool{}
	for pages.HasMorePages() {
		page, err := pages.NextPage(p.ctx)
		p.must(err)
		if len(page.Grants) > 2 {
			p.Errorf("a page has %d grants, want 2 at most", len(page.Grants))
		}
		for _, g := range page.Grants {
			if !made[*g.GrantId] || seen[*g.GrantId] {
				p.Errorf("grant %s is listed twice, or was not made", *g.GrantId)
			}
			seen[*g.GrantId] = true
		}
	}
	_, err := p.ListGrants(p.ctx, &kms.ListGrantsInput{
		KeyId:  k.KeyId,
		Marker: aws.String("no marker"),
	})
	p.want("InvalidMarkerException", err)
}
