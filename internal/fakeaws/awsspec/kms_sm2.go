package awsspec

import (
	"bytes"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const sm2pke = types.EncryptionAlgorithmSpecSm2pke

// kmsSM2Cases returns the cases for China Regions, the only Regions with SM2 keys.
func kmsSM2Cases() []kmsCase {
	return []kmsCase{
		{"CreateKey/SM2 keys encrypt with SM2PKE", kmsCreateSM2},
		{"Encrypt/an SM2 key", kmsEncryptSM2},
		{"Encrypt/invalid requests with an SM2 key are refused", kmsEncryptSM2Refused},
		{"ReEncrypt/from and to SM2 keys", kmsReEncryptSM2},
		{
			"ReEncrypt/an SM2 blob requires SourceKeyId and SourceEncryptionAlgorithm",
			kmsReEncryptSM2Source,
		},
		{
			"ReEncrypt/invalid requests with an SM2 destination are refused",
			kmsReEncryptSM2Destination,
		},
	}
}

// API_CreateKey, KeySpec; API_KeyMetadata.
func kmsCreateSM2(p *kmsProbe) {
	k := p.keyOf(types.KeySpecSm2)
	want := []types.EncryptionAlgorithmSpec{sm2pke}
	if k.KeySpec != types.KeySpecSm2 || !slices.Equal(k.EncryptionAlgorithms, want) ||
		k.CurrentKeyMaterialId != nil {
		p.Errorf("a key of SM2 has spec %s, algorithms %v, key material id %v",
			k.KeySpec, k.EncryptionAlgorithms, k.CurrentKeyMaterialId)
	}
	public, err := p.GetPublicKey(p.ctx, &kms.GetPublicKeyInput{KeyId: k.KeyId})
	p.must(err)
	var der asn1.RawValue
	rest, err := asn1.Unmarshal(public.PublicKey, &der)
	if err != nil || len(rest) > 0 || public.KeySpec != types.KeySpecSm2 ||
		!slices.Equal(public.EncryptionAlgorithms, want) {
		p.Errorf("GetPublicKey: %s, %v, %v", public.KeySpec, public.EncryptionAlgorithms, err)
	}
}

// API_Encrypt: the longest plaintext; developer guide, "Offline operations with SM2
// key pairs": the ciphertext is in ASN.1 DER.
func kmsEncryptSM2(p *kmsProbe) {
	k := p.keyOf(types.KeySpecSm2)
	for _, plaintext := range []string{"x", strings.Repeat("x", 1024)} {
		blob := p.blobRSA(*k.KeyId, plaintext, sm2pke)
		var parts struct {
			X, Y       *big.Int
			Hash, Text []byte
		}
		rest, err := asn1.Unmarshal(blob, &parts)
		if err != nil || len(rest) > 0 || len(parts.Hash) != 32 ||
			len(parts.Text) != len(plaintext) {
			p.Errorf("the ciphertext of %d bytes is not SM2 in DER: %v", len(plaintext), err)
		}
		got := p.decrypts(plaintext, &kms.DecryptInput{CiphertextBlob: blob, KeyId: k.KeyId,
			EncryptionAlgorithm: sm2pke})
		if got.EncryptionAlgorithm != sm2pke || got.KeyMaterialId != nil {
			p.Errorf("Decrypt names %s and material %v", got.EncryptionAlgorithm, got.KeyMaterialId)
		}
	}
}

// API_Encrypt: the longest plaintext, InvalidKeyUsageException, EncryptionContext.
func kmsEncryptSM2Refused(p *kmsProbe) {
	k := p.keyOf(types.KeySpecSm2)
	for _, c := range []struct {
		length    int
		algorithm types.EncryptionAlgorithmSpec
		context   map[string]string
		code      string
	}{
		{1025, sm2pke, nil, "ValidationException"},
		{1, "", nil, "InvalidKeyUsageException"},
		{1, types.EncryptionAlgorithmSpecRsaesOaepSha256, nil, "InvalidKeyUsageException"},
		{1, sm2pke, map[string]string{"a": "b"}, "ValidationException"},
	} {
		_, err := p.Encrypt(p.ctx, &kms.EncryptInput{KeyId: k.KeyId,
			Plaintext: make([]byte, c.length), EncryptionAlgorithm: c.algorithm,
			EncryptionContext: c.context})
		p.want(c.code, err)
	}
}

// API_ReEncrypt: SM2PKE on either side, with every other kind of key on the other.
func kmsReEncryptSM2(p *kmsProbe) {
	sm2 := kmsKind{types.KeySpecSm2, sm2pke, nil}
	kinds := []kmsKind{
		{types.KeySpecSymmetricDefault, types.EncryptionAlgorithmSpecSymmetricDefault,
			map[string]string{"tenant": "a"}},
		{types.KeySpecRsa2048, types.EncryptionAlgorithmSpecRsaesOaepSha256, nil},
		sm2,
	}
	for _, kind := range kinds {
		p.moves(kind, sm2)
		p.moves(sm2, kind)
	}
}

// moves checks that ReEncrypt moves a blob from a key of one kind to a key of another kind.
func (p *kmsProbe) moves(from, to kmsKind) {
	p.Helper()
	source, destination := p.keyOf(from.spec), p.keyOf(to.spec)
	sealed, err := p.Encrypt(p.ctx, &kms.EncryptInput{KeyId: source.KeyId,
		Plaintext: []byte("text"), EncryptionAlgorithm: from.algorithm,
		EncryptionContext: from.context})
	p.must(err)
	out, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob:                 sealed.CiphertextBlob,
		SourceKeyId:                    source.KeyId,
		SourceEncryptionAlgorithm:      from.algorithm,
		SourceEncryptionContext:        from.context,
		DestinationKeyId:               destination.KeyId,
		DestinationEncryptionAlgorithm: to.algorithm,
		DestinationEncryptionContext:   to.context,
	})
	p.must(err)
	if *out.SourceKeyId != *source.Arn || *out.KeyId != *destination.Arn ||
		out.SourceEncryptionAlgorithm != from.algorithm ||
		out.DestinationEncryptionAlgorithm != to.algorithm {
		p.Errorf("from %s to %s: the answer is from %s (%s) to %s (%s)", from.spec, to.spec,
			*out.SourceKeyId, out.SourceEncryptionAlgorithm, *out.KeyId,
			out.DestinationEncryptionAlgorithm)
	}
	p.decrypts("text", &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob,
		KeyId: destination.KeyId, EncryptionAlgorithm: to.algorithm,
		EncryptionContext: to.context})
}

