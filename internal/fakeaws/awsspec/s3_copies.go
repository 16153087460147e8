package awsspec

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// s3CopyCases returns the cases for ciphertexts in object metadata, which rotator changes by
// a copy of the object onto itself.
func s3CopyCases() []s3Case {
	return []s3Case{
		{"CopyObject/a copy onto itself keeps tags and replaces metadata", s3CopyKeepsTags},
		{"CopyObject/the copy of a multipart object has one part", s3CopyJoinsParts},
		{"CopyObject/an archived object is refused", s3CopyArchived},
		{"HeadObject/PartNumber", s3HeadParts},
		{
			"MultipartUpload/the same parts have the same ETag and checksum again",
			s3PartsAgain,
		},
		{"MultipartUpload/checksums of parts", s3PartChecksums},
	}
}

// API_CopyObject: MetadataDirective, TaggingDirective, StorageClass,
// WebsiteRedirectLocation.
func s3CopyKeepsTags(p *s3Probe) {
	bucket := p.bucket()
	put := p.put(bucket, "k", "body", func(in *s3.PutObjectInput) {
		in.Metadata = map[string]string{"a": "1", "b": "2"}
		in.Tagging = aws.String("t=x%26y&u=")
		in.StorageClass = types.StorageClassStandardIa
		in.ContentType = aws.String("text/x")
		in.CacheControl = aws.String("no-store")
		in.WebsiteRedirectLocation = aws.String("/there")
	})
	_, err := p.copyOnto(bucket, "k", "k", func(in *s3.CopyObjectInput) {
		in.MetadataDirective = types.MetadataDirectiveReplace
		in.Metadata = map[string]string{"a": "3"}
		in.CopySourceIfMatch, in.IfMatch = put.ETag, put.ETag
	})
	p.must(err)
	got, body := p.get(bucket, "k")
	p.same("copied",
		fmt.Sprintf("%s %v %s %q %q", body, got.Metadata, got.StorageClass,
			aws.ToString(got.CacheControl), aws.ToString(got.WebsiteRedirectLocation)),
		`body map[a:3]  "" ""`)
	p.same("type is of the request", aws.ToString(got.ContentType) == "text/x", false)
	tags, err := p.GetObjectTagging(p.ctx, &s3.GetObjectTaggingInput{
		Bucket: bucket,
		Key:    aws.String("k"),
	})
	p.must(err)
	kept := map[string]string{}
	for _, tag := range tags.TagSet {
		kept[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	p.same("tags", kept, map[string]string{"t": "x&y", "u": ""})
}

// inParts stores an object of two parts. Its SHA-256 checksum is computed from the checksums
// of the parts.
func (p *s3Probe) inParts(bucket *string, key string) *s3.HeadObjectOutput {
	p.Helper()
	up, err := p.CreateMultipartUpload(p.ctx, &s3.CreateMultipartUploadInput{
		Bucket:            bucket,
		Key:               &key,
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
	})
	p.must(err)
	var parts []types.CompletedPart
	for i, body := range []string{strings.Repeat("x", 5<<20), "end"} {
		n := int32(i + 1)
		out, err := p.UploadPart(p.ctx, &s3.UploadPartInput{
			Bucket:            bucket,
			Key:               &key,
			UploadId:          up.UploadId,
			PartNumber:        &n,
			Body:              strings.NewReader(body),
			ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		})
		p.must(err)
		parts = append(parts, types.CompletedPart{
			PartNumber:     &n,
			ETag:           out.ETag,
			ChecksumSHA256: out.ChecksumSHA256,
		})
	}
	_, err = p.complete(bucket, up.UploadId, key, nil, parts...)
	p.must(err)
	return p.head(bucket, key)
}

// head calls HeadObject with checksums enabled.
func (p *s3Probe) head(bucket *string, key string) *s3.HeadObjectOutput {
	p.Helper()
	out, err := p.HeadObject(p.ctx, &s3.HeadObjectInput{
		Bucket:       bucket,
		Key:          &key,
		ChecksumMode: types.ChecksumModeEnabled,
	})
	p.must(err)
	return out
}

// API_CopyObject: "the object copy will be a single part object"; Checking object
// integrity.
func s3CopyJoinsParts(p *s3Probe) {
	bucket := p.bucket()
	before := p.inParts(bucket, "k")
	p.same("checksum type before", before.ChecksumType, types.ChecksumTypeComposite)
	_, err := p.copyOnto(bucket, "k", "k", func(in *s3.CopyObjectInput) {
		in.MetadataDirective = types.MetadataDirectiveReplace
	})
	p.must(err)
	after := p.head(bucket, "k")
	p.same("checksum type after", after.ChecksumType, types.ChecksumTypeFullObject)
	p.same("ETag counts parts", strings.Contains(aws.ToString(after.ETag), "-"), false)
}

// API_CopyObject: StorageClass.
func s3CopyArchived(p *s3Probe) {
	bucket := p.bucket()
	p.put(bucket, "k", "body", func(in *s3.PutObjectInput) {
		in.StorageClass = types.StorageClassGlacier
	})
	_, err := p.copyOnto(bucket, "k", "k", func(in *s3.CopyObjectInput) {
		in.MetadataDirective = types.MetadataDirectiveReplace
	})
	p.want("", http.StatusForbidden, err)
	out, err := p.HeadObject(p.ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("k")})
	p.must(err)
	p.same("class", out.StorageClass, types.StorageClassGlacier)
}

// API_HeadObject: PartNumber, PartsCount.
func s3HeadParts(p *s3Probe) {
	bucket := p.bucket()
	p.inParts(bucket, "k")
	for n, size := range map[int32]int64{1: 5 << 20, 2: 3} {
		out, err := p.HeadObject(p.ctx, &s3.HeadObjectInput{
			Bucket:     bucket,
			Key:        aws.String("k"),
			PartNumber: &n,
		})
		p.must(err)
		p.same("size and parts", [2]int64{
			aws.ToInt64(out.ContentLength),
			int64(aws.ToInt32(out.PartsCount)),
		}, [2]int64{size, 2})
	}
	p.put(bucket, "one", "body")
	out, err := p.HeadObject(p.ctx, &s3.HeadObjectInput{
		Bucket:     bucket,
		Key:        aws.String("one"),
		PartNumber: aws.Int32(1),
	})
	p.must(err)
	p.same("parts of an object of one piece", out.PartsCount == nil, true)
}

// API_UploadPartCopy, API_CompleteMultipartUpload.
func s3PartsAgain(p *s3Probe) {
	bucket := p.bucket()
	before := p.inParts(bucket, "k")
	up, err := p.CreateMultipartUpload(p.ctx, &s3.CreateMultipartUploadInput{
		Bucket:            bucket,
		Key:               aws.String("k"),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
	})
	p.must(err)
	var parts []types.CompletedPart
	for i, stretch := range []string{"bytes=0-5242879", "bytes=5242880-5242882"} {
		n := int32(i + 1)
		out, err := p.UploadPartCopy(p.ctx, &s3.UploadPartCopyInput{
			Bucket:            bucket,
			Key:               aws.String("k"),
			UploadId:          up.UploadId,
			PartNumber:        &n,
			CopySource:        aws.String(*bucket + "/k"),
			CopySourceRange:   &stretch,
			CopySourceIfMatch: before.ETag,
		})
		p.must(err)
		parts = append(parts, types.CompletedPart{
			PartNumber:     &n,
			ETag:           out.CopyPartResult.ETag,
			ChecksumSHA256: out.CopyPartResult.ChecksumSHA256,
		})
	}
	_, err = p.complete(bucket, up.UploadId, "k", before.ETag, parts...)
	p.must(err)
	after := p.head(bucket, "k")
	p.same("ETag", aws.ToString(after.ETag), aws.ToString(before.ETag))
	p.same("checksum", aws.ToString(after.ChecksumSHA256), aws.ToString(before.ChecksumSHA256))
}

// API_CompleteMultipartUpload: checksums of the parts; Checking object integrity.
func s3PartChecksums(p *s3Probe) {
	bucket := p.bucket()
	up, err := p.CreateMultipartUpload(p.ctx, &s3.CreateMultipartUploadInput{
		Bucket:            bucket,
		Key:               aws.String("k"),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
	})
	p.must(err)
	out, err := p.UploadPart(p.ctx, &s3.UploadPartInput{
		Bucket:            bucket,
		Key:               aws.String("k"),
		UploadId:          up.UploadId,
		PartNumber:        aws.Int32(1),
		Body:              strings.NewReader("x"),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
	})
	p.must(err)
	_, err = p.complete(bucket, up.UploadId, "k", nil, types.CompletedPart{
		PartNumber: aws.Int32(1),
		ETag:       out.ETag,
	})
	p.want("InvalidRequest", http.StatusBadRequest, err)
	_, err = p.CreateMultipartUpload(p.ctx, &s3.CreateMultipartUploadInput{
		Bucket:            bucket,
		Key:               aws.String("k"),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		ChecksumType:      types.ChecksumTypeFullObject,
	})
	p.want("InvalidRequest", http.StatusBadRequest, err)
}
