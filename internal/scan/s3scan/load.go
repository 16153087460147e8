package s3scan

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/awserr"
	"rotator/internal/scan"
)

// maxBody is the size in bytes of the largest object that is read. Config.Memory limits the
// total size of all bodies in memory.
const maxBody = 64 << 20

// loadAttempts is the number of attempts for an object that changes between HEAD and GET.
const loadAttempts = 3

// Load reads an object, with its body if the body is needed. It returns scan.ErrGone if the
// object does not exist, and a *scan.RefusedError if the object cannot be read and written
// back without loss.
func (b *Bucket) Load(ctx context.Context, ref scan.Ref) (scan.Item, error) {
	key, err := keyOf(ref)
	if err != nil {
		return scan.Item{}, err
	}
	return b.load(ctx, ref, address{key: key})
}

// address is the address of an object, or of one of its versions if version is not "".
type address struct{ key, version string }

// id returns the version for a request, or nil.
func (a address) id() *string {
	if a.version == "" {
		return nil
	}
	return &a.version
}

func (b *Bucket) load(ctx context.Context, ref scan.Ref, at address) (scan.Item, error) {
	key := at.key
	for range loadAttempts {
		if b.config.NeedsBody == nil {
			item, err := b.get(ctx, ref, at, nil)
			if awserr.Status(err) != http.StatusPreconditionFailed {
				return item, err
			}
			continue
		}
		began := time.Now()
		found, err := b.head(ctx, &s3.HeadObjectInput{
			Bucket:       &b.config.Bucket,
			Key:          &key,
			VersionId:    at.id(),
			ChecksumMode: types.ChecksumModeEnabled,
		})
		if err != nil {
			return scan.Item{}, b.loadError("head", err)
		}
		if err := refuse(found); err != nil {
			return scan.Item{}, err
		}
		fits := aws.ToInt64(found.ContentLength) <= maxBody
		if !b.config.NeedsBody(key, found.Metadata) {
			if err := refuseArchived(found); err != nil {
				return scan.Item{}, err
			}
			if !b.config.AllBodies || !fits {
				return b.item(ref, key, found, began, nil, false), nil
			}
		} else if !fits {
			return scan.Item{}, errTooLarge()
		}
		item, err := b.get(ctx, ref, at, found.ETag)
		if awserr.Status(err) != http.StatusPreconditionFailed {
			return item, err
		}
	}
	return scan.Item{}, fmt.Errorf("get an object of bucket %s, between HEAD and GET: %w",
		b.config.Bucket, scan.ErrChanged)
}

// get reads an object and its body, if its ETag is match, and acquires memory budget for the
// body. If the budget is not available, get closes the connection before it waits, because
// the service would close it meanwhile. Then it requests the same ETag again.
func (b *Bucket) get(
	ctx context.Context, ref scan.Ref, at address, match *string,
) (scan.Item, error) {
	began := time.Now()
	out, err := b.open(ctx, at, match)
	if err != nil {
		return scan.Item{}, err
	}
	// a server can omit the length
	size := aws.ToInt64(cmp.Or(out.ContentLength, aws.Int64(maxBody)))
	give, ok := b.config.Memory.TryAcquire(size)
	if !ok {
		_ = out.Body.Close()
		if give, err = b.config.Memory.Acquire(ctx, size); err != nil {
			return scan.Item{}, err
		}
		began = time.Now()
		if out, err = b.open(ctx, at, out.ETag); err != nil {
			give()
			return scan.Item{}, err
		}
	}
	defer func() { _ = out.Body.Close() }()
	body, err := b.readBody(out.Body, out.ContentLength)
	if err != nil {
		give()
		return scan.Item{}, err
	}
	item := b.item(ref, at.key, headOf(out), began, body, true)
	item.Release = give
	return item, nil
}

// readBody reads a body of at most maxBody bytes. If the length is unknown, it reads pieces
// and joins them at the end, because a buffer that doubles would take three times the memory.
func (b *Bucket) readBody(r io.Reader, length *int64) ([]byte, error) {
	most := 64 << 10
	if length != nil {
		most = int(max(0, *length)) + bytes.MinRead
	}
	var pieces [][]byte
	piece, size := make([]byte, 0, most), 0
	for size <= maxBody {
		if len(piece) == cap(piece) {
			pieces, most = append(pieces, piece), min(2*most, 1<<20)
			piece = make([]byte, 0, most)
		}
		n, err := r.Read(piece[len(piece):cap(piece)])
		piece, size = piece[:len(piece)+n], size+n
		switch {
		case err == io.EOF && len(pieces) == 0:
			return piece, nil
		case err == io.EOF:
			return bytes.Join(append(pieces, piece), nil), nil
		case err != nil:
			return nil, fmt.Errorf("read an object of bucket %s: %w", b.config.Bucket, err)
		}
	}
	return nil, errTooLarge()
}

