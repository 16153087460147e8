package s3scan

import (
	"net/http"
	"strings"
	"testing"
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
