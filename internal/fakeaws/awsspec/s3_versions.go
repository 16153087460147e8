package awsspec

import (
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func s3VersionCases() []s3Case {
	return []s3Case{
		{"Versioning/old versions are kept and can be read", s3OldVersions},
		{"Versioning/a delete creates a delete marker", s3DeleteMarker},
		{"ObjectLock/retention and legal hold are returned and enforced", s3ObjectLock},
	}
}

// Using versioning in S3 buckets.
func s3OldVersions(p *s3Probe) {
	bucket := p.versioned()
	first := p.put(bucket, "k", "1")
	second := p.put(bucket, "k", "2", func(in *s3.PutObjectInput) { in.IfMatch = first.ETag })
	if aws.ToString(first.VersionId) == "" ||
		aws.ToString(first.VersionId) == aws.ToString(second.VersionId) {
		p.Fatalf("the version ids %v and %v must differ", first.VersionId, second.VersionId)
	}
	now, body := p.get(bucket, "k")
	p.same("now", body+aws.ToString(now.VersionId), "2"+*second.VersionId)
	_, body = p.get(bucket, "k", func(in *s3.GetObjectInput) { in.VersionId = first.VersionId })
	p.same("then", body, "1")
	_, err := p.DeleteObject(p.ctx, &s3.DeleteObjectInput{
		Bucket:    bucket,
		Key:       aws.String("k"),
		VersionId: second.VersionId,
	})
	p.must(err)
	_, body = p.get(bucket, "k")
	p.same("after the newest is deleted", body, "1")
}

// Working with delete markers.
func s3DeleteMarker(p *s3Probe) {
	bucket := p.versioned()
	put := p.put(bucket, "k", "1")
	_, err := p.DeleteObject(p.ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("k")})
	p.must(err)
	_, err = p.GetObject(p.ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("k")})
	p.want("NoSuchKey", http.StatusNotFound, err)
	_, err = p.tryPut(bucket, "k", "2", func(in *s3.PutObjectInput) { in.IfMatch = put.ETag })
	p.want("NoSuchKey", http.StatusNotFound, err)
	p.get(bucket, "k", func(in *s3.GetObjectInput) { in.VersionId = put.VersionId })
}

// Locking objects with Object Lock; API_PutObject: lock headers.
func s3ObjectLock(p *s3Probe) {
	bucket := p.bucket(func(in *s3.CreateBucketInput) {
		in.ObjectLockEnabledForBucket = aws.Bool(true)
	})
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	put := p.put(bucket, "k", "1", func(in *s3.PutObjectInput) {
		in.ObjectLockMode = types.ObjectLockModeGovernance
		in.ObjectLockRetainUntilDate = &until
		in.ObjectLockLegalHoldStatus = types.ObjectLockLegalHoldStatusOn
	})
	got, _ := p.get(bucket, "k")
	p.same("mode", got.ObjectLockMode, types.ObjectLockModeGovernance)
	p.same("hold", got.ObjectLockLegalHoldStatus, types.ObjectLockLegalHoldStatusOn)
	p.same("until", aws.ToTime(got.ObjectLockRetainUntilDate).UTC(), until)
	_, err := p.DeleteObject(p.ctx, &s3.DeleteObjectInput{
		Bucket:    bucket,
		Key:       aws.String("k"),
		VersionId: put.VersionId,
	})
	p.want("AccessDenied", http.StatusForbidden, err)
	p.put(bucket, "k", "2") // a new version; the old one stays
	p.get(bucket, "k", func(in *s3.GetObjectInput) { in.VersionId = put.VersionId })
	retention, err := p.GetObjectRetention(p.ctx, &s3.GetObjectRetentionInput{
		Bucket:    bucket,
		Key:       aws.String("k"),
		VersionId: put.VersionId,
	})
	p.must(err)
	p.same("retention", retention.Retention.Mode, types.ObjectLockRetentionModeGovernance)
	_, err = p.PutObjectLegalHold(p.ctx, &s3.PutObjectLegalHoldInput{
		Bucket:    bucket,
		Key:       aws.String("k"),
		VersionId: put.VersionId,
		LegalHold: &types.ObjectLockLegalHold{Status: types.ObjectLockLegalHoldStatusOff},
	})
	p.must(err)
	hold, err := p.GetObjectLegalHold(p.ctx, &s3.GetObjectLegalHoldInput{
		Bucket:    bucket,
		Key:       aws.String("k"),
		VersionId: put.VersionId,
	})
	p.must(err)
	p.same("hold", hold.LegalHold.Status, types.ObjectLockLegalHoldStatusOff)
	_, err = p.tryPut(p.bucket(), "k", "1", func(in *s3.PutObjectInput) {
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = types.ObjectLockModeGovernance, &until
	})
	p.want("InvalidRequest", http.StatusBadRequest, err)
}
