package awsspec

import (
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

func s3ObjectCases() []s3Case {
	return []s3Case{
		{"PutObject/headers and metadata are returned", s3RoundTrip},
		{"PutObject/Expires is returned unchanged", s3Expires},
		{"PutObject/the ETag is the MD5 of the body", s3ETag},
		{"PutObject/metadata and tags are replaced too", s3FullReplace},
		{"PutObject/checksums are verified and stored", s3Checksums},
		{"GetObject/a missing object is NoSuchKey", s3NoKey},
		{"GetObject/ranges", s3Ranges},
		{"GetObject/archived objects are InvalidObjectState", s3Archived},
		{"GetObject/SSE-C objects require their key", s3CustomerKey},
		{"PutObject/SSE-KMS settings are returned, and the ETag is not the MD5", s3KeyManaged},
		{"GetObjectTagging/tags of PutObject and PutObjectTagging, and no tags", s3Tagging},
		{"CopyObject/COPY and REPLACE", s3Copy},
		{"CopyObject/a copy onto itself without a change is refused", s3CopySelf},
	}
}

// API_PutObject, API_GetObject, API_HeadObject.
func s3RoundTrip(p *s3Probe) {
	bucket := p.bucket()
	p.put(bucket, "k", "body", func(in *s3.PutObjectInput) {
		in.ContentType = aws.String("text/x")
		in.ContentEncoding = aws.String("gzip")
		in.ContentLanguage = aws.String("de")
		in.ContentDisposition, in.CacheControl = aws.String("attachment"), aws.String("no-store")
		in.Metadata = map[string]string{"Owner": "me", "empty": ""}
		in.StorageClass = types.StorageClassStandardIa
		in.WebsiteRedirectLocation = aws.String("/other")
		in.ServerSideEncryption = types.ServerSideEncryptionAes256
		in.Tagging = aws.String("a=1&b=x%20y")
	})
	got, body := p.get(bucket, "k")
	p.same("body", body, "body")
	for what, pair := range map[string][2]string{
		"Content-Type":        {aws.ToString(got.ContentType), "text/x"},
		"Content-Encoding":    {aws.ToString(got.ContentEncoding), "gzip"},
		"Content-Language":    {aws.ToString(got.ContentLanguage), "de"},
		"Content-Disposition": {aws.ToString(got.ContentDisposition), "attachment"},
		"Cache-Control":       {aws.ToString(got.CacheControl), "no-store"},
		"storage class":       {string(got.StorageClass), "STANDARD_IA"},
		"redirect":            {aws.ToString(got.WebsiteRedirectLocation), "/other"},
		"encryption":          {string(got.ServerSideEncryption), "AES256"},
	} {
		p.same(what, pair[0], pair[1])
	}
	p.same("metadata", got.Metadata, map[string]string{"owner": "me", "empty": ""})
	p.same("number of tags", aws.ToInt32(got.TagCount), int32(2))
	head, err := p.HeadObject(p.ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("k")})
	p.must(err)
	p.same("metadata of HEAD", head.Metadata, got.Metadata)
	p.same("length", aws.ToInt64(head.ContentLength), int64(4))
	p.same("ETag of HEAD", aws.ToString(head.ETag), aws.ToString(got.ETag))
	p.same("time of HEAD", head.LastModified.Equal(*got.LastModified) &&
		time.Since(*got.LastModified).Abs() < time.Hour, true)
}

// API_GetObject: Expires is returned as it was sent, even if it is not a date.
func s3Expires(p *s3Probe) {
	bucket := p.bucket()
	_, err := p.PutObject(p.ctx, &s3.PutObjectInput{
		Bucket: bucket,
		Key:    aws.String("k"),
	}, s3.WithAPIOptions(smithyhttp.SetHeaderValue("Expires", "0")))
	p.must(err)
	got, _ := p.get(bucket, "k")
	p.same("Expires", aws.ToString(got.ExpiresString), "0")
}

// API_Object: "The entity tag is a hash of the object" that is plain or under SSE-S3.
func s3ETag(p *s3Probe) {
	out := p.put(p.bucket(), "k", "body")
	p.same("ETag", aws.ToString(out.ETag), fmt.Sprintf(`"%x"`, md5.Sum([]byte("body"))))
}

// API_PutObject: "If it is an overwrite, Amazon S3 replaces the object".
func s3FullReplace(p *s3Probe) {
	bucket := p.bucket()
	p.put(bucket, "k", "1", func(in *s3.PutObjectInput) {
		in.Metadata = map[string]string{"a": "b"}
		in.Tagging = aws.String("a=b")
		in.CacheControl = aws.String("no-store")
	})
	p.put(bucket, "k", "2")
	got, body := p.get(bucket, "k")
	p.same("body", body, "2")
	p.same("metadata, tags and headers",
		fmt.Sprintf("%d %d %q", len(got.Metadata), aws.ToInt32(got.TagCount),
			aws.ToString(got.CacheControl)), `0 0 ""`)
}

