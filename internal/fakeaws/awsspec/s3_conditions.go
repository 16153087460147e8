package awsspec

import (
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func s3ConditionCases() []s3Case {
	return []s3Case{
		{"PutObject/If-Match replaces only the version with that ETag", s3PutIfMatch},
		{"PutObject/If-None-Match creates only a missing object", s3PutIfNoneMatch},
		{"GetObject/If-Match and If-None-Match", s3GetConditions},
		{"CopyObject/conditions on the source", s3CopySource},
		{"CopyObject/conditions on the destination", s3CopyDestination},
		{"DeleteObject/If-Match", s3DeleteIfMatch},
	}
}

const s3OtherETag = `"00000000000000000000000000000000"`

// Conditional writes: If-Match; 404 if the object does not exist.
func s3PutIfMatch(p *s3Probe) {
	bucket := p.bucket()
	first := p.put(bucket, "k", "1")
	match := func(etag *string) func(*s3.PutObjectInput) {
		return func(in *s3.PutObjectInput) { in.IfMatch = etag }
	}
	_, err := p.tryPut(bucket, "k", "2", match(aws.String(s3OtherETag)))
	p.want("PreconditionFailed", http.StatusPreconditionFailed, err)
	second := p.put(bucket, "k", "2", match(first.ETag))
	_, err = p.tryPut(bucket, "k", "3", match(first.ETag))
	p.want("PreconditionFailed", http.StatusPreconditionFailed, err)
	_, body := p.get(bucket, "k")
	p.same("body", body, "2")
	_, err = p.tryPut(bucket, "nobody", "3", match(second.ETag))
	p.want("NoSuchKey", http.StatusNotFound, err)
}

// Conditional writes: If-None-Match.
func s3PutIfNoneMatch(p *s3Probe) {
	bucket := p.bucket()
	absent := func(in *s3.PutObjectInput) { in.IfNoneMatch = aws.String("*") }
	p.put(bucket, "k", "1", absent)
	_, err := p.tryPut(bucket, "k", "2", absent)
	p.want("PreconditionFailed", http.StatusPreconditionFailed, err)
	_, body := p.get(bucket, "k")
	p.same("body", body, "1")
}

// API_GetObject, API_HeadObject: conditions.
func s3GetConditions(p *s3Probe) {
	bucket := p.bucket()
	put := p.put(bucket, "k", "1")
	p.get(bucket, "k", func(in *s3.GetObjectInput) { in.IfMatch = put.ETag })
	_, err := p.GetObject(p.ctx, &s3.GetObjectInput{
		Bucket:  bucket,
		Key:     aws.String("k"),
		IfMatch: aws.String(s3OtherETag),
	})
	p.want("PreconditionFailed", http.StatusPreconditionFailed, err)
	_, err = p.GetObject(p.ctx, &s3.GetObjectInput{
		Bucket:      bucket,
		Key:         aws.String("k"),
		IfNoneMatch: put.ETag,
	})
	p.want("", http.StatusNotModified, err)
	_, err = p.HeadObject(p.ctx, &s3.HeadObjectInput{
		Bucket:  bucket,
		Key:     aws.String("k"),
		IfMatch: aws.String(s3OtherETag),
	})
	p.want("", http.StatusPreconditionFailed, err)
}

// API_CopyObject: x-amz-copy-source-if-match and -if-none-match.
func s3CopySource(p *s3Probe) {
	bucket := p.bucket()
	put := p.put(bucket, "k", "1")
	_, err := p.copyOnto(bucket, "k", "copy", func(in *s3.CopyObjectInput) {
		in.CopySourceIfMatch = aws.String(s3OtherETag)
	})
	p.want("PreconditionFailed", http.StatusPreconditionFailed, err)
	_, err = p.copyOnto(bucket, "k", "copy", func(in *s3.CopyObjectInput) {
		in.CopySourceIfNoneMatch = put.ETag
	})
	p.want("PreconditionFailed", http.StatusPreconditionFailed, err)
	_, err = p.copyOnto(bucket, "k", "copy", func(in *s3.CopyObjectInput) {
		in.CopySourceIfMatch = put.ETag
	})
	p.must(err)
}

// API_CopyObject: If-Match and If-None-Match of the destination.
func s3CopyDestination(p *s3Probe) {
	bucket := p.bucket()
	put := p.put(bucket, "k", "1")
	metadata := func(in *s3.CopyObjectInput) {
		in.MetadataDirective = types.MetadataDirectiveReplace
	}
	_, err := p.copyOnto(bucket, "k", "k", metadata, func(in *s3.CopyObjectInput) {
		in.IfMatch = aws.String(s3OtherETag)
	})
	p.want("PreconditionFailed", http.StatusPreconditionFailed, err)
	_, err = p.copyOnto(bucket, "k", "k", metadata, func(in *s3.CopyObjectInput) {
		in.IfMatch = put.ETag
	})
	p.must(err)
	_, err = p.copyOnto(bucket, "k", "k", metadata, func(in *s3.CopyObjectInput) {
		in.IfNoneMatch = aws.String("*")
	})
	p.want("PreconditionFailed", http.StatusPreconditionFailed, err)
}

// API_DeleteObject: If-Match.
func s3DeleteIfMatch(p *s3Probe) {
	bucket := p.bucket()
	put := p.put(bucket, "k", "1")
	_, err := p.DeleteObject(p.ctx, &s3.DeleteObjectInput{
		Bucket:  bucket,
		Key:     aws.String("k"),
		IfMatch: aws.String(s3OtherETag),
	})
	p.want("PreconditionFailed", http.StatusPreconditionFailed, err)
	_, err = p.DeleteObject(p.ctx, &s3.DeleteObjectInput{
		Bucket:  bucket,
		Key:     aws.String("k"),
		IfMatch: put.ETag,
	})
	p.must(err)
}
