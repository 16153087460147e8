package s3scan

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/plural"
)

// CountOldVersions notes the number of old versions under the prefix. They cannot be
// rewritten, and their ciphertexts remain under their keys. It sends one request for each
// 1,000 versions (API_ListObjectVersions), or none if the bucket has never had versioning.
func (b *Bucket) CountOldVersions(ctx context.Context) error {
	versioning, err := b.config.Client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{
		Bucket: &b.config.Bucket,
	})
	if err != nil || versioning.Status == "" {
		return nil // Check has noted an unreadable versioning status
	}
	old := 0
	in := &s3.ListObjectVersionsInput{
		Bucket:       &b.config.Bucket,
		Prefix:       &b.config.Prefix,
		EncodingType: types.EncodingTypeUrl,
	}
	for {
		out, err := b.config.Client.ListObjectVersions(ctx, in)
		if err != nil {
			return fmt.Errorf("list the versions of bucket %s: %w", b.config.Bucket, err)
		}
		for _, v := range out.Versions {
			if !aws.ToBool(v.IsLatest) {
				old++
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			break
		}
		next, err := decodeKey(out.EncodingType, aws.ToString(out.NextKeyMarker))
		stays := next == aws.ToString(in.KeyMarker) &&
			aws.ToString(out.NextVersionIdMarker) == aws.ToString(in.VersionIdMarker)
		if err != nil || next == "" || stays {
			return fmt.Errorf("list the versions of bucket %s: the server returned no "+
				"marker for the next page", b.config.Bucket)
		}
		in.KeyMarker, in.VersionIdMarker = &next, out.NextVersionIdMarker
	}
	b.note("bucket %s keeps %s under %q; a pass does not rewrite %s, and a converged pass is no "+
		"evidence about %s ciphertexts", b.config.Bucket, plural.Count(old, "old version"),
		b.config.Prefix, plural.Form(old, "it", "them"), plural.Form(old, "its", "their"))
	return nil
}
