package flowcontrol

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// TestRetryAfterBlocksAllRequests: if most requests fail, no request passes until the time that
// the service states, with and without a rate. If most requests succeed, all others pass.
func TestRetryAfterBlocksAllRequests(t *testing.T) {
	for _, rate := range []float64{1000, math.Inf(1)} {
		for _, c := range []struct {
			response Response
			served   int
		}{{Throttled, 0}, {Unanswered, 0}, {Throttled, 100}, {Unanswered, 100}} {
			name := fmt.Sprintf("rate %v, response %d, %d served", rate, c.response, c.served)
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					waitsAfterRetryAfter(t, rate, c.response, c.served)
				})
			})
		}
	}
}

func waitsAfterRetryAfter(t *testing.T, rate float64, response Response, served int) {
	limiter := NewLimiter(rate)
	for range served {
		limiter.Observe(Served, 0)
		time.Sleep(time.Millisecond)
	}
	limiter.Observe(response, 2*time.Second)
	began := time.Now()
	if limiter.Free() && served == 0 || limiter.Try(1) && served == 0 {
		t.Error("a request passes without waiting")
	}
	if err := limiter.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	waited := time.Since(began)
	if held := waited >= 2*time.Second; held != (served == 0) || waited > 2*time.Second {
		t.Errorf("the next request waited %s after %d were served", waited, served)
	}
}
