package s3scan

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// asRead is what an object was when it was read: the Token of an item.
type snapshot struct {
	properties          properties
	metadata            map[string]string
	size                int64
	checksum            checksum
	hasBody             bool      // its body was read, too
	tagCount            int32     // how many it was told to have; 0 also where nothing was told
	readAt              time.Time // before it was asked for
	lastModifiedSettled bool      // any later write of it has another Last-Modified
}

// checksum is the checksum of an object as S3 keeps it.
type checksum struct {
	algorithm types.ChecksumAlgorithm // "" when the object has none
	kind      types.ChecksumType
	value     string
}

// properties are what GET and HEAD say of an object beside its body and user
// metadata. Two that differ mean that the object was written in between.
type properties struct {
	etag, version string
	modified      int64 // Unix seconds, as the header has it

	cacheControl, disposition, encoding, language, contentType string
	expires                                                    string // need not be a date
	redirect                                                   string
	class                                                      types.StorageClass

	encryption types.ServerSideEncryption
	kmsKey     string
	bucketKey  bool

	lockMode            types.ObjectLockMode
	retainUntil         int64 // Unix milliseconds; 0 for none
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

// retention is the lock to send again. One that has ended protects nothing, and a
// write refuses its date.
func (p properties) retention() (types.ObjectLockMode, *time.Time) {
	until := time.UnixMilli(p.retainUntil)
	if p.lockMode == "" || !until.After(time.Now()) {
		return "", nil
	}
	return p.lockMode, &until
}

// serverSideKMS says that S3 encrypts the object under a KMS key (SSE-KMS, or
// twice by DSSE-KMS).
func (p properties) serverSideKMS() bool {
	return p.encryption == types.ServerSideEncryptionAwsKms ||
		p.encryption == types.ServerSideEncryptionAwsKmsDsse
}

// keyOfBucket says whether the object uses an S3 Bucket Key, so that the default of
// the bucket does not say it; nil where that makes no difference.
func (p properties) bucketKeyEnabled() *bool {
	if p.encryption != types.ServerSideEncryptionAwsKms && !p.bucketKey {
		return nil
	}
	return &p.bucketKey
}

// withExpires sends Expires as it was read: it need not be a date, and the SDK
// takes only a date.
func withExpires(p properties) func(*s3.Options) {
	return func(o *s3.Options) {
		if p.expires != "" {
			o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue("Expires", p.expires))
		}
	}
}

// given is nil for an empty text, so that no header is sent.
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
