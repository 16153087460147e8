package s3scan

import (
	"context"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/awserr"
)

// A copy replaces the metadata, which holds the ciphertext, but the ETag does not cover the
// metadata. The time of the last write does. A copy can have the condition that its source
// was not modified since then (API_CopyObject, CopySourceIfUnmodifiedSince). This condition
// replaces the condition on the ETag of the source, because S3 would ignore one of the two,
// and the comparison immediately before the copy. The condition on the ETag of the target
// remains. S3 does not document that it blocks other writers of metadata during a copy.

// settlingTime is the minimum time between the last write and the response after which any
// later write has a different Last-Modified. Last-Modified is in whole seconds, and the
// clocks of the hosts of a service can differ slightly.
const settlingTime = 2 * time.Second

// lastModifiedSettled reports whether this time has passed, by the clock of the service.
func lastModifiedSettled(found *s3.HeadObjectOutput) bool {
	at, ok := awsmiddleware.GetServerTime(found.ResultMetadata)
	return ok && found.LastModified != nil && at.Sub(*found.LastModified) >= settlingTime
}

// copyUnmodified copies the object without another comparison, if its Last-Modified was
// settled when it was read at most staleAfter ago. The age is limited because encryption and
// Object Lock can change without a write. done is false if a comparison is necessary.
func (b *Bucket) copyUnmodified(
	ctx context.Context, in *s3.CopyObjectInput, read *snapshot,
) (done bool, err error) {
	if !read.lastModifiedSettled {
		return false, nil
	}
	unmodified, err := b.probe(ctx, &b.unmodified, b.tryUnmodified)
	if err != nil || unmodified != enforced || !read.fresh() {
		return false, err
	}
	once := *in
	once.CopySourceIfMatch = nil
	once.CopySourceIfUnmodifiedSince = aws.Time(time.Unix(read.properties.modified, 0))

	_, err = b.config.Client.CopyObject(ctx, &once, withExpires(read.properties), b.longTimeout)
	if awserr.Status(err) != http.StatusPreconditionFailed {
		return true, b.writeError("copy", err)
	}
	if _, err := b.headUnchanged(ctx, *in.Key, read); err != nil {
		return true, goneError(err)
	}
	// the object is unchanged, so the service does not implement the condition as documented
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unmodified = capability{known: true, support: unsupported}
	return false, nil
}

// tryUnmodified copies a probe object onto itself with a time before its last write, which
// must fail, and with the time of its last write, which must succeed.
func (b *Bucket) tryUnmodified(
	ctx context.Context, key string,
) (l support, written []string, err error) {
	etag, written, err := b.putProbeObject(ctx, key, nil, aws.String("*"), nil)
	if err != nil {
		return unsupported, written, b.probeError(err)
	}
	found, err := b.head(ctx, &s3.HeadObjectInput{Bucket: &b.config.Bucket, Key: &key})
	if err != nil || found.LastModified == nil {
		return unsupported, written, b.ignoreUnsupported(err)
	}
	more, err := b.copyOntoItself(ctx, key, &s3.CopyObjectInput{
		CopySourceIfUnmodifiedSince: aws.Time(found.LastModified.Add(-time.Hour)),
		IfMatch:                     etag,
	})
	if written = append(written, more...); !isConditionFailed(err) {
		return unsupported, written, b.ignoreUnsupported(err)
	}
	more, err = b.copyOntoItself(ctx, key, &s3.CopyObjectInput{
		CopySourceIfUnmodifiedSince: found.LastModified,
		IfMatch:                     etag,
	})
	if written = append(written, more...); err != nil {
		return unsupported, written, b.ignoreUnsupported(err)
	}
	return enforced, written, nil
}
