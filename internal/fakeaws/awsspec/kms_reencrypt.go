package awsspec

import (
	"bytes"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func kmsReEncryptCases() []kmsCase {
	return []kmsCase{
		{"ReEncrypt/from and to every kind of key", kmsReEncryptMatrix},
		{
			"ReEncrypt/the response names the source key if SourceKeyId is omitted",
			kmsReEncryptUnpinned,
		},
		{"ReEncrypt/aliases are resolved to key ARNs", kmsReEncryptAlias},
		{"ReEncrypt/another SourceKeyId is IncorrectKeyException", kmsReEncryptPin},
		{
			"ReEncrypt/wrong context or corrupt blob is InvalidCiphertextException",
			kmsReEncryptContext,
		},
		{"ReEncrypt/the same key with another context", kmsReEncryptSameKey},
		{"ReEncrypt/the same key uses its current material", kmsReEncryptRefresh},
		{"ReEncrypt/the plaintext of a data key is kept", kmsReEncryptDataKey},
		{
			"ReEncrypt/an RSA blob requires SourceKeyId and SourceEncryptionAlgorithm",
			kmsReEncryptRSASource,
		},
		{
			"ReEncrypt/invalid requests with an RSA destination are refused",
			kmsReEncryptRSADestination,
		},
		{"ReEncrypt/a ciphertext has 1 to 6144 bytes", kmsReEncryptLimits},
		{"ReEncrypt/missing keys are NotFoundException", kmsReEncryptMissing},
		{
			"ReEncrypt/a blob under an unknown key is AccessDeniedException",
			kmsReEncryptUnknown,
		},
		{"ReEncrypt/a key for signatures is InvalidKeyUsageException", kmsReEncryptSigning},
		{"ReEncrypt/at most 10 grant tokens", kmsReEncryptTokens},
	}
}

// kmsKind is a kind of key with the algorithm to use it with.
type kmsKind struct {
	spec      types.KeySpec
	algorithm types.EncryptionAlgorithmSpec
	context   map[string]string
}

// API_ReEncrypt: every combination of key kinds, the elements of the response.
func kmsReEncryptMatrix(p *kmsProbe) {
	kinds := []kmsKind{
		{
			types.KeySpecSymmetricDefault,
			types.EncryptionAlgorithmSpecSymmetricDefault,
			map[string]string{"tenant": "a"},
		},
		{types.KeySpecRsa2048, types.EncryptionAlgorithmSpecRsaesOaepSha1, nil},
		{types.KeySpecRsa3072, types.EncryptionAlgorithmSpecRsaesOaepSha256, nil},
	}
	keys := map[types.KeySpec]*types.KeyMetadata{}
	for _, kind := range kinds {
		keys[kind.spec] = p.keyOf(kind.spec)
	}
	for _, from := range kinds {
		sealed, err := p.Encrypt(p.ctx, &kms.EncryptInput{
			KeyId:               keys[from.spec].KeyId,
			Plaintext:           []byte("text"),
			EncryptionAlgorithm: from.algorithm,
			EncryptionContext:   from.context,
		})
		p.must(err)
		for _, to := range kinds {
			source, destination := keys[from.spec], keys[to.spec]
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
				out.DestinationEncryptionAlgorithm != to.algorithm ||
				aws.ToString(out.SourceKeyMaterialId) !=
					aws.ToString(source.CurrentKeyMaterialId) ||
				aws.ToString(out.DestinationKeyMaterialId) !=
					aws.ToString(destination.CurrentKeyMaterialId) {
				p.Errorf("from %s to %s: the answer is from %s (%s, %s) to %s (%s, %s)",
					*source.Arn, *destination.Arn,
					*out.SourceKeyId, out.SourceEncryptionAlgorithm,
					aws.ToString(out.SourceKeyMaterialId),
					*out.KeyId, out.DestinationEncryptionAlgorithm,
					aws.ToString(out.DestinationKeyMaterialId))
			}
			p.decrypts("text", &kms.DecryptInput{
				CiphertextBlob:      out.CiphertextBlob,
				KeyId:               destination.KeyId,
				EncryptionAlgorithm: to.algorithm,
				EncryptionContext:   to.context,
			})
		}
	}
}

// API_ReEncrypt, SourceKeyId: optional for symmetric keys, and in the response.
func kmsReEncryptUnpinned(p *kmsProbe) {
	from, to := p.key(), p.key()
	out, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob:   p.blob(*from.KeyId, "text", nil),
		DestinationKeyId: to.Arn,
	})
	p.must(err)
	if *out.SourceKeyId != *from.Arn ||
		aws.ToString(out.SourceKeyMaterialId) != *from.CurrentKeyMaterialId {
		p.Errorf("the blob was under %s, material %s", *out.SourceKeyId,
			aws.ToString(out.SourceKeyMaterialId))
	}
}

