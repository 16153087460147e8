package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/rogpeppe/go-internal/testscript"
)

func (w *world) versioning(ts *testscript.TestScript, _ []string) {
	_, err := w.s3.PutBucketVersioning(context.Background(), &s3.PutBucketVersioningInput{
		Bucket: aws.String("vault"),
		VersioningConfiguration: &s3types.VersioningConfiguration{
			Status: s3types.BucketVersioningStatusEnabled,
		},
	})
	ts.Check(err)
}

func (w *world) erase(ts *testscript.TestScript, args []string) {
	_, err := w.s3.DeleteObject(context.Background(), &s3.DeleteObjectInput{
		Bucket: aws.String("vault"),
		Key:    &args[0],
	})
	ts.Check(err)
}

func (w *world) expire(ts *testscript.TestScript, _ []string) {
	ctx := context.Background()
	pages := s3.NewListObjectVersionsPaginator(w.s3,
		&s3.ListObjectVersionsInput{Bucket: aws.String("vault")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		ts.Check(err)
		for _, v := range page.Versions {
			if aws.ToBool(v.IsLatest) {
				continue
			}
			_, err := w.s3.DeleteObject(ctx, &s3.DeleteObjectInput{
				Bucket:    aws.String("vault"),
				Key:       v.Key,
				VersionId: v.VersionId,
			})
			ts.Check(err)
		}
	}
}

func (w *world) lifecycle(ts *testscript.TestScript, args []string) {
	days, err := strconv.ParseInt(args[0], 10, 32)
	ts.Check(err)
	_, err = w.s3.PutBucketLifecycleConfiguration(context.Background(),
		&s3.PutBucketLifecycleConfigurationInput{
			Bucket: aws.String("vault"),
			LifecycleConfiguration: &s3types.BucketLifecycleConfiguration{
				Rules: []s3types.LifecycleRule{{
					ID:     aws.String("old"),
					Status: s3types.ExpirationStatusEnabled,
					Filter: &s3types.LifecycleRuleFilter{Prefix: aws.String("")},
					NoncurrentVersionExpiration: &s3types.NoncurrentVersionExpiration{
						NoncurrentDays: aws.Int32(int32(days)),
					},
				}},
			},
		})
	ts.Check(err)
}

func (w *world) archive(ts *testscript.TestScript, args []string) {
	_, err := w.s3.PutObject(context.Background(), &s3.PutObjectInput{
		Bucket:       aws.String("vault"),
		Key:          &args[0],
		Body:         strings.NewReader("archived"),
		StorageClass: s3types.StorageClassDeepArchive,
	})
	ts.Check(err)
}
