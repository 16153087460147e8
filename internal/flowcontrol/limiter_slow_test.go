package flowcontrol

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestLowRatesRise: a limiter that throttling has brought below one request per second gives
// the whole rate again soon after the throttling ends.
func TestLowRatesRise(t *testing.T) {
	for name, c := range map[string]struct {
		rate float64
		runs int
	}{
		"40": {40, 1}, "90": {90, 1}, "5": {5, 1}, "1": {1, 1},
		"400 of 8 runs": {400, 8}, "4 of 8 runs": {4, 8},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := NewLimiter(c.rate)
				l.Divide(c.runs, time.Time{})
				began := time.Now()
				var wait sync.WaitGroup
				for range 8 {
					wait.Go(func() {
						for time.Since(began) < 2*time.Minute {
							if l.Wait(t.Context()) != nil {
								return
							}
							time.Sleep(10 * time.Millisecond)
							if time.Since(began) < 30*time.Second {
								l.Observe(Throttled, 0)
							} else {
								l.Observe(Served, 0)
							}
						}
					})
				}
				time.Sleep(29 * time.Second)
				low := l.Rate()
				time.Sleep(46 * time.Second)
				if all := c.rate / float64(c.runs); l.Rate() < 0.95*all {
					t.Errorf("%.2f requests per second 45 s after throttling, %.2f during it, "+
						"want %.2f", l.Rate(), low, all)
				}
				wait.Wait()
			})
		})
	}
}
