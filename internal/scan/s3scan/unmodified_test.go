package s3scan

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"rotator/internal/scan"
)

// sinceHeader is the condition that a source was not modified.
const sinceHeader = "X-Amz-Copy-Source-If-Unmodified-Since"

// What another writer does to the metadata right after it was read is not lost, though
// no look comes between and the ETag stays.
func TestMetadataChangedBeforeACopy(t *testing.T) {
	for name, onAWS := range map[string]bool{"AWS": true, "another server": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t, nil)
			put := store.plain()
			source := store.inMetadata(store.annotations("", func(c *Config) { c.AWS = onAWS }))
			settled := put(0)
			time.Sleep(settlingTime + time.Second)
			young := put(1)
			for _, ref := range []scan.Ref{settled, young} { // the first has the probes behind it
				item, err := source.Load(t.Context(), ref)
				if err != nil {
					t.Fatal(err)
				}
				store.value(ref, "theirs")
				before := store.faults.Counts()["s3:CopyObject"]
				err = source.Replace(t.Context(), []scan.Change{
					{Item: item, New: spliceMetadata(item.Payload, []byte("new"))},
				})[0].Err
				if got := store.slot(ref); !errors.Is(err, scan.ErrChanged) || got != "theirs" {
					t.Errorf("%v, the slot holds %q", err, got)
				}
				if copied := store.faults.Counts()["s3:CopyObject"] - before; ref == young &&
					copied > 0 {
					t.Errorf("%s is young, and was copied without a look", ref)
				}
			}
		})
	}
}

// A server that ignores the condition, or takes it for one that never holds, gets a
// look before each copy: found by a probe, and on AWS by the first copy.
func TestCopyUnmodifiedElsewhere(t *testing.T) {
	for _, c := range []struct {
		name   string
		onAWS  bool
		handle func(http.ResponseWriter, *http.Request) bool
	}{
		{
			"it is ignored",
			false,
			func(_ http.ResponseWriter, r *http.Request) bool {
				r.Header.Del(sinceHeader)
				return false
			},
		},
		{"it never holds", false, never},
		{"it never holds on AWS", true, never},
	} {
		store := newStore(t, nil)
		put := store.plain()
		source := store.inMetadata(store.through(c.handle))
		source.config.AWS = c.onAWS
		for n := range 2 {
			change := settle(store.changeMetadata(source, put(n), 0))
			var err error
			sent := store.sent(func() {
				err = source.Replace(t.Context(), []scan.Change{change})[0].Err
			})
			if err != nil || store.slot(change.Item.Ref) != "new" {
				t.Fatalf("%s: %v, the slot holds %q", c.name, err, store.slot(change.Item.Ref))
			}
			if n == 1 && (sent["s3:HeadObject"] != 1 || sent["s3:CopyObject"] != 1) {
				t.Errorf("%s: sent %v, want a look and a copy", c.name, sent)
			}
		}
	}
}

func never(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get(sinceHeader) == "" {
		return false
	}
	w.WriteHeader(http.StatusPreconditionFailed)
	return true
}
