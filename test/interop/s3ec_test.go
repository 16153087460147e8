package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/aws/amazon-s3-encryption-client-go/v3/client"
	"github.com/aws/amazon-s3-encryption-client-go/v3/materials"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// vault is a bucket with a client for it, the Amazon S3 Encryption Client for Go v3.2.0.
type vault struct {
	*Trial
	bucket string
	// read has a keyring that decrypts under any key.
	read *client.S3EncryptionClientV3
}

func newVault(t *Trial) *vault {
	v := &vault{Trial: t, bucket: "vault"}
	_, err := t.S3().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &v.bucket})
	t.Must(err)
	v.read = v.client(materials.NewKmsDecryptOnlyAnyKeyKeyring(t.KMS(), func(
		o *materials.KeyringOptions,
	) {
		o.EnableLegacyWrappingAlgorithms = true
	}))
	return v
}

func (v *vault) client(keyring materials.Keyring) *client.S3EncryptionClientV3 {
	v.Helper()
	manager, err := materials.NewCryptographicMaterialsManager(keyring)
	v.Must(err)
	c, err := client.New(v.S3(), manager)
	v.Must(err)
	return c
}

// under returns a context.Context that carries the encryption context for the client.
func (v *vault) under(context map[string]string) context.Context {
	return withEncryptionContext(v.Context(), context)
}

func withEncryptionContext(ctx context.Context, given map[string]string) context.Context {
	return context.WithValue(ctx, client.EncryptionContext,
		given) //lint:ignore SA1029 the client asks for this key
}

// put encrypts an object under A.
func (v *vault) put(key, text string, context map[string]string, change func(*s3.PutObjectInput)) {
	v.Helper()
	in := &s3.PutObjectInput{Bucket: &v.bucket, Key: &key, Body: strings.NewReader(text)}
	if change != nil {
		change(in)
	}
	_, err := v.client(materials.NewKmsKeyring(v.KMS(), v.A)).PutObject(v.under(context), in)
	v.Must(err)
}

// reading returns a function that decrypts an object with the encryption context and compares the
// plaintext with text.
func (v *vault) reading(key, text string, context map[string]string) func() error {
	return func() error {
		out, err := v.read.GetObject(v.under(context), &s3.GetObjectInput{
			Bucket: &v.bucket,
			Key:    &key,
		})
		if err != nil {
			return err
		}
		got, err := io.ReadAll(out.Body)
		return errors.Join(err, out.Body.Close(), Same(string(got), text))
	}
}

// raw returns an object as it is stored.
func (v *vault) raw(key string) (*s3.GetObjectOutput, []byte) {
	v.Helper()
	out, err := v.S3().GetObject(v.Context(), &s3.GetObjectInput{Bucket: &v.bucket, Key: &key})
	v.Must(err)
	body, err := io.ReadAll(out.Body)
	v.Must(errors.Join(err, out.Body.Close()))
	return out, body
}

// rawPut stores body without encrypting it.
func (v *vault) rawPut(key string, body []byte, metadata map[string]string) {
	v.Helper()
	_, err := v.S3().PutObject(v.Context(), &s3.PutObjectInput{
		Bucket:   &v.bucket,
		Key:      &key,
		Body:     bytes.NewReader(body),
		Metadata: metadata,
	})
	v.Must(err)
}

// unchanged checks that only the data key of an object differs from before.
func (v *vault) unchanged(key string, before *s3.GetObjectOutput, body []byte) {
	v.Helper()
	after, now := v.raw(key)
	was, is := maps.Clone(before.Metadata), maps.Clone(after.Metadata)
	for _, name := range []string{"x-amz-key-v2", "x-amz-3"} {
		if was[name] == is[name] && was[name] != "" {
			v.Errorf("%s: %s is the same as before", key, name)
		}
		delete(was, name)
		delete(is, name)
	}
	if !maps.Equal(was, is) || !bytes.Equal(body, now) {
		v.Errorf("%s: metadata was %v and is %v; same body: %v", key, was, is,
			bytes.Equal(body, now))
	}
	headers := func(o *s3.GetObjectOutput) string {
		return fmt.Sprintln(aws.ToString(o.ContentType), aws.ToString(o.ContentLanguage),
			aws.ToString(o.ContentDisposition), aws.ToString(o.CacheControl),
			aws.ToString(o.ExpiresString), aws.ToString(o.WebsiteRedirectLocation), o.StorageClass,
			aws.ToInt32(o.TagCount))
	}
	if headers(before) != headers(after) {
		v.Errorf("%s: headers were %s and are %s", key, headers(before), headers(after))
	}
}

const vaultTargets = "  - s3: {bucket: vault}\n    format: s3-encryption-client\n"

