package flowcontrol

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestLateTimersLoseLittleOfTheRate: timers are late if the processors are busy. Runs that
// divide a rate lose little of it because of this. Together they stay within the rate plus 1%
// or one request.
func TestLateTimersLoseLittleOfTheRate(t *testing.T) {
	const seconds = 20
	for _, c := range []struct {
		given float64
		runs  int
	}{{100, 1}, {150, 1}, {400, 1}, {400, 2}, {400, 3}, {600, 3}, {1000, 3}, {1000, 8}} {
		t.Run(fmt.Sprintf("%v by %d", c.given, c.runs), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var passed []time.Time
				var runs sync.WaitGroup
				for n := range c.runs {
					l := NewLimiter(c.given)
					l.Divide(c.runs, time.Time{})
					random := rand.New(rand.NewPCG(uint64(n), 1))
					runs.Go(func() {
						for end := time.Now().Add(seconds * time.Second); time.Now().Before(end); {
							wait := l.bucket.take(1)
							if wait <= 0 {
								mu.Lock()
								passed = append(passed, time.Now())
								mu.Unlock()
								continue
							}
							time.Sleep(wait +
								time.Duration(random.Int64N(int64(4*time.Millisecond))))
						}
					})
				}
				runs.Wait()
				if least := 0.96 * c.given * seconds; float64(len(passed)) < least {
					t.Errorf("%d requests in %d s, want at least %.0f", len(passed), seconds, least)
				}
				if n, most := inAnySecond(passed), c.given+max(1, c.given/100); float64(n) > most {
					t.Errorf("%d requests in one second, want at most %v", n, most)
				}
			})
		})
	}
}

// inAnySecond returns the maximum number of times within one second.
func inAnySecond(times []time.Time) (most int) {
	slices.SortFunc(times, time.Time.Compare)
	first := 0
	for i, at := range times {
		for at.Sub(times[first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}