// API_ReEncrypt, DestinationKeyId and SourceKeyId.
func kmsReEncryptAlias(p *kmsProbe) {
	from, to := p.key(), p.key()
	out, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob:   p.blob(*from.KeyId, "text", nil),
		SourceKeyId:      aws.String(p.arn(from.AWSAccountId, p.alias(*from.KeyId))),
		DestinationKeyId: aws.String(p.alias(*to.KeyId)),
	})
	p.must(err)
	if *out.SourceKeyId != *from.Arn || *out.KeyId != *to.Arn {
		p.Errorf("the answer is from %s to %s, want key ARNs", *out.SourceKeyId, *out.KeyId)
	}
}

// API_ReEncrypt: IncorrectKeyException.
func kmsReEncryptPin(p *kmsProbe) {
	from, to := p.key(), p.key()
	_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob:   p.blob(*from.KeyId, "text", nil),
		SourceKeyId:      to.KeyId,
		DestinationKeyId: to.KeyId,
	})
	p.want("IncorrectKeyException", err)
	var incorrect *types.IncorrectKeyException
	if !errors.As(err, &incorrect) {
		p.Errorf("%T is not the type of the SDK", err)
	}
}

// API_ReEncrypt: InvalidCiphertextException.
func kmsReEncryptContext(p *kmsProbe) {
	from, to := p.key(), p.key()
	blob := p.blob(*from.KeyId, "text", map[string]string{"a": "b"})
	for _, context := range []map[string]string{nil, {"a": "B"}, {"a": "b", "c": "d"}} {
		for _, pin := range []*string{nil, from.KeyId} {
			_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
				CiphertextBlob:          blob,
				SourceKeyId:             pin,
				SourceEncryptionContext: context,
				DestinationKeyId:        to.KeyId,
			})
			p.want("InvalidCiphertextException", err)
		}
	}
	blob[len(blob)-1] ^= 1
	_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob:          blob,
		SourceEncryptionContext: map[string]string{"a": "b"},
		DestinationKeyId:        to.KeyId,
	})
	p.want("InvalidCiphertextException", err)
}

// API_ReEncrypt: "under the same KMS key, such as to change the encryption
// context".
func kmsReEncryptSameKey(p *kmsProbe) {
	k := p.key()
	before, after := map[string]string{"v": "1"}, map[string]string{"v": "2"}
	out, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob: p.blob(*k.KeyId, "text", before), SourceEncryptionContext: before,
		SourceKeyId: k.KeyId, DestinationKeyId: k.KeyId, DestinationEncryptionContext: after,
	})
	p.must(err)
	p.decrypts("text", &kms.DecryptInput{
		CiphertextBlob:    out.CiphertextBlob,
		EncryptionContext: after,
	})
	_, err = p.Decrypt(p.ctx, &kms.DecryptInput{
		CiphertextBlob:    out.CiphertextBlob,
		EncryptionContext: before,
	})
	p.want("InvalidCiphertextException", err)
}