// TestS3EncryptionClient: objects that the client writes with kms+context, and with metadata that
// S3 or HTTP could change.
func TestS3EncryptionClient(t *testing.T) {
	v := newVault(NewTrial(t))
	tenant := map[string]string{"tenant": "t-1", "purpose": `quotes " and \ and <&>`}
	v.put("plain.txt", "a secret", tenant, nil)
	v.put("no context.bin", "another secret", map[string]string{}, nil)
	v.put("odd/key +ü&=%20.txt", strings.Repeat("0123456789", 1000), tenant, func(
		in *s3.PutObjectInput,
	) {
		in.Metadata = map[string]string{
			"Mixed-Case": "Value",
			"spaces":     "two  spaces, a comma",
			"encoded":    "=?UTF-8?Q?caf=C3=A9?=",
			"json":       `{"a":"b"}`,
			"empty":      "",
		}
		in.ContentType = aws.String("text/x-secret; charset=utf-8")
		in.ContentLanguage = aws.String("de, en")
		in.ContentDisposition = aws.String(`attachment; filename="a b.txt"`)
		in.CacheControl = aws.String("no-store")
		in.Tagging = aws.String("team=pay&odd=%2B%20")
		in.StorageClass = types.StorageClassStandardIa
		in.WebsiteRedirectLocation = aws.String("/elsewhere")
	})
	odd, body := v.raw("odd/key +ü&=%20.txt")
	v.Judge(Subject{Targets: vaultTargets, Slots: 3, Read: map[string]func() error{
		"plain":      v.reading("plain.txt", "a secret", tenant),
		"no context": v.reading("no context.bin", "another secret", map[string]string{}),
		"odd":        v.reading("odd/key +ü&=%20.txt", strings.Repeat("0123456789", 1000), tenant),
	}})
	v.unchanged("odd/key +ü&=%20.txt", odd, body)

	// Cutover: a reader that is pinned to B can read. A reader that is pinned to A cannot, even
	// with A enabled.
	v.disable(false)
	v.read = v.client(materials.NewKmsKeyring(v.KMS(), v.B))
	v.Must(v.reading("plain.txt", "a secret", tenant)())
	v.read = v.client(materials.NewKmsKeyring(v.KMS(), v.A))
	if v.reading("plain.txt", "a secret", tenant)() == nil {
		t.Error("a reader that is pinned to A can read: the advice of docs/formats.md is wrong")
	}
}

// TestS3EncryptionClientMultipart: a large object that was uploaded in parts. Its ETag is not an
// MD5 digest, and a copy of it has one part.
func TestS3EncryptionClientMultipart(t *testing.T) {
	v := newVault(NewTrial(t))
	text := strings.Repeat("a large secret, ", 1<<20)
	tenant := map[string]string{"tenant": "t-1"}
	v.put("large.bin", text, tenant, nil)
	single, body := v.raw("large.bin")
	key := aws.String("large.bin")
	created, err := v.S3().CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{
		Bucket:   &v.bucket,
		Key:      key,
		Metadata: single.Metadata,
	})
	v.Must(err)
	var parts []types.CompletedPart
	for rest, number := body, int32(1); len(rest) > 0; number++ {
		n := min(len(rest), 6<<20)
		part, err := v.S3().UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket:     &v.bucket,
			Key:        key,
			UploadId:   created.UploadId,
			PartNumber: &number,
			Body:       bytes.NewReader(rest[:n]),
		})
		v.Must(err)
		parts = append(parts, types.CompletedPart{PartNumber: &number, ETag: part.ETag})
		rest = rest[n:]
	}
	_, err = v.S3().CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
		Bucket:          &v.bucket,
		Key:             key,
		UploadId:        created.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	v.Must(err)
	before, _ := v.raw("large.bin")
	if !strings.HasSuffix(aws.ToString(before.ETag), `-3"`) {
		t.Fatalf("the object has the ETag %s, not one of 3 parts", aws.ToString(before.ETag))
	}
	v.Judge(Subject{
		Targets: vaultTargets,
		Slots:   1,
		Read:    map[string]func() error{"large": v.reading("large.bin", text, tenant)},
	})
	v.unchanged("large.bin", before, body)
}

// TestS3EncryptionClientInstructionFile: the data key is in a separate object, as other versions of
// the client write it.
func TestS3EncryptionClientInstructionFile(t *testing.T) {
	v := newVault(NewTrial(t))
	tenant := map[string]string{"tenant": "t-1"}
	v.put("doc", "a secret", tenant, nil)
	out, body := v.raw("doc")
	v.rawPut("doc", body, nil)
	v.instruction("doc", out.Metadata)
	committed := v.commit("a committed secret", tenant)
	v.rawPut("committed", committed.body, committed.take("x-amz-c", "x-amz-d", "x-amz-i"))
	v.instruction("committed", committed.metadata)
	v.Judge(Subject{Targets: vaultTargets, Slots: 2, Read: map[string]func() error{
		"doc":       v.reading("doc", "a secret", tenant),
		"committed": v.reading("committed", "a committed secret", tenant),
	}})
}

// instruction writes an instruction file: a flat JSON object whose names are in no required order.
func (v *vault) instruction(key string, metadata map[string]string) {
	v.Helper()
	text, err := json.Marshal(metadata)
	v.Must(err)
	v.rawPut(key+".instruction", text, map[string]string{"x-amz-crypto-instr-file": ""})
}
