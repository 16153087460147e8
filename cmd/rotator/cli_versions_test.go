package main

import (
	"context"

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
