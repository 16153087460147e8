package awsspec

import (
	"bytes"
	"encoding/asn1"
	"encoding/binary"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func kmsCryptCases() []kmsCase {
	return []kmsCase{
		{"Encrypt/a symmetric key", kmsEncrypt},
		{"Encrypt/a plaintext has 1 to 4096 bytes", kmsEncryptLimits},
		{"Encrypt/RSA keys", kmsEncryptRSA},
		{
			"Encrypt/an algorithm of another key spec is InvalidKeyUsageException",
			kmsEncryptAlgorithm,
		},
		{"Encrypt/a key for signatures is InvalidKeyUsageException", kmsEncryptSigning},
		{
			"Encrypt/an encryption context with an RSA key is ValidationException",
			kmsEncryptRSAContext,
		},
		{"Decrypt/the encryption context must match exactly", kmsDecryptContext},
		{"Decrypt/a corrupt blob is InvalidCiphertextException", kmsDecryptCorrupt},
		{"Decrypt/another KeyId is IncorrectKeyException", kmsDecryptPin},
		{"Decrypt/a blob under an unknown key is AccessDeniedException", kmsDecryptUnknown},
		{"Decrypt/an RSA blob requires KeyId and EncryptionAlgorithm", kmsDecryptRSA},
		{"GenerateDataKey/the plaintext and its blob", kmsDataKey},
		{"GenerateDataKey/sizes", kmsDataKeySizes},
		{"CiphertextBlob/the current header layout", kmsBlobLayout},
	}
}

// API_Encrypt, API_Decrypt.
func kmsEncrypt(p *kmsProbe) {
	k := p.key()
	in := &kms.EncryptInput{
		KeyId:             k.KeyId,
		Plaintext:         []byte("text"),
		EncryptionContext: map[string]string{"a": "1", "b": "2"},
	}
	out, err := p.Encrypt(p.ctx, in)
	p.must(err)
	if *out.KeyId != *k.Arn ||
		out.EncryptionAlgorithm != types.EncryptionAlgorithmSpecSymmetricDefault {
		p.Errorf("the answer names %s and %s", *out.KeyId, out.EncryptionAlgorithm)
	}
	again, err := p.Encrypt(p.ctx, in)
	p.must(err)
	if bytes.Equal(out.CiphertextBlob, again.CiphertextBlob) {
		p.Error("two blobs of one plaintext are equal")
	}
	got := p.decrypts("text", &kms.DecryptInput{
		CiphertextBlob:    out.CiphertextBlob,
		EncryptionContext: in.EncryptionContext,
	})
	if *got.KeyId != *k.Arn ||
		got.EncryptionAlgorithm != types.EncryptionAlgorithmSpecSymmetricDefault ||
		aws.ToString(got.KeyMaterialId) != *k.CurrentKeyMaterialId {
		p.Errorf("Decrypt names %s, %s, material %v", *got.KeyId, got.EncryptionAlgorithm,
			got.KeyMaterialId)
	}
}

// API_Encrypt, Plaintext; API_Decrypt, CiphertextBlob: at most 6144 bytes, so the
// blob of the longest plaintext fits.
func kmsEncryptLimits(p *kmsProbe) {
	k := p.key()
	long := strings.Repeat("x", 4096)
	p.decrypts(long, &kms.DecryptInput{CiphertextBlob: p.blob(*k.KeyId, long, nil)})
	for _, n := range []int{0, 4097} {
		_, err := p.Encrypt(p.ctx, &kms.EncryptInput{KeyId: k.KeyId, Plaintext: make([]byte, n)})
		p.want("ValidationException", err)
	}
}

// API_Encrypt: the table of the longest plaintexts by key spec and algorithm. An
// RSA blob is as long as the modulus.
func kmsEncryptRSA(p *kmsProbe) {
	longest := map[types.KeySpec][2]int{
		types.KeySpecRsa2048: {214, 190},
		types.KeySpecRsa3072: {342, 318},
		types.KeySpecRsa4096: {470, 446},
	}
	modulus := map[types.KeySpec]int{
		types.KeySpecRsa2048: 256,
		types.KeySpecRsa3072: 384,
		types.KeySpecRsa4096: 512,
	}
	for spec, most := range longest {
		k := p.keyOf(spec)
		for i, algorithm := range []types.EncryptionAlgorithmSpec{
			types.EncryptionAlgorithmSpecRsaesOaepSha1,
			types.EncryptionAlgorithmSpecRsaesOaepSha256,
		} {
			long := strings.Repeat("x", most[i])
			blob := p.blobRSA(*k.KeyId, long, algorithm)
			if len(blob) != modulus[spec] {
				p.Errorf("a blob under %s has %d bytes, want %d", spec, len(blob), modulus[spec])
			}
			got := p.decrypts(long, &kms.DecryptInput{
				CiphertextBlob:      blob,
				KeyId:               k.KeyId,
				EncryptionAlgorithm: algorithm,
			})
			if got.EncryptionAlgorithm != algorithm || got.KeyMaterialId != nil {
				p.Errorf("Decrypt names %s and material %v", got.EncryptionAlgorithm,
					got.KeyMaterialId)
			}
			_, err := p.Encrypt(p.ctx, &kms.EncryptInput{
				KeyId:               k.KeyId,
				Plaintext:           []byte(long + "x"),
				EncryptionAlgorithm: algorithm,
			})
			p.want("ValidationException", err)
		}
	}
}

// API_Encrypt: InvalidKeyUsageException, the algorithm and the KeySpec.
func kmsEncryptAlgorithm(p *kmsProbe) {
	_, err := p.Encrypt(p.ctx, &kms.EncryptInput{
		KeyId:               p.key().KeyId,
		Plaintext:           []byte("x"),
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256,
	})
	p.want("InvalidKeyUsageException", err)
	rsa := p.keyOf(types.KeySpecRsa2048)
	for _, algorithm := range []types.EncryptionAlgorithmSpec{
		"",
		types.EncryptionAlgorithmSpecSymmetricDefault,
		types.EncryptionAlgorithmSpecSm2pke,
	} {
		_, err := p.Encrypt(p.ctx, &kms.EncryptInput{
			KeyId:               rsa.KeyId,
			Plaintext:           []byte("x"),
			EncryptionAlgorithm: algorithm,
		})
		p.want("InvalidKeyUsageException", err)
	}
	_, err = p.Encrypt(p.ctx, &kms.EncryptInput{
		KeyId:               rsa.KeyId,
		Plaintext:           []byte("x"),
		EncryptionAlgorithm: "ROT13",
	})
	p.want("ValidationException", err)
}

// API_Encrypt: InvalidKeyUsageException, KeyUsage.
func kmsEncryptSigning(p *kmsProbe) {
	_, err := p.Encrypt(p.ctx, &kms.EncryptInput{
		KeyId:               p.signingKey().KeyId,
		Plaintext:           []byte("x"),
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256,
	})
	p.want("InvalidKeyUsageException", err)
}

// API_Encrypt, EncryptionContext: only with symmetric keys. The code of the
// error is not documented.
func kmsEncryptRSAContext(p *kmsProbe) {
	_, err := p.Encrypt(p.ctx, &kms.EncryptInput{
		KeyId: p.keyOf(types.KeySpecRsa2048).KeyId, Plaintext: []byte("x"),
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256,
		EncryptionContext:   map[string]string{"a": "b"},
	})
	p.want("ValidationException", err)
}

// API_Decrypt, EncryptionContext and InvalidCiphertextException.
func kmsDecryptContext(p *kmsProbe) {
	k := p.key()
	blob := p.blob(*k.KeyId, "text", map[string]string{"a": "bc", "d": ""})
	for _, context := range []map[string]string{
		nil,
		{},
		{"a": "bc"},
		{"a": "bc", "d": "", "e": "f"},
		{"a": "bC", "d": ""},
		{"A": "bc", "d": ""},
		{"ab": "c", "d": ""},
		{"a": "bcd", "": ""},
	} {
		for _, pin := range []*string{nil, k.KeyId} {
			_, err := p.Decrypt(p.ctx, &kms.DecryptInput{
				CiphertextBlob:    blob,
				EncryptionContext: context,
				KeyId:             pin,
			})
			p.want("InvalidCiphertextException", err)
		}
	}
	plain := p.blob(*k.KeyId, "text", nil)
	p.decrypts("text", &kms.DecryptInput{
		CiphertextBlob:    plain,
		EncryptionContext: map[string]string{},
	})
	_, err := p.Decrypt(p.ctx, &kms.DecryptInput{
		CiphertextBlob:    plain,
		EncryptionContext: map[string]string{"a": "bc"},
	})
	p.want("InvalidCiphertextException", err)
}

// API_Decrypt: InvalidCiphertextException; CiphertextBlob has 1 to 6144 bytes.
func kmsDecryptCorrupt(p *kmsProbe) {
	k := p.key()
	blob := p.blob(*k.KeyId, "text", nil)
	changed := bytes.Clone(blob)
	changed[len(blob)-1] ^= 1
	for name, bad := range map[string][]byte{
		"one byte": {1},
		"changed":  changed,
		"cut":      blob[:len(blob)-1],
		"longer":   append(bytes.Clone(blob), 0),
		"text":     []byte("this was never encrypted"), "6144 bytes": make([]byte, 6144),
	} {
		p.Logf("a blob that is %s", name)
		_, err := p.Decrypt(p.ctx, &kms.DecryptInput{CiphertextBlob: bad})
		p.want("InvalidCiphertextException", err)
		_, err = p.Decrypt(p.ctx, &kms.DecryptInput{CiphertextBlob: bad, KeyId: k.KeyId})
		p.want("InvalidCiphertextException", err)
	}
	for _, n := range []int{0, 6145} {
		_, err := p.Decrypt(p.ctx, &kms.DecryptInput{CiphertextBlob: make([]byte, n)})
		p.want("ValidationException", err)
	}
}

// API_Decrypt, KeyId and IncorrectKeyException.
func kmsDecryptPin(p *kmsProbe) {
	k, other := p.key(), p.key()
	blob := p.blob(*k.KeyId, "text", nil)
	_, err := p.Decrypt(p.ctx, &kms.DecryptInput{CiphertextBlob: blob, KeyId: other.Arn})
	p.want("IncorrectKeyException", err)
	_, err = p.Decrypt(p.ctx, &kms.DecryptInput{
		CiphertextBlob: blob,
		KeyId:          aws.String(kmsMissingARN(*k.Arn)),
	})
	p.want("NotFoundException", err)
	p.decrypts("text", &kms.DecryptInput{
		CiphertextBlob: blob,
		KeyId:          aws.String(p.alias(*k.KeyId)),
	})
}

// No page documents the text of the error. Users of KMS quote it for blobs whose key is
// deleted, or in another account or Region. This case replaces the key token in the header to
// make such a blob.
func kmsDecryptUnknown(p *kmsProbe) {
	k := p.key()
	blob := p.blob(*k.KeyId, "text", nil)
	for i := range blob[5:37] {
		blob[5+i] ^= 0xa5
	}
	_, err := p.Decrypt(p.ctx, &kms.DecryptInput{CiphertextBlob: blob})
	p.want("AccessDeniedException", err)
	if err != nil &&
		!strings.Contains(err.Error(),
			"The ciphertext refers to a customer master key that does not exist") {
		p.Errorf("the message is %v", err)
	}
	_, err = p.Decrypt(p.ctx, &kms.DecryptInput{CiphertextBlob: blob, KeyId: k.KeyId})
	p.want("IncorrectKeyException", err)
}

// API_Decrypt, KeyId and EncryptionAlgorithm: required for asymmetric keys.
func kmsDecryptRSA(p *kmsProbe) {
	const (
		sha1   = types.EncryptionAlgorithmSpecRsaesOaepSha1
		sha256 = types.EncryptionAlgorithmSpecRsaesOaepSha256
	)
	k, other, symmetric := p.keyOf(types.KeySpecRsa2048), p.keyOf(types.KeySpecRsa2048), p.key()
	blob := p.blobRSA(*k.KeyId, "text", sha256)
	for _, c := range []struct {
		keyID     *string
		algorithm types.EncryptionAlgorithmSpec
		code      string
	}{
		{nil, sha256, "ValidationException"},
		{nil, "", "InvalidCiphertextException"},
		{k.KeyId, "", "InvalidKeyUsageException"},
		{k.KeyId, sha1, "InvalidCiphertextException"},
		{other.KeyId, sha256, "InvalidCiphertextException"},
		{symmetric.KeyId, sha256, "InvalidKeyUsageException"},
		{symmetric.KeyId, "", "InvalidCiphertextException"},
	} {
		_, err := p.Decrypt(p.ctx, &kms.DecryptInput{
			CiphertextBlob:      blob,
			KeyId:               c.keyID,
			EncryptionAlgorithm: c.algorithm,
		})
		p.want(c.code, err)
	}
}

// API_GenerateDataKey, API_GenerateDataKeyWithoutPlaintext.
func kmsDataKey(p *kmsProbe) {
	k := p.key()
	context := map[string]string{"a": "b"}
	out, err := p.GenerateDataKey(p.ctx, &kms.GenerateDataKeyInput{
		KeyId:             k.KeyId,
		KeySpec:           types.DataKeySpecAes256,
		EncryptionContext: context,
	})
	p.must(err)
	if *out.KeyId != *k.Arn || aws.ToString(out.KeyMaterialId) != *k.CurrentKeyMaterialId {
		p.Errorf("the answer names %s and material %v", *out.KeyId, out.KeyMaterialId)
	}
	p.decrypts(string(out.Plaintext), &kms.DecryptInput{
		CiphertextBlob:    out.CiphertextBlob,
		EncryptionContext: context,
	})
	_, err = p.Decrypt(p.ctx, &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob})
	p.want("InvalidCiphertextException", err)

	sealed, err := p.GenerateDataKeyWithoutPlaintext(p.ctx,
		&kms.GenerateDataKeyWithoutPlaintextInput{
			KeyId:         k.KeyId,
			NumberOfBytes: aws.Int32(5),
		})
	p.must(err)
	decrypted, err := p.Decrypt(p.ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	p.must(err)
	if len(decrypted.Plaintext) != 5 || *sealed.KeyId != *k.Arn ||
		aws.ToString(sealed.KeyMaterialId) != *k.CurrentKeyMaterialId {
		p.Errorf("a key of %d bytes, under %s, material %v", len(decrypted.Plaintext),
			*sealed.KeyId,
			sealed.KeyMaterialId)
	}
}

// API_GenerateDataKey: NumberOfBytes (1 to 1024) or KeySpec, not both; symmetric
// keys only.
func kmsDataKeySizes(p *kmsProbe) {
	k, rsa := p.key(), p.keyOf(types.KeySpecRsa2048)
	for _, c := range []struct {
		in   kms.GenerateDataKeyInput
		size int    // or
		code string // of the error
	}{
		{kms.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: types.DataKeySpecAes128}, 16, ""},
		{kms.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: types.DataKeySpecAes256}, 32, ""},
		{kms.GenerateDataKeyInput{KeyId: k.KeyId, NumberOfBytes: aws.Int32(1024)}, 1024, ""},
		{
			kms.GenerateDataKeyInput{KeyId: k.KeyId, NumberOfBytes: aws.Int32(1025)},
			0,
			"ValidationException",
		},
		{
			kms.GenerateDataKeyInput{KeyId: k.KeyId, NumberOfBytes: aws.Int32(0)},
			0,
			"ValidationException",
		},
		{
			kms.GenerateDataKeyInput{
				KeyId:         k.KeyId,
				NumberOfBytes: aws.Int32(32),
				KeySpec:       types.DataKeySpecAes256,
			},
			0,
			"ValidationException",
		},
		{kms.GenerateDataKeyInput{KeyId: k.KeyId}, 0, "ValidationException"},
		{
			kms.GenerateDataKeyInput{KeyId: rsa.KeyId, KeySpec: types.DataKeySpecAes256},
			0,
			"InvalidKeyUsageException",
		},
		{
			kms.GenerateDataKeyInput{
				KeyId:   k.KeyId,
				KeySpec: types.DataKeySpecAes256,
				DryRun:  aws.Bool(true),
			},
			0,
			"DryRunOperationException",
		},
	} {
		out, err := p.GenerateDataKey(p.ctx, &c.in)
		if c.code != "" {
			p.want(c.code, err)
			continue
		}
		p.must(err)
		if len(out.Plaintext) != c.size {
			p.Errorf("a data key has %d bytes, want %d", len(out.Plaintext), c.size)
		}
	}
}

