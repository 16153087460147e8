package s3scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"rotator/internal/scan"
)

// maxBody is the largest object that is read, in bytes. Every worker holds one at
// a time, and another while it is being spliced.
const maxBody = 64 << 20

// Load reads an object whole. scan.ErrGone says that it is not there,
// *scan.RefusedError that it cannot be read and written back as it is.
func (b *Bucket) Load(ctx context.Context, ref scan.Ref) (scan.Item, error) {
	key, err := keyOf(ref)
	if err != nil {
		return scan.Item{}, err
	}
	out, err := b.config.Client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.config.Bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled},
		func(o *s3.Options) { o.DisableLogOutputChecksumValidationSkipped = true })
	if err != nil {
		return scan.Item{}, b.loadError(err)
	}
	defer func() { _ = out.Body.Close() }()
	checksum, err := checksumOf(out)
	if err == nil {
		err = refuse(out)
	}
	if err != nil {
		return scan.Item{}, err
	}
	var body bytes.Buffer
	body.Grow(int(max(0, aws.ToInt64(out.ContentLength))) + bytes.MinRead)
	if _, err := body.ReadFrom(io.LimitReader(out.Body, maxBody+1)); err != nil {
		return scan.Item{}, fmt.Errorf("read an object of bucket %s: %w", b.config.Bucket, err)
	}
	if body.Len() > maxBody {
		return scan.Item{}, errTooLarge()
	}
	return scan.Item{Ref: ref,
		Payload: &scan.Object{Bucket: b.config.Bucket, Key: key, Body: body.Bytes(), Metadata: out.Metadata},
		Token:   &asRead{properties: propertiesOfGet(out), metadata: out.Metadata, checksum: checksum}}, nil
}

func (b *Bucket) loadError(err error) error {
	var api smithy.APIError
	var archived *types.InvalidObjectState
	switch {
	case errors.As(err, &archived) || code(err) == "InvalidObjectState":
		class := "an archive"
		if archived != nil && archived.StorageClass != "" {
			class = string(archived.StorageClass)
		}
		return &scan.RefusedError{Reason: "archived", Detail: fmt.Sprintf(
			"its storage class is %s; restore it, then run retry (a restore costs money, so rotator asks for none)", class)}
	case errors.Is(absent(err), scan.ErrGone):
		return scan.ErrGone
	case errors.As(err, &api) && api.ErrorCode() == "InvalidRequest" && strings.Contains(api.ErrorMessage(), "Encryption"):
		return errCustomerKey() // what a GET without the key is answered with
	}
	return fmt.Errorf("get an object of bucket %s: %w", b.config.Bucket, err)
}

// refuse names what cannot be sent again.
func refuse(out *s3.GetObjectOutput) error {
	switch {
	case aws.ToInt64(out.ContentLength) > maxBody:
		return errTooLarge()
	case aws.ToInt32(out.MissingMeta) > 0:
		return &scan.RefusedError{Reason: "metadata", Detail: "it has user metadata that S3 cannot return as HTTP headers, so a rewrite would lose it"}
	case out.SSECustomerAlgorithm != nil:
		return errCustomerKey()
	case aws.ToString(out.ETag) == "":
		return &scan.RefusedError{Reason: "no-etag", Detail: "the server returned no ETag for it, so it could not be replaced safely"}
	}
	return nil
}

func errCustomerKey() error {
	return &scan.RefusedError{Reason: "sse-c", Detail: "it is encrypted with a customer-provided key (SSE-C), which rotator does not have"}
}

func errTooLarge() error {
	return &scan.RefusedError{Reason: "too-large", Detail: "it is larger than 64 MiB, more than a body format reads"}
}

// checksumOf is the algorithm of the checksum that an object has, so that the
// new body gets one of the same.
func checksumOf(out *s3.GetObjectOutput) (types.ChecksumAlgorithm, error) {
	switch {
	case out.ChecksumSHA512 != nil:
		return types.ChecksumAlgorithmSha512, nil
	case out.ChecksumSHA256 != nil:
		return types.ChecksumAlgorithmSha256, nil
	case out.ChecksumSHA1 != nil:
		return types.ChecksumAlgorithmSha1, nil
	case out.ChecksumCRC64NVME != nil:
		return types.ChecksumAlgorithmCrc64nvme, nil
	case out.ChecksumCRC32C != nil:
		return types.ChecksumAlgorithmCrc32c, nil
	case out.ChecksumCRC32 != nil:
		return types.ChecksumAlgorithmCrc32, nil
	case out.ChecksumMD5 != nil || out.ChecksumXXHASH64 != nil || out.ChecksumXXHASH3 != nil || out.ChecksumXXHASH128 != nil:
		return "", &scan.RefusedError{Reason: "checksum", Detail: "its checksum is an MD5 or XXHash, which the AWS SDK cannot compute for the new body"}
	}
	return "", nil // the SDK's default
}
