package awsspec

import (
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func s3MultipartCases() []s3Case {
	return []s3Case{
		{"MultipartUpload/CompleteMultipartUpload joins the parts conditionally", s3Multipart},
		{"MultipartUpload/UploadPartCopy copies ranges of another object", s3PartCopy},
		{"MultipartUpload/invalid requests are refused", s3MultipartRefused},
	}
}

func (p *s3Probe) upload(bucket *string, key string) *string {
	p.Helper()
	out, err := p.CreateMultipartUpload(p.ctx, &s3.CreateMultipartUploadInput{
		Bucket:   bucket,
		Key:      &key,
		Metadata: map[string]string{"a": "b"},
	})
	p.must(err)
	return out.UploadId
}

func (p *s3Probe) part(
	bucket, id *string, key string, number int32, body string,
) types.CompletedPart {
	p.Helper()
	out, err := p.UploadPart(p.ctx, &s3.UploadPartInput{
		Bucket:     bucket,
		Key:        &key,
		UploadId:   id,
		PartNumber: &number,
		Body:       strings.NewReader(body),
	})
	p.must(err)
	return types.CompletedPart{PartNumber: &number, ETag: out.ETag}
}

func (p *s3Probe) complete(
	bucket, id *string, key string, match *string, parts ...types.CompletedPart,
) (*s3.CompleteMultipartUploadOutput, error) {
	return p.CompleteMultipartUpload(p.ctx, &s3.CompleteMultipartUploadInput{
		Bucket:          bucket,
		Key:             &key,
		UploadId:        id,
		IfMatch:         match,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
}

// API_CreateMultipartUpload, API_UploadPart, API_CompleteMultipartUpload.
func s3Multipart(p *s3Probe) {
	bucket := p.bucket()
	put := p.put(bucket, "k", "before")
	id := p.upload(bucket, "k")
	large := strings.Repeat("x", 5<<20)
	first, second := p.part(bucket, id, "k", 1, large), p.part(bucket, id, "k", 7, "end")
	_, err := p.complete(bucket, id, "k", aws.String(s3OtherETag), first, second)
	p.want("PreconditionFailed", http.StatusPreconditionFailed, err)
	out, err := p.complete(bucket, id, "k", put.ETag, first, second)
	p.must(err)
	if !strings.HasSuffix(strings.Trim(aws.ToString(out.ETag), `"`), "-2") {
		p.Errorf("ETag %s does not count 2 parts", *out.ETag)
	}
	got, body := p.get(bucket, "k")
	p.same("body", body == large+"end", true)
	p.same("metadata", got.Metadata, map[string]string{"a": "b"})
}

// API_UploadPartCopy.
func s3PartCopy(p *s3Probe) {
	bucket := p.bucket()
	put := p.put(bucket, "source", "0123456789")
	id := p.upload(bucket, "k")
	copyPart := func(match *string) (*s3.UploadPartCopyOutput, error) {
		return p.UploadPartCopy(p.ctx, &s3.UploadPartCopyInput{
			Bucket:            bucket,
			Key:               aws.String("k"),
			UploadId:          id,
			PartNumber:        aws.Int32(1),
			CopySource:        aws.String(*bucket + "/source"),
			CopySourceRange:   aws.String("bytes=3-5"),
			CopySourceIfMatch: match,
		})
	}
	_, err := copyPart(aws.String(s3OtherETag))
	p.want("PreconditionFailed", http.StatusPreconditionFailed, err)
	out, err := copyPart(put.ETag)
	p.must(err)
	_, err = p.complete(bucket, id, "k", nil, types.CompletedPart{
		PartNumber: aws.Int32(1),
		ETag:       out.CopyPartResult.ETag,
	})
	p.must(err)
	_, body := p.get(bucket, "k")
	p.same("body", body, "345")
}

// API_CompleteMultipartUpload: errors; API_AbortMultipartUpload.
func s3MultipartRefused(p *s3Probe) {
	bucket := p.bucket()
	id := p.upload(bucket, "k")
	first, second := p.part(bucket, id, "k", 1, "small"), p.part(bucket, id, "k", 2, "end")
	_, err := p.complete(bucket, id, "k", nil, first, second)
	p.want("EntityTooSmall", http.StatusBadRequest, err)
	_, err = p.complete(bucket, id, "k", nil, second, first)
	p.want("InvalidPartOrder", http.StatusBadRequest, err)
	_, err = p.complete(bucket, id, "k", nil, types.CompletedPart{
		PartNumber: aws.Int32(3),
		ETag:       first.ETag,
	})
	p.want("InvalidPart", http.StatusBadRequest, err)
	listed, err := p.ListParts(p.ctx, &s3.ListPartsInput{
		Bucket:   bucket,
		Key:      aws.String("k"),
		UploadId: id,
	})
	p.must(err)
	p.same("parts", len(listed.Parts), 2)
	_, err = p.AbortMultipartUpload(p.ctx, &s3.AbortMultipartUploadInput{
		Bucket:   bucket,
		Key:      aws.String("k"),
		UploadId: id,
	})
	p.must(err)
	_, err = p.complete(bucket, id, "k", nil, first)
	p.want("NoSuchUpload", http.StatusNotFound, err)
	_, err = p.HeadObject(p.ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("k")})
	p.want("", http.StatusNotFound, err)
}