// The layout is undocumented: "customer data operations" of the cryptographic details says
// only that a cleartext header names the backing key. The case describes today's blobs of
// KMS.
func kmsBlobLayout(p *kmsProbe) {
	k, other := p.key(), p.key()
	first := p.blob(*k.KeyId, "text", nil)
	second := p.blob(*k.KeyId, "other text", nil)
	foreign := p.blob(*other.KeyId, "text", nil)
	dataKey, err := p.GenerateDataKey(p.ctx, &kms.GenerateDataKeyInput{
		KeyId:   k.KeyId,
		KeySpec: types.DataKeySpecAes256,
	})
	p.must(err)
	moved, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob:   foreign,
		DestinationKeyId: k.KeyId,
	})
	p.must(err)
	for name, c := range map[string]struct {
		blob []byte
		op   byte
	}{
		"Encrypt":         {first, 2},
		"GenerateDataKey": {dataKey.CiphertextBlob, 3},
		"ReEncrypt":       {moved.CiphertextBlob, 2},
	} {
		b := c.blob
		if len(b) < 58 || !bytes.Equal(b[:5], []byte{
			1,
			2,
			c.op,
			0,
			0x78,
		}) || b[37] != 1 || int(binary.BigEndian.Uint32(b[54:58])) != len(b)-58 {
			p.Errorf("the blob of %s has the header %x", name, b[:min(len(b), 58)])
			continue
		}
		var der asn1.RawValue
		if rest, err := asn1.Unmarshal(b[58:], &der); err != nil || len(rest) != 0 {
			p.Errorf("the blob of %s does not end in one DER value: %v", name, err)
		}
		if !bytes.Equal(b[5:37], first[5:37]) {
			p.Errorf("the blob of %s has another key token than one of Encrypt under the same key",
				name)
		}
	}
	if !bytes.Equal(first[:38], second[:38]) || bytes.Equal(first[5:37], foreign[5:37]) {
		p.Error("the key token is not one for each key")
	}
	if overhead := len(first) - len("text"); overhead != 152 {
		p.Errorf("a blob of 4 bytes is %d bytes longer, want 152", overhead)
	}
}
