package s3scan

import (
	"bytes"
	"context"
	"fmt"
	"maps"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/awserr"
	"rotator/internal/scan"
)

// rewrite replaces the body by a PUT with the condition that the object still has the ETag
// that was read. Properties that the ETag does not cover are compared again immediately
// before, unless the GET returned all of them at most staleAfter ago.
//
// If guarded is set, the body depends on user metadata, and a HEAD always checks the object.
// An edit of the metadata between this HEAD and the PUT is lost: the PUT stores body and
// metadata together as they were read, so they still match.
func (b *Bucket) rewrite(
	ctx context.Context, object *scan.Object, read *snapshot, guarded bool,
) error {
	if err := read.checksum.checkPut(); err != nil {
		return err
	}
	if err := b.probePuts(ctx); err != nil {
		return err
	}
	untagged, err := b.knownUntagged(ctx, read)
	if err != nil {
		return err
	}
	kept, more, err := b.readPreserved(ctx, object.Key, untagged)
	if err == nil && (more || guarded || !read.fresh()) {
		err = b.verifyUnchanged(ctx, object.Key, read, kept)
	}
	if err != nil {
		return goneError(err)
	}
	_, err = b.config.Client.PutObject(ctx, b.put(object, read, kept), withExpires(read.properties))
	return b.writeError("put", err)
}

// rewriteMetadata replaces the metadata by a PUT of the unchanged body. It is used on servers
// that do not enforce the conditions of copies, for objects of at most maxBody bytes.
func (b *Bucket) rewriteMetadata(ctx context.Context, object *scan.Object, read *snapshot) error {
	if read.size > maxBody {
		return errCannotCopy("it is larger than 64 MiB, the limit for reading and writing an " +
			"object again")
	}
	if read.hasBody {
		return b.rewrite(ctx, object, read, true)
	}
	item, err := b.get(ctx, refOf(object.Key), address{key: object.Key}, &read.properties.etag)
	if isConditionFailed(err) {
		return scan.ErrChanged
	}
	if err != nil {
		return err
	}
	defer item.Release()
	now, withBody := item.Token.(*snapshot), *object
	if now.properties != read.properties || !maps.Equal(now.metadata, read.metadata) {
		return scan.ErrChanged
	}
	withBody.Body = item.Payload.(*scan.Object).Body
	return b.rewrite(ctx, &withBody, now, true)
}

func errCannotCopy(why string) error {
	return &scan.RefusedError{
		Reason: "cannot-copy",
		Detail: "this server does not enforce the conditions of copies, so a concurrent update " +
			"could be lost, and " + why,
	}
}

// put returns the request that replaces the body and sends all other properties again
// (API_PutObject).
func (b *Bucket) put(object *scan.Object, read *snapshot, kept preserved) *s3.PutObjectInput {
	p := read.properties
	in := &s3.PutObjectInput{
		Bucket:                           &b.config.Bucket,
		Key:                              &object.Key,
		IfMatch:                          &p.etag,
		Body:                             bytes.NewReader(object.Body),
		ContentLength:                    aws.Int64(int64(len(object.Body))),
		Metadata:                         object.Metadata,
		Tagging:                          optional(kept.tags),
		ChecksumAlgorithm:                read.checksum.algorithm,
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
	setChecksum(in, object.Body)
	return in
}

// writeError converts an error of a write.
func (b *Bucket) writeError(doing string, err error) error {
	if err == nil {
		return nil
	}
	switch awserr.Code(err) {
	case "InvalidObjectState", "ObjectNotInActiveTierError":
		return errArchived("")
	case "MetadataTooLarge":
		return &scan.RefusedError{Reason: "metadata-too-large", Detail: fmt.Sprintf(
			"with the new ciphertext its user metadata exceeds the limit of S3, 2 KB for all "+
				"names and values of an object (%s)", awserr.Code(err))}
	}
	if isConditionFailed(err) {
		return scan.ErrChanged
	}
	return goneError(fmt.Errorf("%s an object of bucket %s: %w", doing, b.config.Bucket, err))
}
