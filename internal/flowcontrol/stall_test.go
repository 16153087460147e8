package flowcontrol

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stallingService receives requests after half of its latency. Once every 3 s it receives
// nothing for the time of a stall, and then everything at once.
type stallingService struct {
	latency, stall time.Duration

	mu      sync.Mutex
	began   time.Time
	arrived []time.Time
}

func (s *stallingService) request() {
	time.Sleep(s.latency / 2)
	const every = 3 * time.Second
	if at := time.Since(s.began) % every; at < s.stall && time.Since(s.began) > every {
		time.Sleep(s.stall - at)
	}
	s.mu.Lock()
	s.arrived = append(s.arrived, time.Now())
	s.mu.Unlock()
	time.Sleep(s.latency / 2)
}

// The load of TestStallsBunchFewRequests.
const (
	stallRate    = 1000.0
	stallSeconds = 10.0
)

// TestStallsBunchFewRequests: after a stall of the service, of any length, the arrivals of any
// second are within the rate plus 5%, for one run and for several. The stalls cost little of the
// rate.
func TestStallsBunchFewRequests(t *testing.T) {
	const ms = time.Millisecond
	stalls := []time.Duration{0, 45 * ms, 60 * ms, 75 * ms, 90 * ms, 120 * ms, 300 * ms}
	if testing.Short() {
		stalls = stalls[5:6]
	}
	for _, runs := range []int{1, 4} {
		for _, latency := range []time.Duration{4 * ms, 40 * ms} {
			for _, stall := range stalls {
				name := fmt.Sprintf("%d runs, latency %s, stall %s", runs, latency, stall)
				t.Run(name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := &stallingService{
							latency: latency,
							stall:   stall,
							began:   time.Now(),
						}
						s.serve(t, runs)
					})
				})
			}
		}
	}
}

// serve sends the requests of several runs, and checks the arrivals.
func (s *stallingService) serve(t *testing.T, runs int) {
	var group sync.WaitGroup
	for range runs {
		l := NewLimiter(stallRate)
		l.Divide(runs, time.Time{})
		for range 400 / runs {
			group.Go(func() { s.sends(t, l, stallSeconds*time.Second) })
		}
	}
	group.Wait()
	if n := inAnySecond(s.arrived); float64(n) > 1.05*stallRate {
		t.Errorf("%d requests arrived in one second", n)
	}
	lost := 2 * s.stall.Seconds() * stallSeconds / 3
	n, least := float64(len(s.arrived)), 0.97*stallRate*(stallSeconds-lost)
	if n < least {
		t.Errorf("%v requests arrived in %v s, want at least %.0f", n, stallSeconds, least)
	}
}

func (s *stallingService) sends(t *testing.T, l *Limiter, until time.Duration) {
	for time.Since(s.began) < until {
		sent, err := l.Begin(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		s.request()
		l.End(sent, Served, 0)
	}
}
