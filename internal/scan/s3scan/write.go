package s3scan

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"rotator/internal/scan"
)

// Batch is the most changes that Replace takes: S3 has no batched PUT.
func (b *Bucket) Batch() int { return 1 }

// Replace writes each object by a PUT under the condition that its ETag is the
// one that was read. The ETag does not cover metadata and tags, so these are
// looked at again right before; what changes in the moment between is lost.
func (b *Bucket) Replace(ctx context.Context, changes []scan.Change) []scan.Result {
	results := make([]scan.Result, len(changes))
	for i, change := range changes {
		results[i].Err = b.replace(ctx, change)
	}
	return results
}

func (b *Bucket) replace(ctx context.Context, change scan.Change) error {
	read, ok := change.Item.Token.(*asRead)
	before, isObject := change.Item.Payload.(*scan.Object)
	after, fits := change.New.(*scan.Object)
	switch {
	case !ok || !isObject || !fits:
		return &scan.RefusedError{Reason: "cannot-write", Detail: "the change is not one of an object that was read"}
	case !maps.Equal(before.Metadata, after.Metadata) || bytes.Equal(before.Body, after.Body):
		return &scan.RefusedError{Reason: "cannot-write", Detail: "the change is not one of the body alone"}
	case aws.ToString(read.head.ETag) == "":
		return &scan.RefusedError{Reason: "no-etag", Detail: "the server returned no ETag for it, so it cannot be replaced safely"}
	}
	if err := b.probe(ctx); err != nil {
		return err
	}
	if err := b.unchanged(ctx, before.Key, read); err != nil {
		return err
	}
	_, err := b.config.Client.PutObject(ctx, b.put(after, read), withExpires(read)...)
	return b.writeError(err)
}

func (b *Bucket) writeError(err error) error {
	switch status(err) {
	case 0:
		return nil
	case http.StatusPreconditionFailed, http.StatusConflict:
		return scan.ErrChanged
	case http.StatusNotFound:
		if code(err) != "NoSuchBucket" {
			return scan.ErrGone
		}
	}
	return fmt.Errorf("put an object of bucket %s: %w", b.config.Bucket, err)
}

// unchanged reads again what the ETag does not cover.
func (b *Bucket) unchanged(ctx context.Context, key string, read *asRead) error {
	now, err := b.config.Client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.config.Bucket, Key: &key})
	if status(err) == http.StatusNotFound {
		return scan.ErrGone
	}
	if err != nil {
		return fmt.Errorf("head an object of bucket %s: %w", b.config.Bucket, err)
	}
	if aws.ToString(now.ETag) != aws.ToString(read.head.ETag) || aws.ToString(now.VersionId) != aws.ToString(read.head.VersionId) ||
		!aws.ToTime(now.LastModified).Equal(aws.ToTime(read.head.LastModified)) || !maps.Equal(now.Metadata, read.head.Metadata) {
		return scan.ErrChanged
	}
	// HEAD does not say on every server how many tags there are.
	tags, err := b.tags(ctx, key, max(aws.ToInt32(now.TagCount), aws.ToInt32(read.head.TagCount)))
	if err == nil && tags != read.tags {
		return scan.ErrChanged
	}
	return err
}

