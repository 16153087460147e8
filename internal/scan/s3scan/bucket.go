// Package s3scan reads and rewrites the objects of an S3 bucket: a listing that
// can go on behind any key, and conditional PUTs that carry over everything of
// the object that a PUT would drop. What cannot be carried over refuses the
// object.
package s3scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"rotator/internal/scan"
)

// Config says which objects to read.
type Config struct {
	Client *s3.Client // with its own retries off
	Bucket string
	Prefix string // of the keys; "" is the whole bucket
	// AWS is true for the real service. Elsewhere conditional writes are probed
	// before the first write, and what only AWS has is not asked for.
	AWS bool
	// PageLimit is the most keys of a page; 0 means 1,000, which is S3's most.
	PageLimit int32
}

// Bucket is the objects of one bucket under a prefix. It is safe for concurrent
// use.
type Bucket struct {
	config Config

	mu     sync.Mutex
	acls   *bool // whether objects have ACLs of their own; nil until asked
	probed bool  // conditional writes are known to be enforced
	notes  []string
}

// New makes a Bucket. It asks nothing of the service.
func New(c Config) *Bucket { return &Bucket{config: c} }

// Notes are facts about the bucket that belong in the report.
func (b *Bucket) Notes() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.notes)
}

func (b *Bucket) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if text := fmt.Sprintf(format, args...); !slices.Contains(b.notes, text) {
		b.notes = append(b.notes, text)
	}
}

// Check says, without writing, whether the bucket can be used:
// *scan.MissingError when it is not there or in another Region.
func (b *Bucket) Check(ctx context.Context) error {
	_, err := b.config.Client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.config.Bucket})
	switch status(err) {
	case 0:
	case http.StatusNotFound:
		return &scan.MissingError{Field: "s3.bucket", Detail: fmt.Sprintf("there is no bucket %s; check the name", b.config.Bucket)}
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusBadRequest:
		return &scan.MissingError{Field: "s3.bucket", Detail: fmt.Sprintf("bucket %s is not in %s; set s3.region to its Region",
			b.config.Bucket, b.config.Client.Options().Region)}
	}
	if err != nil {
		return fmt.Errorf("head bucket %s: %w", b.config.Bucket, err)
	}
	versioning, err := b.config.Client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &b.config.Bucket})
	switch {
	case err != nil:
		b.note("bucket %s: whether it keeps old versions could not be read (%s); old versions keep their ciphertext and are not counted", b.config.Bucket, code(err))
	case versioning.Status != "":
		b.note("bucket %s has versioning: old versions of its objects keep their ciphertext under the old key, and are not counted", b.config.Bucket)
	}
	return nil
}

// keyRange is the Spec of a partition.
type keyRange struct {
	Prefix string `json:"prefix"`
}

// Partitions returns the one key range of the prefix.
func (b *Bucket) Partitions(context.Context) ([]scan.Partition, error) {
	spec, err := json.Marshal(keyRange{Prefix: b.config.Prefix})
	return []scan.Partition{{Name: fmt.Sprintf("keys under %q", b.config.Prefix), Spec: spec}}, err
}

// Page lists the keys behind the cursor, which is the last key of the page
// before: continuation tokens are not known to live long. Items are not loaded.
func (b *Bucket) Page(ctx context.Context, p scan.Partition, cursor scan.Cursor) (scan.Page, error) {
	var r keyRange
	if err := json.Unmarshal(p.Spec, &r); err != nil {
		return scan.Page{}, fmt.Errorf("read the partition of bucket %s: %w", b.config.Bucket, err)
	}
	in := &s3.ListObjectsV2Input{Bucket: &b.config.Bucket, Prefix: &r.Prefix, EncodingType: types.EncodingTypeUrl}
	if len(cursor) > 0 {
		in.StartAfter = aws.String(string(cursor))
	}
	if b.config.PageLimit > 0 {
		in.MaxKeys = &b.config.PageLimit
	}
	out, err := b.config.Client.ListObjectsV2(ctx, in)
	if err != nil {
		return scan.Page{}, fmt.Errorf("list bucket %s: %w", b.config.Bucket, err)
	}
	page := scan.Page{Last: !aws.ToBool(out.IsTruncated)}
	for _, object := range out.Contents {
		key, err := decodeKey(out.EncodingType, aws.ToString(object.Key))
		if err != nil {
			return scan.Page{}, fmt.Errorf("list bucket %s: %w", b.config.Bucket, err)
		}
		page.Items = append(page.Items, scan.Item{Ref: scan.Ref(key)})
		page.Next = scan.Cursor(key)
	}
	if !page.Last && len(page.Items) == 0 {
		return scan.Page{}, fmt.Errorf("list bucket %s: the server says that there is more, and names no key", b.config.Bucket)
	}
	return page, nil
}

// decodeKey undoes EncodingType=url, where the server honoured it.
func decodeKey(encoding types.EncodingType, key string) (string, error) {
	if encoding != types.EncodingTypeUrl {
		return key, nil
	}
	return url.QueryUnescape(key)
}

// status is the HTTP status of an error; 0 for none, -1 for an error without.
func status(err error) int {
	if err == nil {
		return 0
	}
	var answered interface{ HTTPStatusCode() int }
	if errors.As(err, &answered) {
		return answered.HTTPStatusCode()
	}
	return -1
}

// code is the service's code of an error.
func code(err error) string {
	if api := (smithy.APIError)(nil); errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}
