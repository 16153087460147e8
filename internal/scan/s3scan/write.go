package s3scan

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/scan"
)

// Batch is the most changes that one Replace takes: S3 has no batched write.
func (b *Bucket) Batch() int { return 1 }

// Replace writes each object under the condition that its ETag is the one that
// was read, and on what was known of the rest a second before at most, or is
// looked at again. A new body that depends on user metadata is never written
// without this check. A new body is written by PUT. If only the metadata is
// new, the object is copied onto itself and its body is not transferred.
func (b *Bucket) Replace(ctx context.Context, changes []scan.Change) []scan.Result {
	results := make([]scan.Result, len(changes))
	for i, change := range changes {
		results[i].Err = b.replace(ctx, change)
	}
	return results
}

// prepare tests, before the first write, which conditions of a copy the server
// enforces, if objects may be copied. The result is therefore logged before
// anything is written.
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
		return errCannotWrite("the change is not one of an object that was read")
	}
	sameBody, sameMetadata := bytes.Equal(before.Body, after.Body), maps.Equal(before.Metadata,
		after.Metadata)
	switch {
	case sameBody && sameMetadata:
		return errCannotWrite("the change changes nothing")
	case !sameBody && !sameMetadata:
		return errCannotWrite("the change is one of body and user metadata, and one write " +
			"replaces one of them")
	case !sameBody && !read.hasBody:
		return errCannotWrite("the change is one of a body that was not read")
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

// absent turns an error that says there is no such object into scan.ErrGone. HEAD
// has no body to name NoSuchKey in, so the SDK calls it NotFound.
func goneError(err error) error {
	if code(err) == "NoSuchKey" || code(err) == "NotFound" {
		return scan.ErrGone
	}
	return err
}

// refuses says that a server did not write because of a condition. A copy may say
// so under status 200 (API_CopyObject, "A 200 OK response can contain either a
// success or an error").
func isConditionFailed(err error) bool {
	switch code(err) {
	case "PreconditionFailed", "ConditionalRequestConflict":
		return true
	}
	return status(err) == http.StatusPreconditionFailed || status(err) == http.StatusConflict
}

// unchanged says scan.ErrChanged when the object is no longer as it was read, or
// has another number of tags than those that will be sent. It is the last request
// before the write.
func (b *Bucket) verifyUnchanged(
	ctx context.Context, key string, read *snapshot, kept preserved,
) error {
	now, err := b.headUnchanged(ctx, key, read)
	if err != nil {
		return err
	}
	return b.verifyTagCount(now, read, kept)
}

// look returns the object as it stands; scan.ErrChanged when that is not as it was
// read.
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