// Checking object integrity for data uploads in Amazon S3.
func s3Checksums(p *s3Probe) {
	bucket := p.bucket()
	read := func(in *s3.GetObjectInput) { in.ChecksumMode = types.ChecksumModeEnabled }
	for _, algorithm := range []types.ChecksumAlgorithm{
		types.ChecksumAlgorithmCrc32,
		types.ChecksumAlgorithmCrc32c,
		types.ChecksumAlgorithmCrc64nvme,
		types.ChecksumAlgorithmSha1,
		types.ChecksumAlgorithmSha256,
	} {
		p.put(bucket, "k", "body", func(in *s3.PutObjectInput) { in.ChecksumAlgorithm = algorithm })
		got, _ := p.get(bucket, "k", read) // the SDK verifies it
		kept := map[types.ChecksumAlgorithm]*string{
			types.ChecksumAlgorithmCrc32:     got.ChecksumCRC32,
			types.ChecksumAlgorithmCrc32c:    got.ChecksumCRC32C,
			types.ChecksumAlgorithmCrc64nvme: got.ChecksumCRC64NVME,
			types.ChecksumAlgorithmSha1:      got.ChecksumSHA1,
			types.ChecksumAlgorithmSha256:    got.ChecksumSHA256,
		}
		if kept[algorithm] == nil {
			p.Errorf("%s is not kept", algorithm)
		}
	}
	wrong := base64.StdEncoding.EncodeToString(make([]byte, 4))
	_, err := p.tryPut(bucket, "wrong", "body", func(in *s3.PutObjectInput) {
		in.ChecksumCRC32 = &wrong
	})
	p.want("BadDigest", http.StatusBadRequest, err)
	sum := base64.StdEncoding.EncodeToString(make([]byte, 16))
	_, err = p.tryPut(bucket, "wrong", "body", func(in *s3.PutObjectInput) { in.ContentMD5 = &sum })
	p.want("BadDigest", http.StatusBadRequest, err)
	_, err = p.HeadObject(p.ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("wrong")})
	p.want("", http.StatusNotFound, err)
}

// API_GetObject: errors.
func s3NoKey(p *s3Probe) {
	bucket := p.bucket()
	_, err := p.GetObject(p.ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("nobody")})
	var missing *types.NoSuchKey
	if !errors.As(err, &missing) {
		p.Errorf("GetObject: %v, want NoSuchKey", err)
	}
	_, err = p.HeadObject(p.ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("nobody")})
	p.want("", http.StatusNotFound, err)
	_, err = p.DeleteObject(p.ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("nobody")})
	p.must(err) // deleting a missing object succeeds
}

// API_GetObject: Range.
func s3Ranges(p *s3Probe) {
	bucket := p.bucket()
	p.put(bucket, "k", "0123456789")
	for text, want := range map[string]string{
		"bytes=2-4":  "234",
		"bytes=7-":   "789",
		"bytes=-2":   "89",
		"bytes=8-99": "89",
	} {
		_, body := p.get(bucket, "k", func(in *s3.GetObjectInput) { in.Range = aws.String(text) })
		p.same(text, body, want)
	}
	_, err := p.GetObject(p.ctx, &s3.GetObjectInput{
		Bucket: bucket,
		Key:    aws.String("k"),
		Range:  aws.String("bytes=10-"),
	})
	p.want("InvalidRange", http.StatusRequestedRangeNotSatisfiable, err)
}

// API_GetObject: InvalidObjectState; API_CopyObject: ObjectNotInActiveTierError.
func s3Archived(p *s3Probe) {
	bucket := p.bucket()
	p.put(bucket, "k", "body", func(in *s3.PutObjectInput) {
		in.StorageClass = types.StorageClassGlacier
	})
	_, err := p.GetObject(p.ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("k")})
	var archived *types.InvalidObjectState
	if !errors.As(err, &archived) {
		p.Errorf("GetObject: %v, want InvalidObjectState", err)
	}
	p.want("InvalidObjectState", http.StatusForbidden, err)
	_, err = p.copyOnto(bucket, "k", "copy")
	p.want("ObjectNotInActiveTierError", http.StatusForbidden, err)
	head, err := p.HeadObject(p.ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("k")})
	p.must(err)
	p.same("storage class", head.StorageClass, types.StorageClassGlacier)
}

// Using server-side encryption with customer-provided keys (SSE-C).
func s3CustomerKey(p *s3Probe) {
	bucket := p.bucket()
	key := make([]byte, 32)
	sum := md5.Sum(key)
	algorithm := aws.String("AES256")
	encoded := aws.String(base64.StdEncoding.EncodeToString(key))
	digest := aws.String(base64.StdEncoding.EncodeToString(sum[:]))
	header := func(name string, value *string) func(*s3.Options) {
		return s3.WithAPIOptions(smithyhttp.SetHeaderValue(name, *value))
	}
	const prefix = "X-Amz-Server-Side-Encryption-Customer-"
	_, err := p.PutObject(p.ctx, &s3.PutObjectInput{
		Bucket: bucket,
		Key:    aws.String("k"),
	}, header(prefix+"Algorithm", algorithm), header(prefix+"Key", encoded),
		header(prefix+"Key-MD5", digest))
	p.must(err)
	_, err = p.GetObject(p.ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("k")})
	p.want("InvalidRequest", http.StatusBadRequest, err)
	_, err = p.HeadObject(p.ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("k")})
	p.want("", http.StatusBadRequest, err)
}

