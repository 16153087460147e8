package s3scan

import (
	"context"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"rotator/internal/redact"
	"rotator/internal/scan"
)

// partsAtOnce is how many parts of all objects of a bucket are copied at the same
// time.
const maxConcurrentParts = 16

// copyParts does what copyWhole does, by an upload whose parts are copies: for
// objects that are too large for one copy, and for those whose checksum is made of
// the checksums of their parts, which one copy would lose. Tags are sent again, and
// an object with annotations is refused, since no upload can carry them.
//
// Nobody sees the object changed until the upload is completed, and that has the
// condition of a write. Whatever fails before it, the upload is aborted.
func (b *Bucket) copyParts(ctx context.Context, object *scan.Object, read *snapshot) error {
	if err := read.checksum.checkUpload(); err != nil {
		return err
	}
	uploads, err := b.probeUploads(ctx)
	if err != nil {
		return err
	}
	if uploads == unsupported {
		return errCannotCopy("it is too large, or its checksum is one of parts, for any other " +
			"write")
	}
	kept, _, err := b.readPreserved(ctx, object.Key, false)
	if err == nil {
		err = b.verifyUnchanged(ctx, object.Key, read, kept) // before much is copied for nothing
	}
	if err != nil {
		return goneError(err)
	}
	size, err := b.partSize(ctx, object.Key, read)
	if err != nil {
		return b.writeError("head the first part of", err)
	}
	out, err := b.config.Client.CreateMultipartUpload(ctx, b.createInput(object, read, kept),
		withExpires(read.properties))
	if err != nil {
		return b.writeError("begin to copy", err)
	}
	up := upload{key: object.Key, id: out.UploadId, read: read, kept: kept, support: uploads}
	done, err := b.copyAndComplete(ctx, up, size)
	if err != nil {
		b.abort(ctx, up)
		return b.writeError("copy", err)
	}
	if uploads == enforced {
		return nil
	}
	return b.verifyWritten(ctx, object, read, writeResult{
		etag:     aws.ToString(done.ETag),
		version:  aws.ToString(done.VersionId),
		tagCount: &kept.tagCount,
	})
}

// upload is a multipart upload under way.
type upload struct {
	key     string
	id      *string
	read    *snapshot
	kept    preserved
	support support // of the conditions of its parts and its completion
}

// ofParts refuses a checksum that an upload in parts cannot have (Checking object
// integrity): only a CRC can be of the whole object.
func (c checksum) checkUpload() error {
	switch c.algorithm {
	case "", types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmCrc32c,
		types.ChecksumAlgorithmCrc64nvme:
		return nil
	}
	if c.kind == types.ChecksumTypeComposite {
		return nil
	}
	return &scan.RefusedError{Reason: "checksum", Detail: fmt.Sprintf(
		"it has a %s of the whole object and is too large for one copy, and S3 computes none for "+
			"an upload in parts", c.algorithm)}
}

// fill copies the parts, and completes the upload if the object, and all that was
// sent along, is still as it was.
func (b *Bucket) copyAndComplete(
	ctx context.Context, up upload, size int64,
) (*s3.CompleteMultipartUploadOutput, error) {
	parts, err := b.copyAllParts(ctx, up, size)
	if err != nil {
		return nil, err
	}
	kept, _, err := b.readPreserved(ctx, up.key, false)
	if err != nil {
		return nil, err
	}
	if kept != up.kept {
		return nil, scan.ErrChanged
	}
	in := b.completeInput(up, parts)
	if err := b.verifyUnchanged(ctx, up.key, up.read, kept); err != nil {
		return nil, err
	}
	return b.config.Client.CompleteMultipartUpload(ctx, in, b.longTimeout)
}

// copyEach copies the parts, some at a time.
func (b *Bucket) copyAllParts(
	ctx context.Context, up upload, size int64,
) ([]types.CompletedPart, error) {
	count := max(1, (up.read.size+size-1)/size)
	parts := make([]types.CompletedPart, count)
	group, ctx := errgroup.WithContext(ctx)
	for i := range parts {
		select {
		case b.partPermits <- struct{}{}:
		case <-ctx.Done():
			if err := group.Wait(); err != nil {
				return nil, err
			}
			return nil, ctx.Err()
		}
		group.Go(func() error {
			defer func() { <-b.partPermits }()
			first := int64(i) * size
			part, err := b.copyPart(ctx, up, int32(i+1), first, min(up.read.size, first+size)-1)
			parts[i] = part
			return err
		})
	}
	return parts, group.Wait()
}

