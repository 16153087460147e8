package s3scan

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/awserr"
	"rotator/internal/scan"
)

// Batch returns 1, because S3 has no batch write.
func (b *Bucket) Batch() int { return 1 }

// Replace writes each object with the condition that it still has the ETag that was read.
// Properties that the ETag does not cover were read at most one second before, or are
// compared again. A new body that depends on user metadata is always compared again. A new
// body is written by PUT. If only the metadata is new, the object is copied onto itself and
// its body is not transferred.
func (b *Bucket) Replace(ctx context.Context, changes []scan.Change) []scan.Result {
	results := make([]scan.Result, len(changes))
	for i, change := range changes {
		results[i].Err = b.replace(ctx, change)
	}
	return results
}

// prepare tests, before the first write, which conditions of a copy the server enforces, if
// objects may be copied. The result is therefore logged before anything is written.
func (b *Bucket) prepare(ctx context.Context) error {
	if b.config.AWS || b.config.NeedsBody == nil {
		return nil
	}
	_, err := b.probeCopies(ctx)
	return err
}

func (b *Bucket) replace(ctx context.Context, change scan.Change) error {
	read, ok := change.Item.Token.(*snapshot)
	before, isObject := change.Item.Payload.(*scan.Object)
	after, fits := change.New.(*scan.Object)
	if !ok || !isObject || !fits || before.Key != after.Key {
		return errCannotWrite("the change is not for an object that was read")
	}
	sameBody, sameMetadata := bytes.Equal(before.Body, after.Body), maps.Equal(before.Metadata,
		after.Metadata)
	switch {
	case sameBody && sameMetadata:
		return errCannotWrite("the change changes nothing")
	case !sameBody && !sameMetadata:
		return errCannotWrite("the change replaces both body and user metadata, and one write " +
			"replaces only one of them")
	case !sameBody && !read.hasBody:
		return errCannotWrite("the change replaces a body that was not read")
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	switch {
	case !sameBody:
		return b.rewrite(ctx, after, read, len(change.Guards) > 0)
	case read.size > maxCopySize || read.checksum.kind == types.ChecksumTypeComposite:
		return b.copyParts(ctx, after, read)
	}
	return b.copyWhole(ctx, after, read)
}

func errCannotWrite(detail string) error {
	return &scan.RefusedError{Reason: "cannot-write", Detail: detail}
}

// goneError returns scan.ErrGone for an error that means that the object does not exist, and
// other errors unchanged. The SDK returns NotFound instead of NoSuchKey for a HEAD, whose
// response has no body.
func goneError(err error) error {
	if awserr.Code(err) == "NoSuchKey" || awserr.Code(err) == "NotFound" {
		return scan.ErrGone
	}
	return err
}

// isConditionFailed reports whether a server refused a write because of its condition. A copy
// can report this with status 200 (API_CopyObject, "A 200 OK response can contain either a
// success or an error").
func isConditionFailed(err error) bool {
	switch awserr.Code(err) {
	case "PreconditionFailed", "ConditionalRequestConflict":
		return true
	}
	return awserr.Status(err) == http.StatusPreconditionFailed ||
		awserr.Status(err) == http.StatusConflict
}

// verifyUnchanged returns scan.ErrChanged if the object is no longer as it was read, or if it
// has a different number of tags than will be sent. It sends the last request before the
// write.
func (b *Bucket) verifyUnchanged(
	ctx context.Context, key string, read *snapshot, kept preserved,
) error {
	now, err := b.headUnchanged(ctx, key, read)
	if err != nil {
		return err
	}
	return b.verifyTagCount(now, read, kept)
}

// headUnchanged returns the current properties of the object, or scan.ErrChanged if they are
// not as they were read.
func (b *Bucket) headUnchanged(
	ctx context.Context, key string, read *snapshot,
) (*s3.HeadObjectOutput, error) {
	now, err := b.head(ctx, &s3.HeadObjectInput{Bucket: &b.config.Bucket, Key: &key})
	if err != nil {
		return nil, fmt.Errorf("head an object of bucket %s: %w", b.config.Bucket, err)
	}
	if propertiesOf(now) != read.properties || !maps.Equal(now.Metadata, read.metadata) {
		return nil, scan.ErrChanged
	}
	return now, nil
}
