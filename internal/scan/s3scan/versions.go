package s3scan

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// CountOldVersions notes how many old versions the bucket keeps under the prefix:
// they cannot be rewritten, and whatever they hold stays under its key. A bucket
// that has never had versioning is not asked. It takes one request for 1,000
// versions (API_ListObjectVersions).
func (b *Bucket) CountOldVersions(ctx context.Context) error {
	versioning, err := b.config.Client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{
		Bucket: &b.config.Bucket,
	})
	if err != nil || versioning.Status == "" {
		return nil // Check has noted what could not be read
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
			return fmt.Errorf("list the versions of bucket %s: the server names no place to go "+
				"on from", b.config.Bucket)
		}
		in.KeyMarker, in.VersionIdMarker = &next, out.NextVersionIdMarker
	}
	b.note("bucket %s keeps %d old versions under %q: a converged pass says nothing of the "+
		"ciphertexts in them", b.config.Bucket, old, b.config.Prefix)
	return nil
}
