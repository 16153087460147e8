package s3scan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/scan"
)

// readVersions reads all old versions, and returns their keys with their bodies.
func readVersions(t *testing.T, source *OldVersions) (found []string) {
	t.Helper()
	parts, err := source.Partitions(t.Context())
	if err != nil || len(parts) != 1 {
		t.Fatalf("%d partitions, %v", len(parts), err)
	}
	for cursor := (scan.Cursor)(nil); ; {
		page, err := source.Page(t.Context(), parts[0], cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, listed := range page.Items {
			item, err := source.Load(t.Context(), listed.Ref)
			if err != nil {
				t.Fatalf("%s: %v", listed.Ref, err)
			}
			object := item.Payload.(*scan.Object)
			found = append(found, fmt.Sprintf("%s=%s", strings.TrimPrefix(object.Key, prefix),
				object.Body))
		}
		if page.Last {
			slices.Sort(found)
			return found
		}
		cursor = page.Next
	}
}

// TestOldVersions: exactly the versions that are not current are read, over several pages, with
// their own contents, also those of deleted objects. Filters apply.
func TestOldVersions(t *testing.T) {
	store := newStore(t, func(in *s3.CreateBucketInput) {
		in.ObjectLockEnabledForBucket = aws.Bool(true) // enables versioning
	})
	var want []string
	for version := range 5 {
		for n := range 4 {
			key := fmt.Sprintf("odd key+%d", n)
			body := fmt.Sprintf("%d of %d", version, n)
			if _, err := store.direct.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: aws.String(bucketName),
				Key:    aws.String(prefix + key),
				Body:   strings.NewReader(body),
			}); err != nil {
				t.Fatal(err)
			}
			if version < 4 || n == 0 { // object 0 is deleted below
				want = append(want, key+"="+body)
			}
		}
	}
	if _, err := store.direct.DeleteObject(t.Context(), &s3.DeleteObjectInput{
		Bucket: aws.String(bucketName),
		Key:    aws.String(prefix + "odd key+0"),
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	if got := readVersions(t, store.source(nil).OldVersions()); !slices.Equal(got, want) {
		t.Errorf("old versions %q, want %q", got, want)
	}
	filtered := store.source(func(c *Config) {
		c.Globs = scan.NewGlobs([]string{"*+2"}, nil)
	}).OldVersions()
	only := slices.DeleteFunc(want, func(s string) bool {
		return !strings.HasPrefix(s, "odd key+2")
	})
	if got := readVersions(t, filtered); !slices.Equal(got, only) {
		t.Errorf("with a filter %q, want %q", got, only)
	}
}
