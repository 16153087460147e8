package s3scan

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/scan"
)

// maxCopySize is the size of the largest object that one request can copy (API_CopyObject).
const maxCopySize = 5 << 30

// copyTimeout limits one request that copies at most 5 GB within S3. S3 sends the response
// when the copy is complete.
const copyTimeout = 10 * time.Minute

// withLongTimeout returns the client and an option that extends the timeout of one request to
// copyTimeout, if the client has a timeout. Requests with and without the option share one
// connection pool.
func withLongTimeout(client *s3.Client) (*s3.Client, func(*s3.Options)) {
	none := func(*s3.Options) {}
	if client == nil {
		return nil, none
	}
	bounded, ok := client.Options().HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		return client, none
	}
	usual, ok := bounded.WithReadTimeout(copyTimeout).Freeze().(*http.Client)
	if !ok {
		return client, func(o *s3.Options) {
			o.HTTPClient = bounded.WithTimeout(copyTimeout).WithReadTimeout(copyTimeout)
		}
	}
	slow := *usual
	slow.Timeout = copyTimeout
	return s3.New(client.Options(), func(o *s3.Options) {
		o.HTTPClient = usual
	}), func(o *s3.Options) { o.HTTPClient = &slow }
}

// copyWhole replaces the user metadata by copying the object onto itself. Its conditions are
// that the source and the target still have the ETag that was read. S3 copies the current
// tags and annotations. Other properties are read again immediately before the copy, unless
// copyUnmodified makes this unnecessary.
//
// The ETag of the copy can differ from that of the source; nothing depends on it.
func (b *Bucket) copyWhole(ctx context.Context, object *scan.Object, read *snapshot) error {
	copies, err := b.probeCopies(ctx)
	if err != nil {
		return err
	}
	if copies == unsupported {
		return b.rewriteMetadata(ctx, object, read)
	}
	if err := b.verifyLockPermissions(ctx, object.Key); err != nil {
		return goneError(err)
	}
	kept, requested, err := b.grants(ctx, object.Key)
	if err != nil {
		return goneError(err)
	}
	in := b.copyInput(object, read, kept)
	if copies == enforced {
		in.IfMatch = &read.properties.etag
	}
	if copies == enforced && !requested {
		if done, err := b.copyUnmodified(ctx, in, read); done || err != nil {
			return err
		}
	}
	now, err := b.headUnchanged(ctx, object.Key, read)
	if err != nil {
		return goneError(err)
	}
	out, err := b.config.Client.CopyObject(ctx, in, withExpires(read.properties), b.longTimeout)
	if err != nil {
		return b.writeError("copy", err)
	}
	if copies == enforced {
		return nil
	}
	return b.verifyWritten(ctx, object, read, writeResult{
		etag:     copiedETag(out),
		version:  aws.ToString(out.VersionId),
		tagCount: now.TagCount,
	})
}

// copyInput returns the request that replaces the user metadata. It sends again what a copy
// would reset (API_CopyObject): content headers, ACL, storage class, website redirect, Object
// Lock and encryption. The checksum algorithm is preserved if the request names none.
func (b *Bucket) copyInput(object *scan.Object, read *snapshot, kept grants) *s3.CopyObjectInput {
	p := read.properties
	in := &s3.CopyObjectInput{
		Bucket:                           &b.config.Bucket,
		Key:                              &object.Key,
		CopySource:                       b.copySource(object.Key),
		CopySourceIfMatch:                &p.etag,
		MetadataDirective:                types.MetadataDirectiveReplace,
		TaggingDirective:                 types.TaggingDirectiveCopy,
		Metadata:                         object.Metadata,
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
		GrantFullControl:                 optional(kept.full),
		GrantRead:                        optional(kept.read),
		GrantReadACP:                     optional(kept.readACP),
		GrantWriteACP:                    optional(kept.writeACP),
	}
	in.ObjectLockMode, in.ObjectLockRetainUntilDate = p.retention()
	return in
}

// copySource returns the URL-encoded source of a copy. The bucket can be given as the ARN of
// an access point (API_CopyObject, CopySource).
func (b *Bucket) copySource(key string) *string {
	path := b.config.Bucket + "/" + key
	if b.isAccessPoint() {
		path = b.config.Bucket + "/object/" + key
	}
	var escaped strings.Builder
	for i := range len(path) {
		switch c := path[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			strings.IndexByte("-._~/", c) >= 0:
			escaped.WriteByte(c)
		default:
			fmt.Fprintf(&escaped, "%%%02X", c)
		}
	}
	return aws.String(escaped.String())
}

// isAccessPoint reports whether the bucket is given as an access point, which supports
// requests for objects but not for bucket settings (Amazon S3 User Guide, "Access point
// compatibility").
func (b *Bucket) isAccessPoint() bool { return strings.HasPrefix(b.config.Bucket, "arn:") }

// writeResult is the part of a write response that verifyWritten compares.
type writeResult struct {
	etag, version string
	tagCount      *int32 // number of tags before the write; nil if unknown
}

func copiedETag(out *s3.CopyObjectOutput) string {
	if out.CopyObjectResult == nil {
		return ""
	}
	return aws.ToString(out.CopyObjectResult.ETag)
}

// verifyWritten reads the object after a write, for servers that do not enforce the condition
// on the target. It returns scan.ErrChanged unless the object is exactly what was written, so
// that the caller reads it again.
func (b *Bucket) verifyWritten(
	ctx context.Context, object *scan.Object, read *snapshot, w writeResult,
) error {
	now, err := b.head(ctx, &s3.HeadObjectInput{Bucket: &b.config.Bucket, Key: &object.Key})
	if err != nil {
		return goneError(fmt.Errorf("head an object of bucket %s after it was written: %w",
			b.config.Bucket, err))
	}
	got, want := propertiesOf(now), read.properties
	if w.etag != "" && strings.Trim(w.etag, `"`) != strings.Trim(got.etag, `"`) ||
		w.version != "" && w.version != got.version {
		return scan.ErrChanged
	}
	want.modified, want.etag, want.version = got.modified, got.etag, got.version
	if w.tagCount != nil && aws.ToInt32(now.TagCount) != *w.tagCount || got != want ||
		!maps.Equal(now.Metadata, object.Metadata) {
		return scan.ErrChanged
	}
	return nil
}
