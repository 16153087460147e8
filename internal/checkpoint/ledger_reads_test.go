package checkpoint

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// distant is a store in which each read takes as long as over a network.
type distant struct {
	Store
	latency time.Duration
}

func (d distant) Fetch(ctx context.Context, id string) (Entry, error) {
	if err := pause(ctx, d.latency); err != nil {
		return Entry{}, err
	}
	return d.Store.Fetch(ctx, id)
}

// TestPartitionsAreReadOnce: Totals and the ledger read each partition once, and several
// partitions at the same time.
func TestPartitionsAreReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions, latency = 64, 20 * time.Millisecond
		counted := &counting{Store: NewMemory()}
		pass, err := NewPasses(counted, "j").Begin(t.Context(), 0, newPass(partitions))
		if err != nil {
			t.Fatal(err)
		}
		passes := NewPasses(distant{counted, latency}, "j")
		for what, read := range map[string]func() error{
			"totals": func() error {
				_, err := passes.Totals(t.Context(), pass)
				return err
			},
			"ledger": func() error {
				for _, err := range passes.Ledger(t.Context(), pass) {
					return err
				}
				return nil
			},
		} {
			counted.mu.Lock()
			counted.fetches = 0
			counted.mu.Unlock()
			began := time.Now()
			if err := read(); err != nil {
				t.Fatal(err)
			}
			if counted.fetches != partitions {
				t.Errorf("%s: %d reads, want %d", what, counted.fetches, partitions)
			}
			if took := time.Since(began); took > partitions/readers*latency {
				t.Errorf("%s took %v, want %v", what, took, partitions/readers*latency)
			}
		}
	})
}
