package s3scan

import (
	"bytes"
	"context"
	"fmt"
	"maps"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/scan"
)

// rewrite replaces the body by a PUT under the condition that the ETag is the one
// that was read. What the ETag does not cover is looked at again right before, unless
// the GET has told all of it, not longer ago than staleAfter.
//
// If guarded is set, the body depends on user metadata, and a HEAD always
// checks the object. An edit of the metadata between this HEAD and the PUT is
// lost: the PUT stores body and metadata together as they were read, so they
// still match.
func (b *Bucket) rewrite(
	ctx context.Context, object *scan.Object, read *asRead, guarded bool,
) error {
	if err := read.checksum.ofBody(); err != nil {
		return err
	}
	if err := b.probePuts(ctx); err != nil {
		return err
	}
	untagged, err := b.untagged(ctx, read)
	if err != nil {
		return err
	}
	also, more, err := b.carry(ctx, object.Key, untagged)
	if err == nil && (more || guarded || !read.fresh()) {
		err = b.unchanged(ctx, object.Key, read, also)
	}
	if err != nil {
		return absent(err)
	}
	_, err = b.config.Client.PutObject(ctx, b.put(object, read, also), withExpires(read.properties))
	return b.writeError("put", err)
}

// rewriteAlike replaces the metadata by a PUT of the body as it is: for servers whose
// copies have no condition, and objects that are small enough.
func (b *Bucket) rewriteAlike(ctx context.Context, object *scan.Object, read *asRead) error {
	if read.size > maxBody {
		return errCannotCopy("it is larger than 64 MiB, more than is read and written again")
	}
	if read.whole {
		return b.rewrite(ctx, object, read, true)
	}
	item, err := b.get(ctx, refOf(object.Key), object.Key, &read.properties.etag)
	if refuses(err) {
		return scan.ErrChanged
	}
	if err != nil {
		return err
	}
	defer item.Give()
	now, whole := item.Token.(*asRead), *object
	if now.properties != read.properties || !maps.Equal(now.metadata, read.metadata) {
		return scan.ErrChanged
	}
	whole.Body = item.Payload.(*scan.Object).Body
	return b.rewrite(ctx, &whole, now, true)
}

func errCannotCopy(why string) error {
	return &scan.RefusedError{Reason: "cannot-copy", Detail: "this server does not enforce the conditions of copies, so that a concurrent update could be lost, and " + why}
}

// put is the request that replaces the body and sends the rest again
// (API_PutObject).
func (b *Bucket) put(object *scan.Object, read *asRead, also carried) *s3.PutObjectInput {
	p := read.properties
	in := &s3.PutObjectInput{
		Bucket: &b.config.Bucket, Key: &object.Key, IfMatch: &p.etag,
		Body: bytes.NewReader(object.Body), ContentLength: aws.Int64(int64(len(object.Body))),
		Metadata: object.Metadata, Tagging: given(also.tags), ChecksumAlgorithm: read.checksum.algorithm,
		CacheControl: given(p.cacheControl), ContentDisposition: given(p.disposition), ContentEncoding: given(p.encoding),
		ContentLanguage: given(p.language), ContentType: given(p.contentType),
		WebsiteRedirectLocation: given(p.redirect), StorageClass: p.class,
		ServerSideEncryption: p.encryption, SSEKMSKeyId: given(p.kmsKey), BucketKeyEnabled: p.keyOfBucket(),
		ObjectLockLegalHoldStatus: p.legalHold, ObjectLockEventHold: p.eventHold,
		ObjectLockEventHoldDurationDays: positive(p.holdDays), ObjectLockEventHoldDurationYears: positive(p.holdYears),
		GrantFullControl: given(also.grants.full), GrantRead: given(also.grants.read),
		GrantReadACP: given(also.grants.readACP), GrantWriteACP: given(also.grants.writeACP),
	}
	in.ObjectLockMode, in.ObjectLockRetainUntilDate = p.retention()
	sumBody(in, object.Body)
	return in
}

// writeError gives an error of a write its meaning.
func (b *Bucket) writeError(doing string, err error) error {
	if err == nil {
		return nil
	}
	switch code(err) {
	case "InvalidObjectState", "ObjectNotInActiveTierError":
		return errArchived("")
	case "MetadataTooLarge":
		return &scan.RefusedError{Reason: "metadata-too-large", Detail: fmt.Sprintf(
			"with the new ciphertext its user metadata is larger than S3 takes, 2 KB for all names and values of an object (%s)", code(err))}
	}
	if refuses(err) {
		return scan.ErrChanged
	}
	return absent(fmt.Errorf("%s an object of bucket %s: %w", doing, b.config.Bucket, err))
}
