package s3scan

import (
	"context"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"rotator/internal/awserr"
	"rotator/internal/redact"
	"rotator/internal/scan"
)

// maxConcurrentParts is the maximum number of parts that are copied concurrently, for all
// objects of a bucket.
const maxConcurrentParts = 16

// copyParts is copyWhole with a multipart upload whose parts are copied. It is used for
// objects that are too large for one copy, and for objects with a composite checksum, which
// one copy would not preserve. Tags are sent again. An object with annotations is refused,
// because an upload cannot preserve them.
//
// The object does not change until the upload is completed, which has the same condition as a
// write. If an earlier step fails, the upload is aborted.
func (b *Bucket) copyParts(ctx context.Context, object *scan.Object, read *snapshot) error {
	if err := read.checksum.checkUpload(); err != nil {
		return err
	}
	uploads, err := b.probeUploads(ctx)
	if err != nil {
		return err
	}
	if uploads == unsupported {
		return errCannotCopy("it is too large, or has a composite checksum, for any other " +
			"write")
	}
	kept, _, err := b.readPreserved(ctx, object.Key, false)
	if err == nil {
		// before parts are copied unnecessarily
		err = b.verifyUnchanged(ctx, object.Key, read, kept)
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
		return b.writeError("create a multipart upload for", err)
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

// upload is a multipart upload in progress.
type upload struct {
	key     string
	id      *string
	read    *snapshot
	kept    preserved
	support support // for the conditions of its parts and its completion
}

// checkUpload returns an error if a multipart upload cannot have this checksum. Only CRC
// algorithms support a checksum of the full object (Amazon S3 User Guide, "Checking object
// integrity").
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
		"it has a %s checksum of the full object and is too large for one copy, and S3 does not "+
			"support such a checksum for a multipart upload", c.algorithm)}
}

// copyAndComplete copies the parts. It completes the upload if the object and its preserved
// properties are unchanged.
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

// copyAllParts copies the parts, some of them concurrently.
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

// copyPart copies one part, the bytes from first to last inclusive. An object of one part is
// copied without a range, because ranges require an object of more than 5 MB
// (API_UploadPartCopy).
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
		return types.CompletedPart{}, fmt.Errorf("the server returned no ETag for part %d", number)
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

// createInput returns the request that creates the upload with all properties of the object
// (API_CreateMultipartUpload).
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

// completeInput returns the request that replaces the object. S3 compares the size and, for a
// checksum of the full object, the checksum. A copy has those of its source.
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

// abort deletes the copied parts, even while the run is being stopped. If the upload was
// completed, it no longer exists.
func (b *Bucket) abort(ctx context.Context, up upload) {
	ctx, cancel := scan.Cleanup(ctx)
	defer cancel()
	_, err := b.config.Client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket:   &b.config.Bucket,
		Key:      &up.key,
		UploadId: up.id,
	})
	if err != nil && awserr.Code(err) != "NoSuchUpload" &&
		awserr.Status(err) != http.StatusNotFound {
		b.note("bucket %s: a multipart upload of %s could not be aborted (%s) and incurs storage "+
			"charges; abort it, or let a lifecycle rule abort incomplete uploads",
			b.config.Bucket, refOf(up.key), redact.Code(awserr.Code(err)))
	}
}