// copyPart copies one part, the bytes from first to last. An object of one part is
// copied without a range (API_UploadPartCopy: ranges are of objects over 5 MB).
func (b *Bucket) copyPart(
	ctx context.Context, up upload, number int32, first, last int64,
) (types.CompletedPart, error) {
	in := &s3.UploadPartCopyInput{
		Bucket:            &b.config.Bucket,
		Key:               &up.key,
		UploadId:          up.id,
		PartNumber:        &number,
		CopySource:        b.copySource(up.key),
		CopySourceIfMatch: &up.read.properties.etag,
	}
	if last-first+1 < up.read.size {
		in.CopySourceRange = aws.String(fmt.Sprintf("bytes=%d-%d", first, last))
	}
	out, err := b.config.Client.UploadPartCopy(ctx, in, b.longTimeout)
	if err != nil {
		return types.CompletedPart{}, err
	}
	copied := out.CopyPartResult
	if copied == nil {
		return types.CompletedPart{}, fmt.Errorf("the server names no ETag for part %d", number)
	}
	return types.CompletedPart{
		PartNumber:        &number,
		ETag:              copied.ETag,
		ChecksumCRC32:     copied.ChecksumCRC32,
		ChecksumCRC32C:    copied.ChecksumCRC32C,
		ChecksumCRC64NVME: copied.ChecksumCRC64NVME,
		ChecksumMD5:       copied.ChecksumMD5,
		ChecksumSHA1:      copied.ChecksumSHA1,
		ChecksumSHA256:    copied.ChecksumSHA256,
		ChecksumSHA512:    copied.ChecksumSHA512,
		ChecksumXXHASH64:  copied.ChecksumXXHASH64,
		ChecksumXXHASH3:   copied.ChecksumXXHASH3,
		ChecksumXXHASH128: copied.ChecksumXXHASH128,
	}, nil
}

// createInput is the request that begins the upload, with all that the object has
// beside its body (API_CreateMultipartUpload).
func (b *Bucket) createInput(
	object *scan.Object, read *snapshot, kept preserved,
) *s3.CreateMultipartUploadInput {
	p := read.properties
	in := &s3.CreateMultipartUploadInput{
		Bucket:                           &b.config.Bucket,
		Key:                              &object.Key,
		Metadata:                         object.Metadata,
		Tagging:                          optional(kept.tags),
		ChecksumAlgorithm:                read.checksum.algorithm,
		ChecksumType:                     read.checksum.kind,
		CacheControl:                     optional(p.cacheControl),
		ContentDisposition:               optional(p.disposition),
		ContentEncoding:                  optional(p.encoding),
		ContentLanguage:                  optional(p.language),
		ContentType:                      optional(p.contentType),
		WebsiteRedirectLocation:          optional(p.redirect),
		StorageClass:                     p.class,
		ServerSideEncryption:             p.encryption,
		SSEKMSKeyId:                      optional(p.kmsKey),
		BucketKeyEnabled:                 p.bucketKeyEnabled(),
		ObjectLockLegalHoldStatus:        p.legalHold,
		ObjectLockEventHold:              p.eventHold,
		ObjectLockEventHoldDurationDays:  positive(p.holdDays),
		ObjectLockEventHoldDurationYears: positive(p.holdYears),
		GrantFullControl:                 optional(kept.grants.full),
		GrantRead:                        optional(kept.grants.read),
		GrantReadACP:                     optional(kept.grants.readACP),
		GrantWriteACP:                    optional(kept.grants.writeACP),
	}
	in.ObjectLockMode, in.ObjectLockRetainUntilDate = p.retention()
	if read.checksum.algorithm == "" {
		in.ChecksumType = ""
	}
	return in
}

// completeInput is the request that puts the new object in the place of the one
// that was read. S3 compares size and, where it is one of the whole object, the
// checksum: a copy has those of its source.
func (b *Bucket) completeInput(
	up upload, parts []types.CompletedPart,
) *s3.CompleteMultipartUploadInput {
	in := &s3.CompleteMultipartUploadInput{
		Bucket:          &b.config.Bucket,
		Key:             &up.key,
		UploadId:        up.id,
		MpuObjectSize:   &up.read.size,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}
	if up.support == enforced {
		in.IfMatch = &up.read.properties.etag
	}
	sum := up.read.checksum
	if sum.kind != types.ChecksumTypeFullObject {
		return in
	}
	in.ChecksumType = sum.kind
	switch sum.algorithm {
	case types.ChecksumAlgorithmCrc32:
		in.ChecksumCRC32 = &sum.value
	case types.ChecksumAlgorithmCrc32c:
		in.ChecksumCRC32C = &sum.value
	case types.ChecksumAlgorithmCrc64nvme:
		in.ChecksumCRC64NVME = &sum.value
	}
	return in
}

// abort gives the parts back, also when the run is being stopped. Where the upload
// was completed after all, it is not there any more.
func (b *Bucket) abort(ctx context.Context, up upload) {
	ctx, cancel := scan.Cleanup(ctx)
	defer cancel()
	_, err := b.config.Client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket:   &b.config.Bucket,
		Key:      &up.key,
		UploadId: up.id,
	})
	if err != nil && code(err) != "NoSuchUpload" && status(err) != http.StatusNotFound {
		b.note("bucket %s: an upload of parts of %s is left (%s), and costs money; abort it, or "+
			"let a lifecycle rule abort incomplete uploads",
			b.config.Bucket, refOf(up.key), redact.Code(code(err)))
	}
}
