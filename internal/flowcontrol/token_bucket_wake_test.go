package flowcontrol

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestRequestsPassWhenTheRateChanges: a request that waits passes as soon as the new share of
// the rate allows it, after the run had no share and after its share has grown.
func TestRequestsPassWhenTheRateChanges(t *testing.T) {
	for name, c := range map[string]struct {
		given  float64
		before int // runs that divide the rate; 0: this run has no share
		within time.Duration
	}{
		"no share":      {1000, 0, 2 * time.Millisecond},
		"a small share": {20, 20, 60 * time.Millisecond}, // 1 s until the next request
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := NewLimiter(c.given)
				l.Divide(c.before, time.Time{})
				for l.Try(1) {
				}
				passed := make(chan time.Time, 1)
				go func() {
					if l.Wait(t.Context()) == nil {
						passed <- time.Now()
					}
				}()
				time.Sleep(8 * time.Millisecond)
				changed := time.Now()
				l.Divide(1, time.Time{})
				if waited := (<-passed).Sub(changed); waited > c.within {
					t.Errorf("the request waited %v, want at most %v", waited, c.within)
				}
			})
		})
	}
}
