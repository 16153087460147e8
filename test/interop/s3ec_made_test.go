package clients

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// The tests in this file write objects according to the specification of the format
// (github.com/awslabs/aws-encryption-sdk-specification, s3-encryption/), and read them with the
// real client: v3.2.0 can read the objects of v4 and of earlier SDKs.

// made is an encrypted object.
type made struct {
	body     []byte
	metadata map[string]string
}

// take removes entries from the metadata and returns them.
func (m made) take(names ...string) map[string]string {
	taken := map[string]string{}
	for _, name := range names {
		taken[name] = m.metadata[name]
		delete(m.metadata, name)
	}
	return taken
}

// dataKey generates a data key under A.
func (v *vault) dataKey(context map[string]string) (plain []byte, wrapped string) {
	v.Helper()
	out, err := v.KMS().GenerateDataKey(v.Context(), &kms.GenerateDataKeyInput{
		KeyId:             &v.A,
		KeySpec:           types.DataKeySpecAes256,
		EncryptionContext: context,
	})
	v.Must(err)
	return out.Plaintext, base64.StdEncoding.EncodeToString(out.CiphertextBlob)
}

func (v *vault) gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	v.Must(err)
	aead, err := cipher.NewGCM(block)
	v.Must(err)
	return aead
}

func text(v any) string {
	b, _ := json.Marshal(v) // never fails for maps of strings
	return string(b)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// commit creates an object of format v3, with key commitment. The encryption key and the
// commitment key are derived from the data key with HKDF-SHA512 and the message ID as salt
// (s3-encryption/key-derivation.md). The additional authenticated data of the content is the
// algorithm suite, 0x0073.
func (v *vault) commit(secret string, context map[string]string) made {
	v.Helper()
	full := map[string]string{"aws:x-amz-cek-alg": "115"}
	for name, value := range context {
		full[name] = value
	}
	dataKey, wrapped := v.dataKey(full)
	id, suite := random(28), "\x00\x73"
	key, err := hkdf.Key(sha512.New, dataKey, id, suite+"DERIVEKEY", 32)
	v.Must(err)
	commitment, err := hkdf.Key(sha512.New, dataKey, id, suite+"COMMITKEY", 28)
	v.Must(err)
	return made{
		v.gcm(key).Seal(nil, bytes.Repeat([]byte{1}, 12), []byte(secret), []byte(suite)),
		map[string]string{
			"x-amz-3": wrapped,
			"x-amz-w": "12",
			"x-amz-c": "115",
			"x-amz-t": text(full),
			"x-amz-d": base64.StdEncoding.EncodeToString(commitment),
			"x-amz-i": base64.StdEncoding.EncodeToString(id),
		},
	}
}

// v2 creates an object of format v2 with a wrapping algorithm and an encryption context.
func (v *vault) v2(secret, wrap string, context map[string]string) made {
	v.Helper()
	dataKey, wrapped := v.dataKey(context)
	iv := random(12)
	return made{v.gcm(dataKey).Seal(nil, iv, []byte(secret), nil), map[string]string{
		"x-amz-key-v2":                     wrapped,
		"x-amz-iv":                         base64.StdEncoding.EncodeToString(iv),
		"x-amz-matdesc":                    text(context),
		"x-amz-wrap-alg":                   wrap,
		"x-amz-cek-alg":                    "AES/GCM/NoPadding",
		"x-amz-tag-len":                    "128",
		"x-amz-unencrypted-content-length": fmt.Sprint(len(secret)),
	}}
}

// TestS3EncryptionClientGenerations: objects of v4, v3 and SDKs before 2020 in one bucket are moved
// in one run.
func TestS3EncryptionClientGenerations(t *testing.T) {
	v := newVault(NewTrial(t))
	tenant := map[string]string{"tenant": "t-1"}
	committed := v.commit("a committed secret", tenant)
	v.rawPut("v4", committed.body, committed.metadata)
	old := v.v2("an old secret", "kms", map[string]string{"kms_cmk_id": v.A, "tenant": "t-1"})
	v.rawPut("v1 sdk", old.body, old.metadata)
	v.put("v3", "a secret", tenant, nil)
	before, body := v.raw("v4")
	v.Judge(Subject{Targets: vaultTargets, Slots: 3, Read: map[string]func() error{
		"v4":     v.reading("v4", "a committed secret", tenant),
		"v1 sdk": v.reading("v1 sdk", "an old secret", tenant),
		"v3":     v.reading("v3", "a secret", tenant),
	}})
	v.unchanged("v4", before, body)
}

// TestS3EncryptionClientNotASCII: S3 interprets the bytes of metadata as Latin-1 and returns
// characters other than ASCII as encoded words of RFC 2047 in UTF-8. UTF-8 text is therefore
// encoded twice, and clients decode it twice.
func TestS3EncryptionClientNotASCII(t *testing.T) {
	v := newVault(NewTrial(t))
	tenant := map[string]string{"tenant": "größe ✓"}
	object := v.v2("a secret", "kms+context", map[string]string{
		"tenant":            tenant["tenant"],
		"aws:x-amz-cek-alg": "AES/GCM/NoPadding",
	})
	object.metadata["x-amz-matdesc"] = asS3Returns(object.metadata["x-amz-matdesc"])
	v.rawPut("doc", object.body, object.metadata)
	before, body := v.raw("doc")
	v.Judge(Subject{
		Targets: vaultTargets,
		Slots:   1,
		Read:    map[string]func() error{"doc": v.reading("doc", "a secret", tenant)},
	})
	v.unchanged("doc", before, body)
}

func asS3Returns(value string) string {
	var word strings.Builder
	for _, b := range []byte(value) {
		for _, c := range []byte(string(rune(b))) {
			fmt.Fprintf(&word, "=%02X", c)
		}
	}
	return "=?UTF-8?Q?" + word.String() + "?="
}
