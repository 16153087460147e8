package s3scan

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// snapshot is the state of an object when it was read. It is the Token of an item.
type snapshot struct {
	properties          properties
	metadata            map[string]string
	size                int64
	checksum            checksum
	hasBody             bool      // the body was read too
	tagCount            int32     // number of tags; 0 also if the response did not contain it
	readAt              time.Time // time before the request was sent
	lastModifiedSettled bool      // any later write has a different Last-Modified
}

// checksum is the checksum that S3 stores for an object.
type checksum struct {
	algorithm types.ChecksumAlgorithm // "" if the object has none
	kind      types.ChecksumType
	value     string
}

// properties are the properties of an object in a response to GET or HEAD, except the body
// and the user metadata. If two values differ, the object was written in between.
type properties struct {
	etag, version string
	modified      int64 // Unix seconds, the resolution of the header

	cacheControl, disposition, encoding, language, contentType string
	expires                                                    string // not necessarily a date
	redirect                                                   string
	class                                                      types.StorageClass

	encryption types.ServerSideEncryption
	kmsKey     string
	bucketKey  bool

	lockMode            types.ObjectLockMode
	retainUntil         int64 // Unix milliseconds; 0 if there is none
	legalHold           types.ObjectLockLegalHoldStatus
	eventHold           types.ObjectLockEventHold
	holdDays, holdYears int32
}

func propertiesOf(out *s3.HeadObjectOutput) properties {
	return properties{
		etag:         aws.ToString(out.ETag),
		version:      aws.ToString(out.VersionId),
		modified:     seconds(out.LastModified),
		cacheControl: aws.ToString(out.CacheControl),
		disposition:  aws.ToString(out.ContentDisposition),
		encoding:     aws.ToString(out.ContentEncoding),
		language:     aws.ToString(out.ContentLanguage),
		contentType:  aws.ToString(out.ContentType),
		expires:      aws.ToString(out.ExpiresString),
		redirect:     aws.ToString(out.WebsiteRedirectLocation),
		class:        out.StorageClass,
		encryption:   out.ServerSideEncryption,
		kmsKey:       aws.ToString(out.SSEKMSKeyId),
		bucketKey:    aws.ToBool(out.BucketKeyEnabled),
		lockMode:     out.ObjectLockMode,
		retainUntil:  milliseconds(out.ObjectLockRetainUntilDate),
		legalHold:    out.ObjectLockLegalHoldStatus,
		eventHold:    out.ObjectLockEventHold,
		holdDays:     aws.ToInt32(out.ObjectLockEventHoldDurationDays),
		holdYears:    aws.ToInt32(out.ObjectLockEventHoldDurationYears),
	}
}

func seconds(t *time.Time) int64 {
	if t == nil {
		return 0
	}
	return t.Unix()
}

func milliseconds(t *time.Time) int64 {
	if t == nil {
		return 0
	}
	return t.UnixMilli()
}

// retention returns the retention to send again. It omits a retention that has ended, because
// it has no effect and S3 refuses its date.
func (p properties) retention() (types.ObjectLockMode, *time.Time) {
	until := time.UnixMilli(p.retainUntil)
	if p.lockMode == "" || !until.After(time.Now()) {
		return "", nil
	}
	return p.lockMode, &until
}

// serverSideKMS reports whether S3 encrypts the object under a KMS key (SSE-KMS or DSSE-KMS).
func (p properties) serverSideKMS() bool {
	return p.encryption == types.ServerSideEncryptionAwsKms ||
		p.encryption == types.ServerSideEncryptionAwsKmsDsse
}

// bucketKeyEnabled returns whether the object uses an S3 Bucket Key, so that the default of
// the bucket does not apply. It is nil if the setting has no effect.
func (p properties) bucketKeyEnabled() *bool {
	if p.encryption != types.ServerSideEncryptionAwsKms && !p.bucketKey {
		return nil
	}
	return &p.bucketKey
}

// withExpires sends the Expires header as it was read. The header is not necessarily a date,
// but the SDK accepts only a date.
func withExpires(p properties) func(*s3.Options) {
	return func(o *s3.Options) {
		if p.expires != "" {
			o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue("Expires", p.expires))
		}
	}
}

// optional returns nil for an empty string, so that no header is sent.
func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func positive(n int32) *int32 {
	if n <= 0 {
		return nil
	}
	return &n
}