// open sends a GET and returns the response, if the object can be read and written back. The
// caller must close its body.
func (b *Bucket) open(
	ctx context.Context, at address, match *string,
) (*s3.GetObjectOutput, error) {
	out, err := b.config.Client.GetObject(ctx, &s3.GetObjectInput{
		Bucket:       &b.config.Bucket,
		Key:          &at.key,
		VersionId:    at.id(),
		IfMatch:      match,
		ChecksumMode: types.ChecksumModeEnabled,
	},
		func(o *s3.Options) { o.DisableLogOutputChecksumValidationSkipped = true })
	if err != nil {
		return nil, b.loadError("get", err)
	}
	err = refuse(headOf(out))
	if err == nil && aws.ToInt64(out.ContentLength) > maxBody {
		err = errTooLarge()
	}
	if err != nil {
		_ = out.Body.Close()
		return nil, err
	}
	return out, nil
}

// item returns the item for the response to a request that was sent at the time at.
func (b *Bucket) item(
	ref scan.Ref, key string, found *s3.HeadObjectOutput, at time.Time, body []byte, whole bool,
) scan.Item {
	read := &snapshot{
		properties:          propertiesOf(found),
		metadata:            found.Metadata,
		size:                aws.ToInt64(found.ContentLength),
		checksum:            checksumOf(found),
		hasBody:             whole,
		tagCount:            aws.ToInt32(found.TagCount),
		readAt:              at,
		lastModifiedSettled: lastModifiedSettled(found),
	}
	if whole {
		read.size = int64(len(body)) // a server can omit the length
	}
	return scan.Item{Ref: ref, Token: read, Payload: &scan.Object{
		Bucket:          b.config.Bucket,
		Key:             key,
		Body:            body,
		Metadata:        found.Metadata,
		Size:            read.size,
		ServerSideKMS:   read.properties.serverSideKMS(),
		ContentEncoding: read.properties.encoding,
	}}
}

// loadError converts an error of a HEAD or GET.
func (b *Bucket) loadError(doing string, err error) error {
	var archived *types.InvalidObjectState
	switch {
	case errors.As(err, &archived):
		return errArchived(string(archived.StorageClass))
	case awserr.Code(err) == "InvalidObjectState":
		return errArchived("")
	case errors.Is(goneError(err), scan.ErrGone):
		return scan.ErrGone
	case awserr.Code(err) == "InvalidRequest" &&
		strings.Contains(awserr.Message(err), "Encryption"):
		return errCustomerKey() // S3 returns this for a GET without the key
	}
	return fmt.Errorf("%s an object of bucket %s: %w", doing, b.config.Bucket, err)
}

// refuse returns an error for an object with properties that cannot be sent again.
func refuse(found *s3.HeadObjectOutput) error {
	switch {
	case aws.ToInt32(found.MissingMeta) > 0:
		return &scan.RefusedError{
			Reason: "metadata",
			Detail: "it has user metadata that S3 cannot return as HTTP headers, so a rewrite " +
				"would lose it",
		}
	case found.SSECustomerAlgorithm != nil:
		return errCustomerKey()
	case aws.ToString(found.ETag) == "":
		return &scan.RefusedError{
			Reason: "no-etag",
			Detail: "the server returned no ETag for it, so it could not be replaced safely",
		}
	}
	return nil
}

// refuseArchived returns an error for an object that must be restored before it can be copied
// (API_CopyObject, StorageClass). A GET of such an object fails, a HEAD does not.
func refuseArchived(found *s3.HeadObjectOutput) error {
	switch {
	case found.ArchiveStatus != "":
		return errArchived(string(found.ArchiveStatus))
	case found.StorageClass != types.StorageClassGlacier &&
		found.StorageClass != types.StorageClassDeepArchive:
		return nil
	// a restored copy is available
	case strings.Contains(aws.ToString(found.Restore), `ongoing-request="false"`):
		return nil
	}
	return errArchived(string(found.StorageClass))
}

func errArchived(class string) error {
	return &scan.RefusedError{Reason: "archived", Detail: fmt.Sprintf(
		"its storage class is %s; restore it, then run rotator retry (rotator does not restore "+
			"objects, because that incurs charges)", cmp.Or(class, "an archive"))}
}

func errCustomerKey() error {
	return &scan.RefusedError{
		Reason: "sse-c",
		Detail: "it is encrypted with a customer-provided key (SSE-C), which rotator does not have",
	}
}

func errTooLarge() error {
	return &scan.RefusedError{
		Reason: "too-large",
		Detail: "it is larger than 64 MiB, the limit for formats that read the body",
	}
}

