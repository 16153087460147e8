package rotate

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestNoSecondHoldsMoreThanTheRate asks from many goroutines, with pauses, and
// looks at every window of one second.
func TestNoSecondHoldsMoreThanTheRate(t *testing.T) {
	for _, rate := range []float64{1, 3, 50, 100, 999, 5000} {
		synctest.Test(t, func(t *testing.T) {
			limiter := NewLimiter(rate)
			var mu sync.Mutex
			var passed []time.Time
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			var group sync.WaitGroup
			for i := range 16 {
				group.Go(func() {
					time.Sleep(time.Duration(i%4) * 700 * time.Millisecond) // credit must not pile up
					for limiter.Wait(ctx) == nil {
						mu.Lock()
						passed = append(passed, time.Now())
						mu.Unlock()
					}
				})
			}
			group.Wait()
			slices.SortFunc(passed, time.Time.Compare)
			first := 0
			for last := range passed {
				for passed[last].Sub(passed[first]) >= time.Second {
					first++
				}
				if n := last - first + 1; float64(n) > rate {
					t.Fatalf("rate %v: %d requests within a second", rate, n)
				}
			}
			if least := 0.9 * (rate*4 - rate/50 - 1); float64(len(passed)) < least-1 {
				t.Errorf("rate %v: only %d requests in 4 seconds", rate, len(passed))
			}
		})
	}
}

// TestThrottlingSlowsDownAndComesBack: down within a second or two, up again
// within some, never above what was given nor to nothing.
func TestThrottlingSlowsDownAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := NewLimiter(1000)
		full := limiter.Rate()
		for range 2000 { // two seconds of throttling
			limiter.Throttled()
			time.Sleep(time.Millisecond)
		}
		if got := limiter.Rate(); got > full/10 || got < full/100 {
			t.Errorf("after two seconds of throttling the rate is %v of %v", got, full)
		}
		for range 15000 {
			limiter.Passed()
			time.Sleep(time.Millisecond)
		}
		if got := limiter.Rate(); got != full {
			t.Errorf("fifteen seconds later it is %v, want %v", got, full)
		}
	})
	rapid.Check(t, func(r *rapid.T) {
		limiter := NewLimiter(rapid.Float64Range(0.1, 100000).Draw(r, "rate"))
		full := limiter.Rate()
		for _, throttled := range rapid.SliceOf(rapid.Bool()).Draw(r, "answers") {
			limiter.cutAt, limiter.raiseAt = time.Time{}, time.Time{} // as if time had passed
			if throttled {
				limiter.Throttled()
			} else {
				limiter.Passed()
			}
			if got := limiter.Rate(); got > full || got < full*floorShare*0.99 {
				r.Fatalf("the rate is %v of %v", got, full)
			}
		}
	})
}
