package s3scan

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/scan"
)

// A key outside of the prefix is an error.
func TestKeyOutsidePrefix(t *testing.T) {
	store := newStore(t, nil)
	store.write("elsewhere", "body")
	source := store.source(store.through(func(_ http.ResponseWriter, r *http.Request) bool {
		query := r.URL.Query()
		query.Del("prefix")
		r.URL.RawQuery = query.Encode()
		return false
	}))
	partitions, err := source.Partitions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	page, err := source.Page(t.Context(), partitions[0], nil)
	if err == nil || !strings.Contains(err.Error(), `returned key "elsewhere"`) {
		t.Errorf("Page = %+v, %v, want an error", page, err)
	}
}

// A server that returns the same page of versions again causes an error.
func TestRepeatedVersionPage(t *testing.T) {
	// Object Lock enables versioning
	store := newStore(t, func(in *s3.CreateBucketInput) {
		in.ObjectLockEnabledForBucket = aws.Bool(true)
	})
	source := store.source(store.through(func(w http.ResponseWriter, r *http.Request) bool {
		if !r.URL.Query().Has("versions") {
			return false
		}
		_, _ = w.Write([]byte("<ListVersionsResult><IsTruncated>true</IsTruncated>" +
			"<NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker>" +
			"</ListVersionsResult>"))
		return true
	}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := source.CountOldVersions(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("%v, %v, want an error", err, ctx.Err())
	}
}

// With a filter, all selected objects are found for all page sizes, and others are counted.
// If few keys are selected, one request lists many keys.
func TestPagesUnderAFilter(t *testing.T) {
	store := newStore(t, nil)
	var want []scan.Ref
	for i := range 200 {
		ref := scan.Ref(fmt.Sprintf("%s%02d/%d", prefix, i/10, i%10))
		store.write(ref, "body")
		if i < 50 || i%10 == 3 {
			want = append(want, ref)
		}
	}
	requests := store.faults.Counts()["s3:ListObjectsV2"]
	source := store.source(func(c *Config) {
		c.Globs = scan.NewGlobs([]string{"0[0-4]/*", "**/3"}, []string{"none"})
	})
	got, excluded := listAll(t, source)
	if !slices.Equal(got, want) || excluded != 200-int64(len(want)) {
		t.Errorf("%d items and %d excluded, want %d items of 200", len(got), excluded, len(want))
	}
	const most = 16 // 29 pages of 7 keys without a filter
	if sent := store.faults.Counts()["s3:ListObjectsV2"] - requests; sent > most {
		t.Errorf("%d requests, want at most %d", sent, most)
	}
}

// listAll reads all pages. No page may have more items than the limit.
func listAll(t *testing.T, source *Bucket) (refs []scan.Ref, excluded int64) {
	t.Helper()
	partitions, err := source.Partitions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var cursor scan.Cursor
	for {
		page, err := source.Page(t.Context(), partitions[0], cursor)
		if err != nil || len(page.Items) > int(source.config.PageLimit) {
			t.Fatalf("page of %d items, %v", len(page.Items), err)
		}
		excluded += page.Excluded
		for _, item := range page.Items {
			refs = append(refs, item.Ref)
		}
		if page.Last {
			return refs, excluded
		}
		cursor = page.Next
	}
}
