package s3scan

import (
	"context"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// A copy has two conditions: one of what is copied, which S3 has always had, and
// one of what is overwritten, which is of 2025 and which most other servers ignore
// without a word. An object that is copied onto itself is both.
//
// Without the first, the body of an update that comes in between would get the
// metadata of the body before: nobody could read it. So such a server gets no copy.
// Without the second alone, a copy is whole, and an update is lost that comes
// between the moment when the server looks at the source and that when it stores
// the copy. We look at the object right before and right after, and say so.

// probeCopies finds out which conditions of CopyObject the server enforces.
func (b *Bucket) probeCopies(ctx context.Context) (support, error) {
	if g := b.capability(&b.copies); g.known {
		return g.support, nil
	}
	found, err := b.probe(ctx, &b.copies, b.tryCopies)
	switch {
	case err != nil:
	case found == sourceOnly:
		b.warn("bucket %s: this server does not enforce If-Match on CopyObject; "+
			"objects are checked right before and after each copy, and an update in between "+
			"could be lost: stop other writers", b.config.Bucket)
	case found == unsupported:
		b.warn("bucket %s: this server does not enforce x-amz-copy-source-if-match on CopyObject; "+
			"objects are read and PUT again if only their metadata changes, up to 64 MiB each",
			b.config.Bucket)
	}
	return found, err
}

// probeUploads does the same for CompleteMultipartUpload, and parts that are
// copies.
func (b *Bucket) probeUploads(ctx context.Context) (support, error) {
	if g := b.capability(&b.uploads); g.known {
		return g.support, nil
	}
	found, err := b.probe(ctx, &b.uploads, b.tryUploads)
	if err == nil && found == sourceOnly {
		b.warn("bucket %s: this server does not enforce If-Match on CompleteMultipartUpload; "+
			"objects are checked right before and after each upload, and an update in between "+
			"could be lost: stop other writers", b.config.Bucket)
	}
	return found, err
}

// without tells a server that does not have what was tried from one that did not
// answer; err is nil when it wrote against the condition. 304 is what versitygw
// answers to a condition of the source that does not hold: it is not relied on.
func (b *Bucket) ignoreUnsupported(err error) error {
	if err == nil || isConditionFailed(err) || b.notSupported(err) ||
		status(err) == http.StatusNotModified {
		return nil
	}
	return fmt.Errorf("probe conditional copies of bucket %s: %w", b.config.Bucket, err)
}

// tryCopies copies an object of our own onto itself: under a wrong ETag of the
// source, which must fail; under a wrong one of what is overwritten, which should;
// under its own, which must not, and must put the new metadata in place.
func (b *Bucket) tryCopies(
	ctx context.Context, key string,
) (found support, written []string, err error) {
	etag, written, err := b.putProbeObject(ctx, key, nil, aws.String("*"), nil)
	if err != nil {
		return unsupported, written, b.probeError(err)
	}
	onto := func(source, target *string) error {
		more, err := b.copyOntoItself(ctx, key, &s3.CopyObjectInput{
			CopySourceIfMatch: source,
			IfMatch:           target,
		})
		written = append(written, more...)
		return err
	}
	if err := onto(aws.String(wrongETag), nil); !isConditionFailed(err) {
		return unsupported, written, b.ignoreUnsupported(err)
	}
	found, target := enforced, etag
	if err := onto(etag, aws.String(wrongETag)); !isConditionFailed(err) {
		if found, target = sourceOnly, nil; b.ignoreUnsupported(err) != nil {
			return unsupported, written, b.ignoreUnsupported(err)
		}
	}
	if err := onto(etag, target); err != nil {
		return unsupported, written, b.ignoreUnsupported(err)
	}
	now, err := b.head(ctx, &s3.HeadObjectInput{Bucket: &b.config.Bucket, Key: &key})
	if err != nil || now.Metadata["probe"] != "copied" {
		return unsupported, written, b.ignoreUnsupported(err)
	}
	return found, written, nil
}

// ontoItself copies the object of a probe onto itself, under the conditions of in.
func (b *Bucket) copyOntoItself(
	ctx context.Context, key string, in *s3.CopyObjectInput,
) (written []string, err error) {
	in.Bucket, in.Key, in.CopySource = &b.config.Bucket, &key, b.copySource(key)
	in.MetadataDirective, in.Metadata = types.MetadataDirectiveReplace, map[string]string{
		"probe": "copied",
	}
	out, err := b.config.Client.CopyObject(ctx, in)
	if err != nil {
		return possiblyWritten(err), err
	}
	return []string{aws.ToString(out.VersionId)}, nil
}

// tryUploads does the same with an upload of one part.
func (b *Bucket) tryUploads(
	ctx context.Context, key string,
) (found support, written []string, err error) {
	etag, written, err := b.putProbeObject(ctx, key, nil, aws.String("*"), nil)
	if err != nil {
		return unsupported, written, b.probeError(err)
	}
	out, err := b.config.Client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &b.config.Bucket,
		Key:    &key,
	})
	if err != nil {
		return unsupported, written, b.ignoreUnsupported(err)
	}
	up := upload{
		key:  key,
		id:   out.UploadId,
		read: &snapshot{properties: properties{etag: wrongETag}},
	}
	defer b.abort(ctx, up)
	if _, err := b.copyPart(ctx, up, 1, 0, 0); !isConditionFailed(err) {
		return unsupported, written, b.ignoreUnsupported(err)
	}
	up.read.properties.etag = aws.ToString(etag)
	part, err := b.copyPart(ctx, up, 1, 0, 0)
	if err != nil {
		return unsupported, written, b.ignoreUnsupported(err)
	}
	done, err := b.config.Client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket:          &b.config.Bucket,
		Key:             &key,
		UploadId:        up.id,
		IfMatch:         aws.String(wrongETag),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{part}},
	})
	switch {
	case err == nil:
		return sourceOnly, append(written, aws.ToString(done.VersionId)), nil
	case isConditionFailed(err):
		return enforced, written, nil
	}
	return sourceOnly, append(written, possiblyWritten(err)...), b.ignoreUnsupported(err)
}
