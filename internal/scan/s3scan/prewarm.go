package s3scan

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/scan/prewarm"
)

// connect opens the connections that concurrent workers and the listing can need, with
// listings of one key.
func (b *Bucket) connect(ctx context.Context, prefix, after string) {
	in := &s3.ListObjectsV2Input{
		Bucket:     &b.config.Bucket,
		Prefix:     &prefix,
		StartAfter: &after,
		MaxKeys:    aws.Int32(1),
	}
	prewarm.Connections(ctx, b.config.Connections, b.config.Client.Options().Credentials, func(
		ctx context.Context,
	) {
		_, _ = b.config.Client.ListObjectsV2(ctx, in)
	})
}
