package s3scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/scan"
)

// OldVersions reads the old versions of the objects of a Bucket: those that were replaced, and
// those of deleted objects. It applies the filters of the bucket. It is safe for concurrent use.
type OldVersions struct{ bucket *Bucket }

// OldVersions returns a source of the old versions of the objects.
func (b *Bucket) OldVersions() *OldVersions { return &OldVersions{b} }

// Partitions returns one partition: all keys under the prefix.
func (v *OldVersions) Partitions(ctx context.Context) ([]scan.Partition, error) {
	return v.bucket.Partitions(ctx)
}

// position is a cursor between two pages of versions.
type position struct {
	Key     string `json:"key"`
	Version string `json:"version"`
}

// Page lists the old versions after the cursor. Items are not loaded. Delete markers are
// left out.
func (v *OldVersions) Page(
	ctx context.Context, p scan.Partition, cursor scan.Cursor,
) (page scan.Page, err error) {
	b := v.bucket
	var r keyRange
	if err := json.Unmarshal(p.Spec, &r); err != nil {
		return page, fmt.Errorf("read the partition of bucket %s: %w", b.config.Bucket, err)
	}
	in := &s3.ListObjectVersionsInput{
		Bucket:       &b.config.Bucket,
		Prefix:       &r.Prefix,
		EncodingType: types.EncodingTypeUrl,
	}
	if b.config.PageLimit > 0 {
		in.MaxKeys = &b.config.PageLimit
	}
	if len(cursor) > 0 {
		var at position
		if err := json.Unmarshal(cursor, &at); err != nil {
			return page, fmt.Errorf("read a cursor of bucket %s: %w", b.config.Bucket, err)
		}
		in.KeyMarker, in.VersionIdMarker = &at.Key, &at.Version
	}
	out, err := b.config.Client.ListObjectVersions(ctx, in)
	if err == nil {
		page, err = v.page(r, in, out)
	}
	if err != nil {
		return page, fmt.Errorf("list the versions of bucket %s: %w", b.config.Bucket, err)
	}
	return page, nil
}

// page converts a response to a page.
func (v *OldVersions) page(
	r keyRange, in *s3.ListObjectVersionsInput, out *s3.ListObjectVersionsOutput,
) (page scan.Page, err error) {
	for _, version := range out.Versions {
		key, err := decodeKey(out.EncodingType, aws.ToString(version.Key))
		switch {
		case err != nil:
			return page, err
		case !strings.HasPrefix(key, r.Prefix):
			return page, fmt.Errorf("the server returned key %q, which does not begin with %q", key,
				r.Prefix)
		case aws.ToBool(version.IsLatest), isProbeKey(r.Prefix, key):
		case v.bucket.config.Globs.Any() &&
			!v.bucket.config.Globs.Selects(belowPrefix(r.Prefix, key)):
		default:
			ref := versionRef(key, aws.ToString(version.VersionId))
			page.Items = append(page.Items, scan.Item{Ref: ref})
		}
	}
	if page.Last = !aws.ToBool(out.IsTruncated); page.Last {
		return page, nil
	}
	next := position{Version: aws.ToString(out.NextVersionIdMarker)}
	if next.Key, err = decodeKey(out.EncodingType, aws.ToString(out.NextKeyMarker)); err != nil {
		return page, err
	}
	last := position{aws.ToString(in.KeyMarker), aws.ToString(in.VersionIdMarker)}
	if next.Key == "" || next == last {
		return page, errors.New("the server returned no marker for the next page")
	}
	page.Next, err = json.Marshal(next)
	return page, err
}

// versionMark separates the key and the version in the Ref of an old version.
const versionMark = "?versionId="

// versionRef returns the Ref of a version.
func versionRef(key, version string) scan.Ref {
	return refOf(key) + scan.Ref(versionMark+version)
}

// Load reads an old version, with its body if the body is needed. The errors are those of
// Bucket.Load.
func (v *OldVersions) Load(ctx context.Context, ref scan.Ref) (scan.Item, error) {
	at := strings.LastIndex(string(ref), versionMark)
	if at < 0 {
		return scan.Item{}, fmt.Errorf("%q is not an old version", string(ref))
	}
	key, err := keyOf(ref[:at])
	if err != nil {
		return scan.Item{}, err
	}
	return v.bucket.load(ctx, ref, address{key: key, version: string(ref[at+len(versionMark):])})
}

// CheckAccess is Bucket.CheckAccess.
func (v *OldVersions) CheckAccess(ctx context.Context) error { return v.bucket.CheckAccess(ctx) }
