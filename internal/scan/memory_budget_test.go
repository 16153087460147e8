package scan

import (
	"context"
	"testing"
	"testing/synctest"
)

// A MemoryBudget is never exceeded, serves waiting calls in order, and gives the whole
// budget to a body that is larger than the budget.
func TestMemoryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewMemoryBudget(10)
		releaseSmall, ok := budget.TryAcquire(4)
		if !ok {
			t.Fatal("an unused budget is not available")
		}
		var acquired []string
		acquire := func(name string, bytes int64) {
			release, err := budget.Acquire(t.Context(), bytes)
			if err != nil {
				t.Error(err)
				return
			}
			acquired = append(acquired, name)
			release()
			release() // a second call must have no effect
		}
		go acquire("larger than the budget", 50)
		synctest.Wait()
		go acquire("small", 1)
		synctest.Wait()
		if _, ok := budget.TryAcquire(1); ok || len(acquired) > 0 {
			t.Errorf("TryAcquire returned %v and %v acquired budget before the waiting calls", ok,
				acquired)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := budget.Acquire(ended, 10); err == nil {
			t.Error("Acquire succeeded although its context has ended")
		}
		releaseSmall()
		synctest.Wait()
		if len(acquired) != 2 || acquired[0] != "larger than the budget" {
			t.Errorf("acquired %q, want both calls in order", acquired)
		}
		if _, ok := budget.TryAcquire(10); !ok {
			t.Error("released budget is not available")
		}
		if _, err := (*MemoryBudget)(nil).Acquire(t.Context(), 1<<40); err != nil {
			t.Error(err)
		}
	})
}
