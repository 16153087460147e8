package s3scan

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/scan"
)

// Batch is the most changes that one Replace takes: S3 has no batched PUT.
func (b *Bucket) Batch() int { return 1 }

// Replace writes each object by a PUT under the condition that its ETag is the
// one that was read, and after a look at what the ETag does not cover. It changes
// bodies alone.
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
	case !ok || !isObject || !fits || before.Key != after.Key:
		return &scan.RefusedError{Reason: "cannot-write", Detail: "the change is not one of an object that was read"}
	case !maps.Equal(before.Metadata, after.Metadata):
		return &scan.RefusedError{Reason: "cannot-write", Detail: "the change is one of user metadata, and only bodies can be replaced"}
	case bytes.Equal(before.Body, after.Body):
		return &scan.RefusedError{Reason: "cannot-write", Detail: "the change changes nothing"}
	}
	if err := b.probe(ctx); err != nil {
		return err
	}
	also, err := b.carry(ctx, before.Key)
	if err == nil {
		err = b.unchanged(ctx, before.Key, read, also)
	}
	if err != nil {
		return absent(err)
	}
	_, err = b.config.Client.PutObject(ctx, b.put(after, read, also), withExpires(read.properties))
	if err == nil {
		return nil
	}
	switch status(err) {
	case http.StatusPreconditionFailed, http.StatusConflict: // PreconditionFailed, ConditionalRequestConflict
		return scan.ErrChanged
	}
	return absent(fmt.Errorf("put an object of bucket %s: %w", b.config.Bucket, err))
}

// absent turns an error that says there is no such object into scan.ErrGone. HEAD
// has no body to name NoSuchKey in, so the SDK calls it NotFound.
func absent(err error) error {
	if code(err) == "NoSuchKey" || code(err) == "NotFound" {
		return scan.ErrGone
	}
	return err
}

// unchanged says scan.ErrChanged when the object is no longer as it was read. It
// is the last request before the PUT.
func (b *Bucket) unchanged(ctx context.Context, key string, read *asRead, also carried) error {
	now, err := b.head(ctx, &s3.HeadObjectInput{Bucket: &b.config.Bucket, Key: &key})
	if err != nil {
		return fmt.Errorf("head an object of bucket %s: %w", b.config.Bucket, err)
	}
	if propertiesOfHead(now) != read.properties || !maps.Equal(now.Metadata, read.metadata) {
		return scan.ErrChanged
	}
	if now.TagCount != nil && *now.TagCount != also.count {
		return scan.ErrChanged
	}
	return nil
}