// checksumOf returns the checksum of an object.
func checksumOf(found *s3.HeadObjectOutput) checksum {
	for _, one := range []struct {
		algorithm types.ChecksumAlgorithm
		value     *string
	}{
		{types.ChecksumAlgorithmSha512, found.ChecksumSHA512},
		{types.ChecksumAlgorithmSha256, found.ChecksumSHA256},
		{types.ChecksumAlgorithmSha1, found.ChecksumSHA1},
		{types.ChecksumAlgorithmCrc64nvme, found.ChecksumCRC64NVME},
		{types.ChecksumAlgorithmCrc32c, found.ChecksumCRC32C},
		{types.ChecksumAlgorithmCrc32, found.ChecksumCRC32},
		{types.ChecksumAlgorithmMd5, found.ChecksumMD5},
		{types.ChecksumAlgorithmXxhash64, found.ChecksumXXHASH64},
		{types.ChecksumAlgorithmXxhash3, found.ChecksumXXHASH3},
		{types.ChecksumAlgorithmXxhash128, found.ChecksumXXHASH128},
	} {
		if one.value != nil {
			return checksum{algorithm: one.algorithm, kind: found.ChecksumType, value: *one.value}
		}
	}
	return checksum{}
}

// checkPut returns an error if a PUT of a new body would change the kind of the checksum. The
// SDK cannot compute some algorithms. A PUT always has a checksum of the full object, never a
// composite one (API_PutObject, ChecksumType).
func (c checksum) checkPut() error {
	switch c.algorithm {
	case types.ChecksumAlgorithmMd5, types.ChecksumAlgorithmXxhash64,
		types.ChecksumAlgorithmXxhash3, types.ChecksumAlgorithmXxhash128:
		return &scan.RefusedError{
			Reason: "checksum",
			Detail: "its checksum is an MD5 or XXHash, which the AWS SDK cannot compute for the " +
				"new body",
		}
	}
	if c.kind == types.ChecksumTypeComposite {
		return &scan.RefusedError{
			Reason: "checksum",
			Detail: "it has a composite checksum, and a rewrite of its body would replace that " +
				"by a checksum of the full object; copy the object onto itself in one request, " +
				"then run rotator retry",
		}
	}
	return nil
}

// headOf returns the properties in the response to a GET, in the type that HEAD returns.
func headOf(out *s3.GetObjectOutput) *s3.HeadObjectOutput {
	return &s3.HeadObjectOutput{
		ETag:                             out.ETag,
		VersionId:                        out.VersionId,
		LastModified:                     out.LastModified,
		ContentLength:                    out.ContentLength,
		TagCount:                         out.TagCount,
		Metadata:                         out.Metadata,
		MissingMeta:                      out.MissingMeta,
		Restore:                          out.Restore,
		CacheControl:                     out.CacheControl,
		ContentDisposition:               out.ContentDisposition,
		ContentEncoding:                  out.ContentEncoding,
		ContentLanguage:                  out.ContentLanguage,
		ContentType:                      out.ContentType,
		ExpiresString:                    out.ExpiresString,
		WebsiteRedirectLocation:          out.WebsiteRedirectLocation,
		StorageClass:                     out.StorageClass,
		SSECustomerAlgorithm:             out.SSECustomerAlgorithm,
		ServerSideEncryption:             out.ServerSideEncryption,
		SSEKMSKeyId:                      out.SSEKMSKeyId,
		BucketKeyEnabled:                 out.BucketKeyEnabled,
		ObjectLockMode:                   out.ObjectLockMode,
		ObjectLockRetainUntilDate:        out.ObjectLockRetainUntilDate,
		ObjectLockLegalHoldStatus:        out.ObjectLockLegalHoldStatus,
		ObjectLockEventHold:              out.ObjectLockEventHold,
		ObjectLockEventHoldDurationDays:  out.ObjectLockEventHoldDurationDays,
		ObjectLockEventHoldDurationYears: out.ObjectLockEventHoldDurationYears,
		ChecksumType:                     out.ChecksumType,
		ChecksumSHA512:                   out.ChecksumSHA512,
		ChecksumSHA256:                   out.ChecksumSHA256,
		ChecksumSHA1:                     out.ChecksumSHA1,
		ChecksumCRC64NVME:                out.ChecksumCRC64NVME,
		ChecksumCRC32C:                   out.ChecksumCRC32C,
		ChecksumCRC32:                    out.ChecksumCRC32,
		ChecksumMD5:                      out.ChecksumMD5,
		ChecksumXXHASH64:                 out.ChecksumXXHASH64,
		ChecksumXXHASH3:                  out.ChecksumXXHASH3,
		ChecksumXXHASH128:                out.ChecksumXXHASH128,
	}
}
