package s3scan

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"rotator/internal/scan"
)

// sinceHeader is the condition that the source was not modified.
const sinceHeader = "X-Amz-Copy-Source-If-Unmodified-Since"

// A change of the metadata immediately after the read is not lost, although no HEAD follows
// and the ETag stays the same.
func TestMetadataChangedBeforeACopy(t *testing.T) {
	for name, onAWS := range map[string]bool{"AWS": true, "another server": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t, nil)
			put := store.untaggedObjects()
			source := store.inMetadata(store.annotations("", func(c *Config) { c.AWS = onAWS }))
			settled := put(0)
			time.Sleep(settlingTime + time.Second)
			recent := put(1)
			for _, ref := range []scan.Ref{settled, recent} { // the first one includes the probes
				item, err := source.Load(t.Context(), ref)
				if err != nil {
					t.Fatal(err)
				}
				store.value(ref, "other")
				before := store.faults.Counts()["s3:CopyObject"]
				err = source.Replace(t.Context(), []scan.Change{
					{Item: item, New: spliceMetadata(item.Payload, []byte("new"))},
				})[0].Err
				if got := store.slot(ref); !errors.Is(err, scan.ErrChanged) || got != "other" {
					t.Errorf("%v, the slot holds %q", err, got)
				}
				if copied := store.faults.Counts()["s3:CopyObject"] - before; ref == recent &&
					copied > 0 {
					t.Errorf("%s was written recently but copied without a HEAD", ref)
				}
			}
		})
	}
}

// If a server ignores the condition, or if the condition never holds, each copy is preceded
// by a HEAD. A probe detects this; on AWS the first copy does.
func TestCopyUnmodifiedUnsupported(t *testing.T) {
	for _, c := range []struct {
		name   string
		onAWS  bool
		handle func(http.ResponseWriter, *http.Request) bool
	}{
		{
			"ignored",
			false,
			func(_ http.ResponseWriter, r *http.Request) bool {
				r.Header.Del(sinceHeader)
				return false
			},
		},
		{"never holds", false, never},
		{"never holds on AWS", true, never},
	} {
		store := newStore(t, nil)
		put := store.untaggedObjects()
		source := store.inMetadata(store.through(c.handle))
		source.config.AWS = c.onAWS
		for n := range 2 {
			change := settled(store.changeMetadata(source, put(n), 0))
			var err error
			sent := store.countRequests(func() {
				err = replaceOne(t, source, change)
			})
			if err != nil || store.slot(change.Item.Ref) != "new" {
				t.Fatalf("%s: %v, the slot holds %q", c.name, err, store.slot(change.Item.Ref))
			}
			if n == 1 && (sent["s3:HeadObject"] != 1 || sent["s3:CopyObject"] != 1) {
				t.Errorf("%s: requests %v, want one HEAD and one copy", c.name, sent)
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
