package scantest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// barrierTimeout limits how long callers wait at a Barrier.
const barrierTimeout = 10 * time.Second

// Barrier returns a function that blocks its callers until n of them have called it. If fewer
// than n have called it after 10 seconds, the test fails and the barrier opens.
func Barrier(t *testing.T, n int) func() {
	t.Helper()
	opened := make(chan struct{})
	open := sync.OnceFunc(func() { close(opened) })
	var arrived atomic.Int64
	timer := time.AfterFunc(barrierTimeout, func() {
		t.Errorf("%d of %d calls arrived at the barrier", arrived.Load(), n)
		open()
	})
	t.Cleanup(func() { timer.Stop() })
	return func() {
		if arrived.Add(1) == int64(n) {
			timer.Stop()
			open()
		}
		<-opened
	}
}
