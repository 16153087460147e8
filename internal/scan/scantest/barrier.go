package scantest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patience is how long those wait who are to meet.
const barrierTimeout = 10 * time.Second

// Meet returns a function whose callers wait for each other until there are n of them.
// The test fails when they are not there in time; then nobody waits any longer.
func Barrier(t *testing.T, n int) func() {
	t.Helper()
	met := make(chan struct{})
	meet := sync.OnceFunc(func() { close(met) })
	var here atomic.Int64
	enough := time.AfterFunc(barrierTimeout, func() {
		t.Errorf("%d of %d met", here.Load(), n)
		meet()
	})
	t.Cleanup(func() { enough.Stop() })
	return func() {
		if here.Add(1) == int64(n) {
			enough.Stop()
			meet()
		}
		<-met
	}
}