// API_ReEncrypt, as for RSA keys: an SM2 blob names no key either.
func kmsReEncryptSM2Source(p *kmsProbe) {
	k, other, to := p.keyOf(types.KeySpecSm2), p.keyOf(types.KeySpecSm2), p.key()
	blob := p.blobRSA(*k.KeyId, "text", sm2pke)
	changed := bytes.Clone(blob)
	changed[len(changed)-1] ^= 1
	rsa := bytes.Repeat([]byte{0x30}, 256)
	for _, c := range []struct {
		blob      []byte
		keyID     *string
		algorithm types.EncryptionAlgorithmSpec
		context   map[string]string
		code      string
	}{
		{blob, nil, sm2pke, nil, "ValidationException"},
		{blob, nil, "", nil, "InvalidCiphertextException"},
		{blob, k.KeyId, "", nil, "InvalidKeyUsageException"},
		{blob, to.KeyId, sm2pke, nil, "InvalidKeyUsageException"},
		{blob, other.KeyId, sm2pke, nil, "InvalidCiphertextException"},
		{blob, to.KeyId, "", nil, "InvalidCiphertextException"},
		{blob, k.KeyId, sm2pke, map[string]string{"a": "b"}, "ValidationException"},
		{changed, k.KeyId, sm2pke, nil, "InvalidCiphertextException"},
		{blob[:len(blob)-1], k.KeyId, sm2pke, nil, "InvalidCiphertextException"},
		{append(bytes.Clone(blob), 0), k.KeyId, sm2pke, nil, "InvalidCiphertextException"},
		{rsa, k.KeyId, sm2pke, nil, "InvalidCiphertextException"},
		{p.blob(*to.KeyId, "text", nil), k.KeyId, sm2pke, nil, "InvalidCiphertextException"},
	} {
		_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{CiphertextBlob: c.blob,
			SourceKeyId: c.keyID, SourceEncryptionAlgorithm: c.algorithm,
			SourceEncryptionContext: c.context, DestinationKeyId: to.KeyId})
		p.want(c.code, err)
	}
}

// API_ReEncrypt: DestinationEncryptionAlgorithm, DestinationEncryptionContext;
// API_Encrypt: the longest plaintext.
func kmsReEncryptSM2Destination(p *kmsProbe) {
	from, to := p.key(), p.keyOf(types.KeySpecSm2)
	short := p.blob(*from.KeyId, "text", nil)
	long := p.blob(*from.KeyId, strings.Repeat("x", 1025), nil)
	for _, c := range []struct {
		blob      []byte
		algorithm types.EncryptionAlgorithmSpec
		context   map[string]string
		code      string
	}{
		{short, "", nil, "InvalidKeyUsageException"},
		{short, sm2pke, map[string]string{"a": "b"}, "ValidationException"},
		{long, sm2pke, nil, "ValidationException"},
	} {
		_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{CiphertextBlob: c.blob,
			DestinationKeyId: to.KeyId, DestinationEncryptionAlgorithm: c.algorithm,
			DestinationEncryptionContext: c.context})
		p.want(c.code, err)
	}
	_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{DestinationKeyId: to.KeyId,
		DestinationEncryptionAlgorithm: sm2pke, SourceKeyId: from.KeyId, DryRun: aws.Bool(true),
		DryRunModifiers: []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}})
	p.want("DryRunOperationException", err)
}
