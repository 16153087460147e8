package s3scan

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// A server that lists more than the prefix would have us rewrite what nobody
// asked for.
func TestKeysOutsideOfThePrefixAreRefused(t *testing.T) {
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
	if err == nil || !strings.Contains(err.Error(), `names key "elsewhere"`) {
		t.Errorf("Page = %+v, %v, want the key refused", page, err)
	}
}

// A server that goes in circles is an error, not a count without end.
func TestVersionsInCirclesAreRefused(t *testing.T) {
	store := newStore(t, func(in *s3.CreateBucketInput) { in.ObjectLockEnabledForBucket = aws.Bool(true) }) // and so versioning
	source := store.source(store.through(func(w http.ResponseWriter, r *http.Request) bool {
		if !r.URL.Query().Has("versions") {
			return false
		}
		_, _ = w.Write([]byte("<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker></ListVersionsResult>"))
		return true
	}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := source.CountOldVersions(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("%v, %v, want the circle refused", err, ctx.Err())
	}
}
