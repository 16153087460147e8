package awsspec

import (
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func s3SettingCases() []s3Case {
	return []s3Case{
		{"Lifecycle/NoSuchLifecycleConfiguration, or the rules as they were put", s3Lifecycle},
		{"Replication/only with versioning, and returned as it was put", s3Replication},
		{"ObjectLockConfiguration/the default retention applies to new versions", s3LockDefault},
		{"ListObjectVersions/pages of versions and delete markers, newest first", s3VersionPages},
		{"ListMultipartUploads/by prefix, in pages, with the time of initiation", s3UploadPages},
	}
}

// API_GetBucketLifecycleConfiguration, API_PutBucketLifecycleConfiguration.
func s3Lifecycle(p *s3Probe) {
	bucket := p.versioned()
	get := &s3.GetBucketLifecycleConfigurationInput{Bucket: bucket}
	_, err := p.GetBucketLifecycleConfiguration(p.ctx, get)
	p.want("NoSuchLifecycleConfiguration", http.StatusNotFound, err)
	put := func(status types.ExpirationStatus) error {
		_, err := p.PutBucketLifecycleConfiguration(p.ctx,
			&s3.PutBucketLifecycleConfigurationInput{
				Bucket: bucket,
				LifecycleConfiguration: &types.BucketLifecycleConfiguration{
					Rules: []types.LifecycleRule{{
						ID:     aws.String("old"),
						Status: status,
						Filter: &types.LifecycleRuleFilter{And: &types.LifecycleRuleAndOperator{
							Prefix: aws.String("a/"),
							Tags:   []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}},
						}},
						NoncurrentVersionExpiration: &types.NoncurrentVersionExpiration{
							NoncurrentDays:          aws.Int32(30),
							NewerNoncurrentVersions: aws.Int32(2),
						},
					}, {
						ID:     aws.String("uploads"),
						Status: types.ExpirationStatusEnabled,
						Filter: &types.LifecycleRuleFilter{Prefix: aws.String("")},
						AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{
							DaysAfterInitiation: aws.Int32(7),
						},
					}},
				},
			})
		return err
	}
	p.want("MalformedXML", http.StatusBadRequest, put("Perhaps"))
	p.must(put(types.ExpirationStatusEnabled))
	out, err := p.GetBucketLifecycleConfiguration(p.ctx, get)
	p.must(err)
	p.same("rules", len(out.Rules), 2)
	old := out.Rules[0]
	p.same("prefix", aws.ToString(old.Filter.And.Prefix), "a/")
	p.same("tags", len(old.Filter.And.Tags), 1)
	p.same("days", aws.ToInt32(old.NoncurrentVersionExpiration.NoncurrentDays), int32(30))
	p.same("kept", aws.ToInt32(old.NoncurrentVersionExpiration.NewerNoncurrentVersions), int32(2))
	p.same("uploads",
		aws.ToInt32(out.Rules[1].AbortIncompleteMultipartUpload.DaysAfterInitiation), int32(7))
	_, err = p.DeleteBucketLifecycle(p.ctx, &s3.DeleteBucketLifecycleInput{Bucket: bucket})
	p.must(err)
	_, err = p.GetBucketLifecycleConfiguration(p.ctx, get)
	p.want("NoSuchLifecycleConfiguration", http.StatusNotFound, err)
}

// API_GetBucketReplication, API_PutBucketReplication.
func s3Replication(p *s3Probe) {
	bucket, destination := p.versioned(), p.versioned()
	get := &s3.GetBucketReplicationInput{Bucket: bucket}
	_, err := p.GetBucketReplication(p.ctx, get)
	p.want("ReplicationConfigurationNotFoundError", http.StatusNotFound, err)
	put := &s3.PutBucketReplicationInput{
		Bucket: bucket,
		ReplicationConfiguration: &types.ReplicationConfiguration{
			Role: aws.String("arn:aws:iam::111122223333:role/replication"),
			Rules: []types.ReplicationRule{{
				ID:       aws.String("all"),
				Priority: aws.Int32(1),
				Status:   types.ReplicationRuleStatusEnabled,
				Filter:   &types.ReplicationRuleFilter{Prefix: aws.String("a/")},
				DeleteMarkerReplication: &types.DeleteMarkerReplication{
					Status: types.DeleteMarkerReplicationStatusDisabled,
				},
				Destination: &types.Destination{
					Bucket: aws.String("arn:" + partition(p.region) + ":s3:::" + *destination),
				},
			}},
		},
	}
	_, err = p.PutBucketReplication(p.ctx, put)
	p.must(err)
	out, err := p.GetBucketReplication(p.ctx, get)
	p.must(err)
	rule := out.ReplicationConfiguration.Rules[0]
	p.same("status", rule.Status, types.ReplicationRuleStatusEnabled)
	p.same("prefix", aws.ToString(rule.Filter.Prefix), "a/")
	p.same("destination", aws.ToString(rule.Destination.Bucket),
		"arn:"+partition(p.region)+":s3:::"+*destination)
	put.Bucket = p.bucket()
	_, err = p.PutBucketReplication(p.ctx, put)
	p.want("InvalidRequest", http.StatusBadRequest, err)
	_, err = p.DeleteBucketReplication(p.ctx, &s3.DeleteBucketReplicationInput{Bucket: bucket})
	p.must(err)
	_, err = p.GetBucketReplication(p.ctx, get)
	p.want("ReplicationConfigurationNotFoundError", http.StatusNotFound, err)
}

