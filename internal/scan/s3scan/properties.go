package s3scan

import (
	"bytes"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"rotator/internal/scan"
)

// asRead is what an object was when it was read: the Token of an item.
type asRead struct {
	properties properties
	metadata   map[string]string
	checksum   types.ChecksumAlgorithm // "" when the object had none
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

func propertiesOfGet(out *s3.GetObjectOutput) properties {
	return properties{
		etag: aws.ToString(out.ETag), version: aws.ToString(out.VersionId), modified: seconds(out.LastModified),
		cacheControl: aws.ToString(out.CacheControl), disposition: aws.ToString(out.ContentDisposition),
		encoding: aws.ToString(out.ContentEncoding), language: aws.ToString(out.ContentLanguage),
		contentType: aws.ToString(out.ContentType), expires: aws.ToString(out.ExpiresString),
		redirect: aws.ToString(out.WebsiteRedirectLocation), class: out.StorageClass,
		encryption: out.ServerSideEncryption, kmsKey: aws.ToString(out.SSEKMSKeyId), bucketKey: aws.ToBool(out.BucketKeyEnabled),
		lockMode: out.ObjectLockMode, retainUntil: milliseconds(out.ObjectLockRetainUntilDate), legalHold: out.ObjectLockLegalHoldStatus,
		eventHold: out.ObjectLockEventHold, holdDays: aws.ToInt32(out.ObjectLockEventHoldDurationDays),
		holdYears: aws.ToInt32(out.ObjectLockEventHoldDurationYears),
	}
}

func propertiesOfHead(out *s3.HeadObjectOutput) properties {
	return properties{
		etag: aws.ToString(out.ETag), version: aws.ToString(out.VersionId), modified: seconds(out.LastModified),
		cacheControl: aws.ToString(out.CacheControl), disposition: aws.ToString(out.ContentDisposition),
		encoding: aws.ToString(out.ContentEncoding), language: aws.ToString(out.ContentLanguage),
		contentType: aws.ToString(out.ContentType), expires: aws.ToString(out.ExpiresString),
		redirect: aws.ToString(out.WebsiteRedirectLocation), class: out.StorageClass,
		encryption: out.ServerSideEncryption, kmsKey: aws.ToString(out.SSEKMSKeyId), bucketKey: aws.ToBool(out.BucketKeyEnabled),
		lockMode: out.ObjectLockMode, retainUntil: milliseconds(out.ObjectLockRetainUntilDate), legalHold: out.ObjectLockLegalHoldStatus,
		eventHold: out.ObjectLockEventHold, holdDays: aws.ToInt32(out.ObjectLockEventHoldDurationDays),
		holdYears: aws.ToInt32(out.ObjectLockEventHoldDurationYears),
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

// put is the request that replaces the body and sends the rest again
// (API_PutObject).
func (b *Bucket) put(object *scan.Object, read *asRead, also carried) *s3.PutObjectInput {
	p := read.properties
	in := &s3.PutObjectInput{
		Bucket: &b.config.Bucket, Key: &object.Key, IfMatch: &p.etag,
		Body: bytes.NewReader(object.Body), ContentLength: aws.Int64(int64(len(object.Body))),
		Metadata: object.Metadata, Tagging: given(also.tags), ChecksumAlgorithm: read.checksum,
		CacheControl: given(p.cacheControl), ContentDisposition: given(p.disposition), ContentEncoding: given(p.encoding),
		ContentLanguage: given(p.language), ContentType: given(p.contentType),
		WebsiteRedirectLocation: given(p.redirect), StorageClass: p.class,
		ServerSideEncryption: p.encryption, SSEKMSKeyId: given(p.kmsKey),
		ObjectLockLegalHoldStatus: p.legalHold, ObjectLockEventHold: p.eventHold,
		ObjectLockEventHoldDurationDays: positive(p.holdDays), ObjectLockEventHoldDurationYears: positive(p.holdYears),
		GrantFullControl: given(also.grants.full), GrantRead: given(also.grants.read),
		GrantReadACP: given(also.grants.readACP), GrantWriteACP: given(also.grants.writeACP),
	}
	if p.bucketKey {
		in.BucketKeyEnabled = &p.bucketKey
	}
	// A retention that has ended protects nothing, and a PUT refuses its date.
	if until := time.UnixMilli(p.retainUntil); p.lockMode != "" && until.After(time.Now()) {
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = p.lockMode, &until
	}
	return in
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
func given(text string) *string {
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
