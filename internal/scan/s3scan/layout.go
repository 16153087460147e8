package s3scan

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Limits of parts (Amazon S3 multipart upload limits).
const (
	minPartSize = 5 << 20
	maxParts    = 10_000
)

// defaultPartSize is the part size for an object whose part size is unknown.
const defaultPartSize = 256 << 20

// partSize returns the size of the parts in which the object was uploaded, if all parts
// except the last have the same size. A copy in the same parts has the same ETag and the same
// composite checksum. Otherwise it returns defaultPartSize, or more for an object that would
// have too many parts. The response for the first part contains its size and the number of
// parts (API_HeadObject, PartNumber).
func (b *Bucket) partSize(ctx context.Context, key string, read *snapshot) (int64, error) {
	size := read.size
	usual := max(defaultPartSize, (size+maxParts-1)/maxParts)
	if size == 0 {
		return usual, nil
	}
	one, err := b.head(ctx, &s3.HeadObjectInput{
		Bucket:     &b.config.Bucket,
		Key:        &key,
		IfMatch:    &read.properties.etag,
		PartNumber: aws.Int32(1),
	})
	if b.notSupported(err) {
		return usual, nil
	}
	if err != nil {
		return 0, err
	}
	first, count := aws.ToInt64(one.ContentLength), int64(aws.ToInt32(one.PartsCount))
	switch {
	case first <= 0 || first > maxCopySize || count < 1 || count > maxParts:
		return usual, nil
	case count > 1 && first < minPartSize:
		return usual, nil
	case (count-1)*first >= size || count*first < size:
		return usual, nil // the parts differ in size
	}
	return first, nil
}