// API_ReEncrypt, SourceKeyMaterialId and DestinationKeyMaterialId; cryptographic
// details, "Rotate customer master key".
func kmsReEncryptRefresh(p *kmsProbe) {
	k := p.key()
	blob := p.blob(*k.KeyId, "text", nil)
	p.rotate(*k.KeyId)
	current := *p.describe(*k.KeyId).CurrentKeyMaterialId
	out, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob:   blob,
		SourceKeyId:      k.Arn,
		DestinationKeyId: k.Arn,
	})
	p.must(err)
	if aws.ToString(out.SourceKeyMaterialId) != *k.CurrentKeyMaterialId ||
		aws.ToString(out.DestinationKeyMaterialId) != current {
		p.Errorf("from material %s to %s, want from %s to %s",
			aws.ToString(out.SourceKeyMaterialId),
			aws.ToString(out.DestinationKeyMaterialId), *k.CurrentKeyMaterialId, current)
	}
}

// API_ReEncrypt: a blob of GenerateDataKey can be re-encrypted too.
func kmsReEncryptDataKey(p *kmsProbe) {
	from, to := p.key(), p.key()
	key, err := p.GenerateDataKey(p.ctx, &kms.GenerateDataKeyInput{
		KeyId:   from.KeyId,
		KeySpec: types.DataKeySpecAes256,
	})
	p.must(err)
	out, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob:   key.CiphertextBlob,
		DestinationKeyId: to.KeyId,
	})
	p.must(err)
	p.decrypts(string(key.Plaintext), &kms.DecryptInput{
		CiphertextBlob: out.CiphertextBlob,
		KeyId:          to.KeyId,
	})
}

// API_ReEncrypt, SourceKeyId and SourceEncryptionAlgorithm: required for asymmetric keys. An
// RSA blob does not name its key, so KMS cannot distinguish a wrong key from a corrupt blob.
func kmsReEncryptRSASource(p *kmsProbe) {
	const (
		sha1   = types.EncryptionAlgorithmSpecRsaesOaepSha1
		sha256 = types.EncryptionAlgorithmSpecRsaesOaepSha256
	)
	k, other, to := p.keyOf(types.KeySpecRsa2048), p.keyOf(types.KeySpecRsa2048), p.key()
	blob := p.blobRSA(*k.KeyId, "text", sha256)
	symmetric := p.blob(*to.KeyId, "text", nil)
	for _, c := range []struct {
		blob      []byte
		keyID     *string
		algorithm types.EncryptionAlgorithmSpec
		context   map[string]string
		code      string
	}{
		{blob, nil, sha256, nil, "ValidationException"},
		{blob, nil, "", nil, "InvalidCiphertextException"},
		{blob, k.KeyId, "", nil, "InvalidKeyUsageException"},
		{blob, to.KeyId, sha256, nil, "InvalidKeyUsageException"},
		{blob, k.KeyId, sha1, nil, "InvalidCiphertextException"},
		{blob, other.KeyId, sha256, nil, "InvalidCiphertextException"},
		{blob, to.KeyId, "", nil, "InvalidCiphertextException"},
		{blob, k.KeyId, sha256, map[string]string{"a": "b"}, "ValidationException"},
		{blob[:255], k.KeyId, sha256, nil, "InvalidCiphertextException"},
		{symmetric, k.KeyId, sha256, nil, "InvalidCiphertextException"},
	} {
		_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
			CiphertextBlob:            c.blob,
			SourceKeyId:               c.keyID,
			SourceEncryptionAlgorithm: c.algorithm,
			SourceEncryptionContext:   c.context,
			DestinationKeyId:          to.KeyId,
		})
		p.want(c.code, err)
	}
}

// API_ReEncrypt: DestinationEncryptionAlgorithm, DestinationEncryptionContext;
// API_Encrypt: the longest plaintexts.
func kmsReEncryptRSADestination(p *kmsProbe) {
	from, to := p.key(), p.keyOf(types.KeySpecRsa2048)
	short := p.blob(*from.KeyId, "text", nil)
	long := p.blob(*from.KeyId, strings.Repeat("x", 191), nil)
	for _, c := range []struct {
		blob      []byte
		algorithm types.EncryptionAlgorithmSpec
		context   map[string]string
		code      string
	}{
		{short, "", nil, "InvalidKeyUsageException"},
		{
			short,
			types.EncryptionAlgorithmSpecRsaesOaepSha256,
			map[string]string{"a": "b"},
			"ValidationException",
		},
		{long, types.EncryptionAlgorithmSpecRsaesOaepSha256, nil, "ValidationException"},
	} {
		_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
			CiphertextBlob: c.blob, DestinationKeyId: to.KeyId,
			DestinationEncryptionAlgorithm: c.algorithm, DestinationEncryptionContext: c.context,
		})
		p.want(c.code, err)
	}
}

