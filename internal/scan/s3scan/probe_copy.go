package s3scan

import (
	"context"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/awserr"
)

// A copy has two conditions. The condition on the source is as old as S3. The condition on
// the target was added in 2025, and most other servers ignore it. For an object that is
// copied onto itself, both apply to the same object.
//
// If the source condition is not enforced, a concurrent update could get the metadata of the
// previous body and become unreadable. Copies are not used on such a server. If only the
// target condition is not enforced, a copy is consistent, but an update between the time when
// the server reads the source and the time when it stores the copy is lost. In this case the
// object is compared immediately before and after the copy, and a warning is logged.

// probeCopies returns the conditions of CopyObject that the server enforces.
func (b *Bucket) probeCopies(ctx context.Context) (support, error) {
	if g := b.capability(&b.copies); g.known {
		return g.support, nil
	}
	found, err := b.probe(ctx, &b.copies, b.tryCopies)
	switch {
	case err != nil:
	case found == sourceOnly:
		b.warn("bucket %s: this server does not enforce If-Match on CopyObject; "+
			"objects are compared immediately before and after each copy, and an update in "+
			"between could be lost: stop other writers", b.config.Bucket)
	case found == unsupported:
		b.warn("bucket %s: this server does not enforce x-amz-copy-source-if-match on CopyObject; "+
			"if only the metadata of an object changes, its body is read and PUT again, up to 64 "+
			"MiB",
			b.config.Bucket)
	}
	return found, err
}

// probeUploads does the same for UploadPartCopy and CompleteMultipartUpload.
func (b *Bucket) probeUploads(ctx context.Context) (support, error) {
	if g := b.capability(&b.uploads); g.known {
		return g.support, nil
	}
	found, err := b.probe(ctx, &b.uploads, b.tryUploads)
	if err == nil && found == sourceOnly {
		b.warn("bucket %s: this server does not enforce If-Match on CompleteMultipartUpload; "+
			"objects are compared immediately before and after each upload, and an update in "+
			"between could be lost: stop other writers", b.config.Bucket)
	}
	return found, err
}

// ignoreUnsupported returns nil if the error shows that the server does not support the
// request, or if err is nil because the server ignored the condition. It returns other
// errors, which are inconclusive. versitygw returns 304 if a source condition does not hold;
// rotator does not rely on that.
func (b *Bucket) ignoreUnsupported(err error) error {
	if err == nil || isConditionFailed(err) || b.notSupported(err) ||
		awserr.Status(err) == http.StatusNotModified {
		return nil
	}
	return fmt.Errorf("probe conditional copies of bucket %s: %w", b.config.Bucket, err)
}

// tryCopies copies a probe object onto itself: with a wrong source ETag, which must fail;
// with a wrong target ETag, which should fail; and with its own ETag, which must succeed and
// replace the metadata.
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

// copyOntoItself copies a probe object onto itself under the conditions in the request.
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