// API_GetObjectTagging, API_PutObjectTagging, API_DeleteObjectTagging: tags change
// neither the ETag nor the time of the object.
func s3Tagging(p *s3Probe) {
	bucket := p.bucket()
	p.put(bucket, "k", "body", func(in *s3.PutObjectInput) {
		in.Tagging = aws.String("a=1&b=x%20%26y")
	})
	before, _ := p.get(bucket, "k")
	tags := func() map[string]string {
		out, err := p.GetObjectTagging(p.ctx, &s3.GetObjectTaggingInput{
			Bucket: bucket,
			Key:    aws.String("k"),
		})
		p.must(err)
		m := map[string]string{}
		for _, t := range out.TagSet {
			m[*t.Key] = *t.Value
		}
		return m
	}
	p.same("tags of the PUT", tags(), map[string]string{"a": "1", "b": "x &y"})
	_, err := p.PutObjectTagging(p.ctx, &s3.PutObjectTaggingInput{
		Bucket: bucket,
		Key:    aws.String("k"),
		Tagging: &types.Tagging{
			TagSet: []types.Tag{{Key: aws.String("c"), Value: aws.String("3")}},
		},
	})
	p.must(err)
	p.same("tags of their own", tags(), map[string]string{"c": "3"})
	after, _ := p.get(bucket, "k")
	p.same("ETag", aws.ToString(after.ETag), aws.ToString(before.ETag))
	p.same("time", *after.LastModified, *before.LastModified)
	_, err = p.DeleteObjectTagging(p.ctx, &s3.DeleteObjectTaggingInput{
		Bucket: bucket,
		Key:    aws.String("k"),
	})
	p.must(err)
	p.same("without tags", tags(), map[string]string{})
}

// API_CopyObject: MetadataDirective, TaggingDirective; storage class is not copied.
func s3Copy(p *s3Probe) {
	bucket := p.bucket()
	p.put(bucket, "k", "body", func(in *s3.PutObjectInput) {
		in.Metadata = map[string]string{"a": "b"}
		in.Tagging = aws.String("t=1")
		in.ContentType = aws.String("text/x")
		in.StorageClass = types.StorageClassStandardIa
	})
	_, err := p.copyOnto(bucket, "k", "copy")
	p.must(err)
	got, body := p.get(bucket, "copy")
	p.same("copied",
		fmt.Sprintf("%s %v %d %s %s", body, got.Metadata, aws.ToInt32(got.TagCount),
			*got.ContentType, got.StorageClass), "body map[a:b] 1 text/x ")
	_, err = p.copyOnto(bucket, "k", "replaced", func(in *s3.CopyObjectInput) {
		in.MetadataDirective = types.MetadataDirectiveReplace
		in.Metadata = map[string]string{"c": "d"}
		in.TaggingDirective, in.Tagging = types.TaggingDirectiveReplace, aws.String("u=1&v=2")
	})
	p.must(err)
	got, body = p.get(bucket, "replaced")
	p.same("replaced", fmt.Sprintf("%s %v %d", body, got.Metadata, aws.ToInt32(got.TagCount)),
		"body map[c:d] 2")
}

// API_CopyObject: an object copied onto itself. The ETag of a plain object stays.
func s3CopySelf(p *s3Probe) {
	bucket := p.bucket()
	put := p.put(bucket, "k", "body")
	_, err := p.copyOnto(bucket, "k", "k")
	p.want("InvalidRequest", http.StatusBadRequest, err)
	out, err := p.copyOnto(bucket, "k", "k", func(in *s3.CopyObjectInput) {
		in.MetadataDirective = types.MetadataDirectiveReplace
		in.Metadata = map[string]string{"c": "d"}
	})
	p.must(err)
	p.same("ETag", aws.ToString(out.CopyObjectResult.ETag), aws.ToString(put.ETag))
}

// API_PutObject, API_Object: server-side encryption with KMS keys; "the ETag is not
// an MD5 digest" of such objects.
func s3KeyManaged(p *s3Probe) {
	bucket := p.bucket()
	key := "arn:aws:kms:" + p.region + ":111122223333:key/11111111-2222-3333-4444-555555555555"
	put := p.put(bucket, "k", "body", func(in *s3.PutObjectInput) {
		in.ServerSideEncryption = types.ServerSideEncryptionAwsKms
		in.SSEKMSKeyId = &key
		in.BucketKeyEnabled = aws.Bool(true)
	})
	got, _ := p.get(bucket, "k")
	p.same("encryption", got.ServerSideEncryption, types.ServerSideEncryptionAwsKms)
	p.same("key", aws.ToString(got.SSEKMSKeyId), key)
	p.same("bucket key", aws.ToBool(got.BucketKeyEnabled), true)
	digest := fmt.Sprintf(`"%x"`, md5.Sum([]byte("body")))
	p.same("ETag is the MD5", aws.ToString(put.ETag) == digest, false)
}