// API_ReEncrypt, CiphertextBlob.
func kmsReEncryptLimits(p *kmsProbe) {
	k := p.key()
	for n, code := range map[int]string{
		0:    "ValidationException",
		6144: "InvalidCiphertextException",
		6145: "ValidationException",
	} {
		_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
			CiphertextBlob:   bytes.Repeat([]byte{1}, n),
			SourceKeyId:      k.KeyId,
			DestinationKeyId: k.KeyId,
		})
		p.want(code, err)
	}
}

// API_ReEncrypt: NotFoundException; both keys are those of the endpoint's Region.
func kmsReEncryptMissing(p *kmsProbe) {
	k := p.key()
	blob := p.blob(*k.KeyId, "text", nil)
	for _, missing := range []string{
		kmsMissingARN(*k.Arn),
		"alias/rotator-not-there",
		p.inOtherRegion(*k.Arn),
	} {
		_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
			CiphertextBlob:   blob,
			DestinationKeyId: &missing,
		})
		p.want("NotFoundException", err)
		_, err = p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
			CiphertextBlob:   blob,
			DestinationKeyId: k.KeyId,
			SourceKeyId:      &missing,
		})
		p.want("NotFoundException", err)
	}
}

// The same as the case of Decrypt for a blob under an unknown key.
func kmsReEncryptUnknown(p *kmsProbe) {
	k := p.key()
	blob := p.blob(*k.KeyId, "text", nil)
	blob[5] ^= 1
	_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob:   blob,
		DestinationKeyId: k.KeyId,
	})
	p.want("AccessDeniedException", err)
	_, err = p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob:   blob,
		DestinationKeyId: k.KeyId,
		SourceKeyId:      k.KeyId,
	})
	p.want("IncorrectKeyException", err)
}

// API_ReEncrypt: InvalidKeyUsageException, KeyUsage.
func kmsReEncryptSigning(p *kmsProbe) {
	k, signing := p.key(), p.signingKey()
	_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob: p.blob(*k.KeyId, "text", nil), DestinationKeyId: signing.KeyId,
		DestinationEncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256,
	})
	p.want("InvalidKeyUsageException", err)
}

// API_ReEncrypt, GrantTokens.
func kmsReEncryptTokens(p *kmsProbe) {
	k := p.key()
	_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob:   p.blob(*k.KeyId, "text", nil),
		DestinationKeyId: k.KeyId,
		GrantTokens:      strings.Split("abcdefghijk", ""),
	})
	p.want("ValidationException", err)
}

func kmsDryRunCases() []kmsCase {
	return []kmsCase{
		{"DryRun/a request that would succeed is DryRunOperationException", kmsDryRun},
		{"DryRun/the ciphertext is checked", kmsDryRunCiphertext},
		{"DryRun/IGNORE_CIPHERTEXT requires SourceKeyId but no ciphertext", kmsDryRunIgnore},
	}
}

// Developer guide, "Testing your permissions".
func kmsDryRun(p *kmsProbe) {
	from, to := p.key(), p.key()
	yes := aws.Bool(true)
	blob := p.blob(*from.KeyId, "text", nil)
	for _, err := range []error{
		kmsErr(p.Encrypt(p.ctx, &kms.EncryptInput{
			KeyId:     to.KeyId,
			Plaintext: []byte("x"),
			DryRun:    yes,
		})),
		kmsErr(p.Decrypt(p.ctx, &kms.DecryptInput{CiphertextBlob: blob, DryRun: yes})),
		kmsErr(p.GenerateDataKeyWithoutPlaintext(p.ctx, &kms.GenerateDataKeyWithoutPlaintextInput{
			KeyId:   to.KeyId,
			KeySpec: types.DataKeySpecAes256,
			DryRun:  yes,
		})),
		kmsErr(p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
			CiphertextBlob:   blob,
			SourceKeyId:      from.KeyId,
			DestinationKeyId: to.KeyId,
			DryRun:           yes,
		})),
		kmsErr(p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
			CiphertextBlob:   blob,
			DestinationKeyId: to.KeyId,
			DryRun:           yes,
		})),
	} {
		p.want("DryRunOperationException", err)
	}
}