// API_GetObjectLockConfiguration, API_PutObjectLockConfiguration; Locking objects with Object
// Lock: default retention.
func s3LockDefault(p *s3Probe) {
	_, err := p.GetObjectLockConfiguration(p.ctx, &s3.GetObjectLockConfigurationInput{
		Bucket: p.bucket(),
	})
	p.want("ObjectLockConfigurationNotFoundError", http.StatusNotFound, err)
	bucket := p.bucket(func(in *s3.CreateBucketInput) {
		in.ObjectLockEnabledForBucket = aws.Bool(true)
	})
	get := &s3.GetObjectLockConfigurationInput{Bucket: bucket}
	out, err := p.GetObjectLockConfiguration(p.ctx, get)
	p.must(err)
	p.same("enabled", out.ObjectLockConfiguration.ObjectLockEnabled, types.ObjectLockEnabledEnabled)
	_, err = p.PutObjectLockConfiguration(p.ctx, &s3.PutObjectLockConfigurationInput{
		Bucket: bucket,
		ObjectLockConfiguration: &types.ObjectLockConfiguration{
			ObjectLockEnabled: types.ObjectLockEnabledEnabled,
			Rule: &types.ObjectLockRule{DefaultRetention: &types.DefaultRetention{
				Mode: types.ObjectLockRetentionModeGovernance,
				Days: aws.Int32(10),
			}},
		},
	})
	p.must(err)
	out, err = p.GetObjectLockConfiguration(p.ctx, get)
	p.must(err)
	p.same("days", aws.ToInt32(out.ObjectLockConfiguration.Rule.DefaultRetention.Days), int32(10))
	p.put(bucket, "k", "1")
	got, _ := p.get(bucket, "k")
	p.same("mode", got.ObjectLockMode, types.ObjectLockModeGovernance)
	until := time.Now().AddDate(0, 0, 10)
	if d := aws.ToTime(got.ObjectLockRetainUntilDate).Sub(until).Abs(); d > time.Hour {
		p.Errorf("locked until %v, want %v", got.ObjectLockRetainUntilDate, until)
	}
}

// API_ListObjectVersions.
func s3VersionPages(p *s3Probe) {
	bucket := p.versioned()
	for _, body := range []string{"1", "22", "333"} {
		p.put(bucket, "a/k", body)
	}
	p.put(bucket, "b/k", "other")
	_, err := p.DeleteObject(p.ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("a/k")})
	p.must(err)
	var sizes []int64
	markers, latest := 0, 0
	in := &s3.ListObjectVersionsInput{
		Bucket:  bucket,
		Prefix:  aws.String("a/"),
		MaxKeys: aws.Int32(2),
	}
	for range 5 {
		page, err := p.ListObjectVersions(p.ctx, in)
		p.must(err)
		if n := len(page.Versions) + len(page.DeleteMarkers); n > 2 {
			p.Errorf("a page has %d entries, want at most 2", n)
		}
		for _, v := range page.Versions {
			p.same("key", aws.ToString(v.Key), "a/k")
			p.same("latest", aws.ToBool(v.IsLatest), false)
			sizes = append(sizes, aws.ToInt64(v.Size))
		}
		for _, m := range page.DeleteMarkers {
			markers++
			if aws.ToBool(m.IsLatest) {
				latest++
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			break
		}
		in.KeyMarker, in.VersionIdMarker = page.NextKeyMarker, page.NextVersionIdMarker
	}
	p.same("sizes", sizes, []int64{3, 2, 1})
	p.same("delete markers, latest", []int{markers, latest}, []int{1, 1})
}

// API_ListMultipartUploads.
func s3UploadPages(p *s3Probe) {
	bucket := p.bucket()
	want := map[string]bool{}
	for _, key := range []string{"a/1", "a/2", "a/1"} {
		want[*p.upload(bucket, key)] = true
	}
	p.upload(bucket, "b/1")
	var keys []string
	in := &s3.ListMultipartUploadsInput{
		Bucket:     bucket,
		Prefix:     aws.String("a/"),
		MaxUploads: aws.Int32(2),
	}
	for range 5 {
		page, err := p.ListMultipartUploads(p.ctx, in)
		p.must(err)
		for _, u := range page.Uploads {
			if !want[aws.ToString(u.UploadId)] {
				p.Errorf("upload %v of %v is listed", *u.UploadId, *u.Key)
			}
			delete(want, aws.ToString(u.UploadId))
			keys = append(keys, aws.ToString(u.Key))
			if d := time.Since(aws.ToTime(u.Initiated)).Abs(); d > time.Hour {
				p.Errorf("initiated %v", u.Initiated)
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			break
		}
		in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
	}
	if len(want) > 0 || !slices.Equal(keys, []string{"a/1", "a/1", "a/2"}) {
		p.Errorf("the pages have the keys %v, and %d uploads are missing", keys, len(want))
	}
}
