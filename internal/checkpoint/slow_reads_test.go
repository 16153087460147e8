package checkpoint

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// late is a store in which the next read of the member list is delayed before it reads.
type late struct {
	Store
	delay atomic.Int64
}

func (s *late) Fetch(ctx context.Context, id string) (Entry, error) {
	if id == NewPasses(nil, "j").memberListID() {
		time.Sleep(time.Duration(s.delay.Swap(0)))
	}
	return s.Store.Fetch(ctx, id)
}

// TestLateReadsExpireNoRun: a read of the member list may be executed long after it began, because
// of an outage or because the process was paused. The result is then newer than the beginning of
// the read. No live run is removed from the member list, and no share is used twice.
func TestLateReadsExpireNoRun(t *testing.T) {
	for _, tenths := range []int{3, 7, 9, 10, 13} {
		synctest.Test(t, func(t *testing.T) {
			passes, pass := begin(t, 1)
			first, one, stopFirst := worker(t, passes, pass, "first")
			defer stopFirst()
			defer first.Engage()()
			one.waitVisible(t, 1, time.Second)

			store := &late{Store: passes.store}
			second, two := join(t, NewPasses(store, "j"), pass, "second"), &shares{}
			second.OnShare(two.set)
			go func() { _ = second.Run(t.Context(), t.Context().Done()) }() // may expire
			defer watchSum(t, one, two)()
			for range 20 {
				time.Sleep(lease / 7)
				store.delay.Store(int64(lease) * int64(tenths) / 10)
				time.Sleep(2 * lease)
			}
		})
	}
}