// API_ReEncrypt, DryRunModifiers: a dry run without IGNORE_CIPHERTEXT validates the
// ciphertext. No page lists the errors; "checks if your request will succeed" implies that
// they are those of a real call.
func kmsDryRunCiphertext(p *kmsProbe) {
	from, to := p.key(), p.key()
	blob := p.blob(*from.KeyId, "text", nil)
	for code, in := range map[string]*kms.ReEncryptInput{
		"IncorrectKeyException": {
			CiphertextBlob:   blob,
			SourceKeyId:      to.KeyId,
			DestinationKeyId: to.KeyId,
		},
		"InvalidCiphertextException": {
			CiphertextBlob:          blob,
			SourceEncryptionContext: map[string]string{"a": "b"},
			DestinationKeyId:        to.KeyId,
		},
		"NotFoundException": {
			CiphertextBlob:   blob,
			DestinationKeyId: aws.String(kmsMissingARN(*to.Arn)),
		},
		"ValidationException": {DestinationKeyId: to.KeyId, SourceKeyId: from.KeyId},
	} {
		in.DryRun = aws.Bool(true)
		_, err := p.ReEncrypt(p.ctx, in)
		p.want(code, err)
	}
}

// API_ReEncrypt, API_Decrypt: DryRunModifiers, CiphertextBlob, SourceKeyId.
func kmsDryRunIgnore(p *kmsProbe) {
	from, to, disabled := p.key(), p.key(), p.key()
	p.disable(*disabled.KeyId)
	ignore := []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}
	yes := aws.Bool(true)
	for _, c := range []struct {
		in   kms.ReEncryptInput
		code string
	}{
		{
			kms.ReEncryptInput{SourceKeyId: from.KeyId, DestinationKeyId: to.KeyId, DryRun: yes},
			"DryRunOperationException",
		},
		{
			kms.ReEncryptInput{
				SourceKeyId:      from.KeyId,
				DestinationKeyId: to.KeyId,
				DryRun:           yes,
				CiphertextBlob:   []byte("anything"),
			},
			"DryRunOperationException",
		},
		{kms.ReEncryptInput{DestinationKeyId: to.KeyId, DryRun: yes}, "ValidationException"},
		{
			kms.ReEncryptInput{
				SourceKeyId:      from.KeyId,
				DestinationKeyId: aws.String(kmsMissingARN(*to.Arn)),
				DryRun:           yes,
			},
			"NotFoundException",
		},
		{
			kms.ReEncryptInput{
				SourceKeyId:      from.KeyId,
				DestinationKeyId: disabled.KeyId,
				DryRun:           yes,
			},
			"DisabledException",
		},
		{
			kms.ReEncryptInput{SourceKeyId: from.KeyId, DestinationKeyId: to.KeyId},
			"ValidationException",
		}, // the modifier is for dry runs
	} {
		c.in.DryRunModifiers = ignore
		_, err := p.ReEncrypt(p.ctx, &c.in)
		p.want(c.code, err)
	}
	kmsDryRunModifiers(p, from, to)
}

// kmsDryRunModifiers checks the modifier of Decrypt, and an unknown modifier.
func kmsDryRunModifiers(p *kmsProbe, from, to *types.KeyMetadata) {
	yes := aws.Bool(true)
	_, err := p.Decrypt(p.ctx, &kms.DecryptInput{
		KeyId:           from.KeyId,
		DryRun:          yes,
		DryRunModifiers: []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext},
	})
	p.want("DryRunOperationException", err)
	_, err = p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		SourceKeyId:      from.KeyId,
		DestinationKeyId: to.KeyId,
		DryRun:           yes,
		DryRunModifiers:  []types.DryRunModifierType{"IGNORE_KEYS"},
	})
	p.want("ValidationException", err)
}
