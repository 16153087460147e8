package s3scan

import (
	"context"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// The ETag does not cover metadata, where the ciphertext is that a copy replaces. The
// time of the last write does: a copy can have the condition that its source was not
// modified since (API_CopyObject, CopySourceIfUnmodifiedSince). That takes the place of
// the condition on the ETag of the source, since S3 would let the one overrule the
// other, and of the look right before. The ETag of what is overwritten stays a
// condition. Nothing says that S3 holds other writers of metadata back while it copies.

// settling is how much younger than the last write an answer has to be before any
// later write is known to have another Last-Modified: that is in whole seconds, and
// the hosts of a service may differ a little about the time.
const settlingTime = 2 * time.Second

// settled says so, by the clock of the service.
func lastModifiedSettled(found *s3.HeadObjectOutput) bool {
	at, ok := awsmiddleware.GetServerTime(found.ResultMetadata)
	return ok && found.LastModified != nil && at.Sub(*found.LastModified) >= settlingTime
}

// copyUnmodified copies without another look, if the object was settled when it was
// read, and that is not longer ago than staleAfter: encryption and Object Lock can
// change without a write. It is not done where a look is needed.
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
	if status(err) != http.StatusPreconditionFailed {
		return true, b.writeError("copy", err)
	}
	if _, err := b.headUnchanged(ctx, *in.Key, read); err != nil {
		return true, goneError(err)
	}
	b.mu.Lock() // nothing is changed: the service takes the condition for another one
	defer b.mu.Unlock()
	b.unmodified = capability{known: true, support: unsupported}
	return false, nil
}

// tryUnmodified copies an object of our own onto itself, under a time before it was
// written, which must fail, and under the one that it has, which must not.
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