// put is the request that replaces the body and sends the rest again.
func (b *Bucket) put(object *scan.Object, read *asRead) *s3.PutObjectInput {
	head := read.head
	in := &s3.PutObjectInput{
		Bucket: &b.config.Bucket, Key: &object.Key, Body: bytes.NewReader(object.Body), ContentLength: aws.Int64(int64(len(object.Body))),
		IfMatch: head.ETag, Metadata: object.Metadata,
		CacheControl: head.CacheControl, ContentDisposition: head.ContentDisposition, ContentEncoding: head.ContentEncoding,
		ContentLanguage: head.ContentLanguage, ContentType: head.ContentType,
		StorageClass: head.StorageClass, WebsiteRedirectLocation: head.WebsiteRedirectLocation,
		ServerSideEncryption: head.ServerSideEncryption, SSEKMSKeyId: head.SSEKMSKeyId, BucketKeyEnabled: head.BucketKeyEnabled,
		ObjectLockMode: head.ObjectLockMode, ObjectLockRetainUntilDate: head.ObjectLockRetainUntilDate,
		ObjectLockLegalHoldStatus: head.ObjectLockLegalHoldStatus,
		ObjectLockEventHold:       head.ObjectLockEventHold, ObjectLockEventHoldDurationDays: head.ObjectLockEventHoldDurationDays,
		ObjectLockEventHoldDurationYears: head.ObjectLockEventHoldDurationYears,
		ChecksumAlgorithm:                checksum(head),
	}
	if read.tags != "" {
		in.Tagging = &read.tags
	}
	set := func(to **string, value string) {
		if value != "" {
			*to = &value
		}
	}
	set(&in.GrantFullControl, read.grants.full)
	set(&in.GrantRead, read.grants.read)
	set(&in.GrantReadACP, read.grants.readACP)
	set(&in.GrantWriteACP, read.grants.writeACP)
	return in
}

// withExpires sends Expires as it was read: it need not be a date, and the SDK
// has only a date for it.
func withExpires(read *asRead) []func(*s3.Options) {
	if raw := aws.ToString(read.head.ExpiresString); raw != "" {
		return []func(*s3.Options){s3.WithAPIOptions(smithyhttp.SetHeaderValue("Expires", raw))}
	}
	return nil
}

// checksum is the algorithm of the checksum that the object had.
func checksum(head *s3.GetObjectOutput) types.ChecksumAlgorithm {
	switch {
	case head.ChecksumSHA256 != nil:
		return types.ChecksumAlgorithmSha256
	case head.ChecksumSHA1 != nil:
		return types.ChecksumAlgorithmSha1
	case head.ChecksumCRC64NVME != nil:
		return types.ChecksumAlgorithmCrc64nvme
	case head.ChecksumCRC32C != nil:
		return types.ChecksumAlgorithmCrc32c
	case head.ChecksumCRC32 != nil:
		return types.ChecksumAlgorithmCrc32
	}
	return "" // the SDK's default
}

func encodeTags(set []types.Tag) string {
	values := url.Values{}
	for _, tag := range set {
		values.Set(aws.ToString(tag.Key), aws.ToString(tag.Value))
	}
	return values.Encode() // sorts, so that equal sets have equal texts
}

// probe finds out, once and before the first write, whether a server that is not
// AWS refuses a PUT whose condition does not hold. It uses a fresh key of its own
// and deletes it again. Where conditions are not enforced nothing may be written.
func (b *Bucket) probe(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.config.AWS || b.probed {
		return nil
	}
	key := b.config.Prefix + ".rotator-probe-" + rand.Text()
	in := func() *s3.PutObjectInput {
		return &s3.PutObjectInput{Bucket: &b.config.Bucket, Key: &key, Body: bytes.NewReader([]byte("rotator probes conditional writes"))}
	}
	first := in()
	first.IfNoneMatch = aws.String("*")
	made, err := b.config.Client.PutObject(ctx, first)
	if err != nil {
		return fmt.Errorf("probe conditional writes of bucket %s: %w", b.config.Bucket, err)
	}
	second := in()
	second.IfMatch = aws.String(`"00000000000000000000000000000000"`)
	_, refused := b.config.Client.PutObject(ctx, second)
	_, removed := b.config.Client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.config.Bucket, Key: &key, VersionId: made.VersionId})
	switch {
	case removed != nil:
		return fmt.Errorf("delete the probe %s of bucket %s: %w", key, b.config.Bucket, removed)
	case status(refused) == http.StatusPreconditionFailed:
		b.probed = true
		return nil
	case refused == nil:
		return &scan.MissingError{Field: "s3", Detail: fmt.Sprintf(
			"this server does not enforce If-Match on PUT, so a concurrent update of bucket %s could be lost; nothing was written", b.config.Bucket)}
	}
	return fmt.Errorf("probe conditional writes of bucket %s: %w", b.config.Bucket, errors.Join(refused))
}
