package clients

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// strongbox is a bucket with data that Tink wrote with tink-go-awskms.
type strongbox struct {
	*Trial
	bucket string
}

// remote returns the KMS client of Tink, which names one key in every request.
func (b *strongbox) remote(arn string, options ...awskms.ClientOption) tink.AEAD {
	b.Helper()
	uri := "aws-kms://" + arn
	client, err := awskms.NewClientWithOptions(b.Context(), uri,
		append(options, awskms.WithKMS(b.KMS()))...)
	b.Must(err)
	remote, err := client.GetAEAD(uri)
	b.Must(err)
	return remote
}

func (b *strongbox) put(key string, body []byte) {
	b.Helper()
	_, err := b.S3().PutObject(b.Context(), &s3.PutObjectInput{
		Bucket: &b.bucket,
		Key:    &key,
		Body:   bytes.NewReader(body),
	})
	b.Must(err)
}

func (b *strongbox) get(key string) []byte {
	b.Helper()
	out, err := b.S3().GetObject(b.Context(), &s3.GetObjectInput{Bucket: &b.bucket, Key: &key})
	b.Must(err)
	var body bytes.Buffer
	_, err = body.ReadFrom(out.Body)
	b.Must(errors.Join(err, out.Body.Close()))
	return body.Bytes()
}

// widened reads with both keys, as a reader must during the cutover. A reader that is configured
// only with A cannot read the ciphertexts that rotator wrote.
func (b *strongbox) widened(
	read func(tink.AEAD) error, options ...awskms.ClientOption,
) func() error {
	return func() error {
		first := read(b.remote(b.A, options...))
		if first == nil {
			return nil
		}
		if err := read(b.remote(b.B, options...)); err != nil {
			return errors.Join(first, err)
		}
		return nil
	}
}

// keyset encrypts a new keyset under A and stores it as JSON. It returns a function that reads the
// keyset and checks that it can decrypt a ciphertext of the original keyset.
func (b *strongbox) keyset(key string, data []byte, options ...awskms.ClientOption) func() error {
	b.Helper()
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	b.Must(err)
	primitive, err := aead.New(handle)
	b.Must(err)
	secret, err := primitive.Encrypt([]byte("a secret"), []byte("of tink"))
	b.Must(err)
	var text bytes.Buffer
	b.Must(handle.WriteWithAssociatedData(keyset.NewJSONWriter(&text), b.remote(b.A, options...),
		data))
	b.put(key, text.Bytes())
	return b.widened(func(remote tink.AEAD) error {
		handle, err := keyset.ReadWithAssociatedData(
			keyset.NewJSONReader(bytes.NewReader(b.get(key))), remote, data)
		if err != nil {
			return err
		}
		primitive, err := aead.New(handle)
		if err != nil {
			return err
		}
		plain, err := primitive.Decrypt(secret, []byte("of tink"))
		return errors.Join(err, Same(string(plain), "a secret"))
	}, options...)
}

// envelope encrypts a text with the KMS envelope AEAD and stores it. It returns a function that
// reads it.
func (b *strongbox) envelope(key, text string, data []byte) func() error {
	b.Helper()
	secret, err := aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(),
		b.remote(b.A)).Encrypt([]byte(text), data)
	b.Must(err)
	b.put(key, secret)
	return b.widened(func(remote tink.AEAD) error {
		plain, err := aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(),
			remote).Decrypt(b.get(key), data)
		return errors.Join(err, Same(string(plain), text))
	})
}

func TestTink(t *testing.T) {
	b := &strongbox{Trial: NewTrial(t), bucket: "boxes"}
	_, err := b.S3().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &b.bucket})
	b.Must(err)
	long := strings.Repeat("a long secret ", 5000)
	b.Judge(Subject{
		Targets: `  - {name: keysets, s3: {bucket: boxes, prefix: keysets/}, format: tink-keyset}
  - name: pay
    s3: {bucket: boxes, prefix: pay/}
    format: tink-keyset
    context: {associatedData: "706179ff"}
  - name: legacy
    s3: {bucket: boxes, prefix: legacy/}
    format: tink-keyset
    context: {additionalData: "706179ff"}
  - {name: envelopes, s3: {bucket: boxes, prefix: envelopes/}, format: tink-envelope}
`,
		Slots: 6, Read: map[string]func() error{
			"keyset":                      b.keyset("keysets/1", nil),
			"keyset with associated data": b.keyset("pay/1", []byte("pay\xff")),
			"keyset of an older release": b.keyset("legacy/1", []byte("pay\xff"),
				awskms.WithEncryptionContextName(awskms.LegacyAdditionalData)),
			"envelope": b.envelope("envelopes/1", "a secret", nil),
			"envelope with associated data": b.envelope("envelopes/2", "a secret",
				[]byte("of the payload")),
			"envelope of a longer payload": b.envelope("envelopes/3", long, nil),
		}})

	// Cutover: a reader that is configured only with A cannot read, even with A enabled.
	b.disable(false)
	if _, err := aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(),
		b.remote(b.A)).Decrypt(b.get("envelopes/1"), nil); err == nil {
		t.Error("a reader that is pinned to A can read: the advice of docs/formats.md is wrong")
	}
}
