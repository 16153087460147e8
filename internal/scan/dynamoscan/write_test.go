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

// unbatched is a table without batches; during is called while an update is with the
// server, with the number of those that are.
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

// TestUpdatesUnderWay: where rows go one by one, all Replace together have one update
// under way for each of them and spareTurns more, and reach that; one by itself has the
// same, time and again, so that every turn is given back. All is written.
func TestUpdatesUnderWay(t *testing.T) {
	for _, at := range []int{1, 16, 1} {
		store := newStore(t, simple)
		var most, early atomic.Int64
		bound := int64(at + spareTurns)
		full := make(chan struct{}) // closed when as many are under way as may be
		table := store.unbatched(func(inFlight int64) {
			for was := most.Load(); inFlight > was &&
				!most.CompareAndSwap(was, inFlight); was = most.Load() {
			}
			if inFlight == bound && early.Add(1) == 1 {
				close(full)
			}
			select {
			case <-full:
				time.Sleep(time.Millisecond) // others would show
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
			t.Errorf("%d Replace at once had %d updates under way, want %d", at, most.Load(), bound)
		}
		for _, change := range changes {
			item, err := table.Load(t.Context(), change.Item.Ref)
			if err != nil || string(slot(item.Payload)) != "new" {
				t.Errorf("%s holds %q, %v", change.Item.Ref, slot(item.Payload), err)
			}
		}
		if len(table.spare) > 0 {
			t.Errorf("%d turns were not given back", len(table.spare))
		}
	}
}

// TestUpdatesEnd: no Replace outlives its context, whoever has the turns, and each
// change that was not sent says so with the context's own error.
func TestUpdatesEnd(t *testing.T) {
	store := newStore(t, simple)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answer := make(chan struct{})
	defer close(answer) // before the server is closed, which waits for its handlers
	table := store.unbatched(func(inFlight int64) {
		if inFlight == 4+spareTurns {
			cancel()
		}
		<-answer
	})
	changes := store.changesOf(table, 100, "new")
	var group sync.WaitGroup
	for chunk := range slices.Chunk(changes, 25) {
		group.Go(func() {
			for _, result := range table.Replace(ctx, chunk) {
				if !errors.Is(result.Err, context.Canceled) {
					t.Errorf("%v, want that of the context", result.Err)
				}
			}
		})
	}
	group.Wait()
	if len(table.spare) > 0 {
		t.Errorf("%d turns were not given back", len(table.spare))
	}
}
