package s3scan

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// A copy has two conditions: one of what is copied, which S3 has always had, and
// one of what is overwritten, which is of 2025 and which most other servers ignore
// without a word. An object that is copied onto itself is both. The first must be
// enforced. Where the second is not, an update that comes between the moment when
// the server looks at the source and that when it stores the copy is lost; we look
// at the object right before and right after, and say so.

// probeCopies finds out which conditions of CopyObject the server enforces.
func (b *Bucket) probeCopies(ctx context.Context) (enforced bool, err error) {
	enforced, err = b.probe(ctx, &b.copies, b.tryCopies)
	if err == nil && !enforced {
		b.note("bucket %s: this server does not enforce If-Match of what CopyObject overwrites; objects are looked at right before and after each copy, and an update in between could be lost: stop other writers", b.config.Bucket)
	}
	return enforced, err
}

// probeUploads does the same for CompleteMultipartUpload, and parts that are
// copies.
func (b *Bucket) probeUploads(ctx context.Context) (enforced bool, err error) {
	enforced, err = b.probe(ctx, &b.uploads, b.tryUploads)
	if err == nil && !enforced {
		b.note("bucket %s: this server does not enforce If-Match on CompleteMultipartUpload; objects are looked at right before and after each, and an update in between could be lost: stop other writers", b.config.Bucket)
	}
	return enforced, err
}

const (
	ofSource  = "x-amz-copy-source-if-match on CopyObject"
	ofReplace = "MetadataDirective=REPLACE on CopyObject"
	ofParts   = "x-amz-copy-source-if-match on UploadPartCopy"
)

// tryCopies copies an object of our own onto itself: under a wrong ETag of the
// source, which must fail; under a wrong one of what is overwritten, which should;
// under its own, which must not, and must put the new metadata in place.
func (b *Bucket) tryCopies(ctx context.Context, key string) (enforced bool, written []string, err error) {
	etag, written, err := b.plant(ctx, key, nil, aws.String("*"))
	if err != nil {
		return false, written, b.probeError("If-None-Match on PUT", err)
	}
	onto := func(source, target *string) error {
		out, err := b.config.Client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &b.config.Bucket, Key: &key, CopySource: b.copySource(key),
			CopySourceIfMatch: source, IfMatch: target, MetadataDirective: types.MetadataDirectiveReplace, Metadata: map[string]string{"probe": "copied"}})
		if err != nil {
			written = append(written, maybe(err)...)
			return err
		}
		written = append(written, aws.ToString(out.VersionId))
		return nil
	}
	if err := onto(aws.String(wrongETag), nil); !refuses(err) {
		return false, written, b.probeError(ofSource, err)
	}
	err = onto(etag, aws.String(wrongETag))
	enforced = refuses(err)
	if !enforced && err != nil && !b.lacks(err) {
		return false, written, b.probeError("If-Match on CopyObject", err)
	}
	target := etag
	if !enforced {
		target = nil
	}
	if err := onto(etag, target); err != nil {
		return false, written, b.probeError(ofSource, err)
	}
	now, err := b.head(ctx, &s3.HeadObjectInput{Bucket: &b.config.Bucket, Key: &key})
	if err != nil {
		return false, written, b.probeError(ofReplace, err)
	}
	if now.Metadata["probe"] != "copied" {
		return false, written, b.probeError(ofReplace, nil)
	}
	return enforced, written, nil
}

// tryUploads does the same with an upload of one part.
func (b *Bucket) tryUploads(ctx context.Context, key string) (enforced bool, written []string, err error) {
	etag, written, err := b.plant(ctx, key, nil, aws.String("*"))
	if err != nil {
		return false, written, b.probeError("If-None-Match on PUT", err)
	}
	out, err := b.config.Client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.config.Bucket, Key: &key})
	if err != nil {
		return false, written, b.probeError(ofParts, err)
	}
	up := upload{key: key, id: out.UploadId, read: &asRead{properties: properties{etag: wrongETag}}}
	defer b.abort(ctx, up)
	if _, err := b.copyPart(ctx, up, 1, 0, 0); !refuses(err) {
		return false, written, b.probeError(ofParts, err)
	}
	up.read.properties.etag = aws.ToString(etag)
	part, err := b.copyPart(ctx, up, 1, 0, 0)
	if err != nil {
		return false, written, b.probeError(ofParts, err)
	}
	done, err := b.config.Client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &b.config.Bucket, Key: &key, UploadId: up.id,
		IfMatch: aws.String(wrongETag), MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{part}}})
	switch {
	case err == nil:
		return false, append(written, aws.ToString(done.VersionId)), nil
	case refuses(err):
		return true, written, nil
	case b.lacks(err):
		return false, written, nil
	}
	return false, append(written, maybe(err)...), b.probeError("If-Match on CompleteMultipartUpload", err)
}
