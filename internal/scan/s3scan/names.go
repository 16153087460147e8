package s3scan

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Names returns existing prefixes and keys next to the prefix of the target, up
// to the next slash, for a message about a prefix without objects. If there are
// none, it returns those at the root of the bucket. It sends at most two
// listings of up to 1,000 names.
func (b *Bucket) Names(ctx context.Context) ([]string, error) {
	above := strings.TrimSuffix(b.config.Prefix, "/")
	above = above[:strings.LastIndex(above, "/")+1]
	names, err := b.namesUnder(ctx, above)
	if err != nil || len(names) > 0 || above == "" {
		return names, err
	}
	return b.namesUnder(ctx, "")
}

func (b *Bucket) namesUnder(ctx context.Context, prefix string) (names []string, err error) {
	out, err := b.config.Client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
		Bucket:       &b.config.Bucket,
		Prefix:       &prefix,
		Delimiter:    aws.String("/"),
		EncodingType: types.EncodingTypeUrl,
	})
	if err != nil {
		return nil, fmt.Errorf("list prefixes of bucket %s: %w", b.config.Bucket, err)
	}
	var all []*string
	for _, common := range out.CommonPrefixes {
		all = append(all, common.Prefix)
	}
	for _, object := range out.Contents {
		all = append(all, object.Key)
	}
	for _, name := range all {
		decoded, err := decodeKey(out.EncodingType, aws.ToString(name))
		if err != nil {
			return nil, err
		}
		names = append(names, decoded)
	}
	return names, nil
}

// Account returns the account that owns the bucket: the account in the ARN of
// an access point, or that of the caller if S3 confirms it. It is empty if the
// account is unknown.
func (b *Bucket) Account(ctx context.Context, caller string) string {
	if parts := strings.SplitN(b.config.Bucket, ":", 6); len(parts) == 6 {
		return parts[4]
	}
	if caller == "" {
		return ""
	}
	_, err := b.config.Client.HeadBucket(ctx, &s3.HeadBucketInput{
		Bucket:              &b.config.Bucket,
		ExpectedBucketOwner: &caller,
	})
	if err != nil {
		return ""
	}
	return caller
}
