package dynamoscan

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// unbatched returns a table without batches. during is called for each update in progress,
// with the number of updates in progress.
func (s *store) unbatched(during func(inFlight int64)) *Table {
	var updates atomic.Int64
	client := newClient(s.t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch s.fake.Operation(r) {
		case "dynamodb:BatchExecuteStatement":
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"__type":"com.amazon.coral.service#AccessDeniedException"}`))
			return
		case "dynamodb:UpdateItem":
			defer updates.Add(-1)
			during(updates.Add(1))
		}
		s.fake.ServeHTTP(w, r)
	}))
	return s.source(func(c *Config) { c.Client = client })
}

// TestConcurrentUpdates: without batches, the number of concurrent updates is the number of
// Replace calls plus maxExtraWrites. This limit is reached and never exceeded, also by a
// single call after others, because permits are released. All updates are written.
func TestConcurrentUpdates(t *testing.T) {
	for _, at := range []int{1, 16, 1} {
		store := newStore(t, simple)
		var most, early atomic.Int64
		bound := int64(at + maxExtraWrites)
		full := make(chan struct{}) // closed when the maximum number of updates is in progress
		table := store.unbatched(func(inFlight int64) {
			for was := most.Load(); inFlight > was &&
				!most.CompareAndSwap(was, inFlight); was = most.Load() {
			}
			if inFlight == bound && early.Add(1) == 1 {
				close(full)
			}
			select {
			case <-full:
				time.Sleep(time.Millisecond) // further updates would arrive meanwhile
			case <-time.After(5 * time.Second):
			}
		})
		changes := store.changesOf(table, 25*at, "new")
		var group sync.WaitGroup
		for chunk := range slices.Chunk(changes, 25) {
			group.Go(func() {
				for i, result := range table.Replace(t.Context(), chunk) {
					if result.Err != nil {
						t.Errorf("%s: %v", chunk[i].Item.Ref, result.Err)
					}
				}
			})
		}
		group.Wait()
		if most.Load() != bound {
			t.Errorf("%d concurrent Replace calls had %d updates in progress, want %d", at,
				most.Load(), bound)
		}
		for _, change := range changes {
			item, err := table.Load(t.Context(), change.Item.Ref)
			if err != nil || string(slot(item.Payload)) != "new" {
				t.Errorf("%s holds %q, %v", change.Item.Ref, slot(item.Payload), err)
			}
		}
		if len(table.extraPermits) > 0 {
			t.Errorf("%d permits were not released", len(table.extraPermits))
		}
	}
}

// TestUpdatesEnd: Replace returns when its context ends, even if other calls hold all permits. Each
// change that was not sent has the error of the context.
func TestUpdatesEnd(t *testing.T) {
	store := newStore(t, simple)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	proceed := make(chan struct{})
	defer close(proceed) // before the server is closed, which waits for its handlers
	table := store.unbatched(func(inFlight int64) {
		if inFlight == 4+maxExtraWrites {
			cancel()
		}
		<-proceed
	})
	changes := store.changesOf(table, 100, "new")
	var group sync.WaitGroup
	for chunk := range slices.Chunk(changes, 25) {
		group.Go(func() {
			for _, result := range table.Replace(ctx, chunk) {
				if !errors.Is(result.Err, context.Canceled) {
					t.Errorf("result %v, want the error of the context", result.Err)
				}
			}
		})
	}
	group.Wait()
	if len(table.extraPermits) > 0 {
		t.Errorf("%d permits were not released", len(table.extraPermits))
	}
}
