package flowcontrol

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// sizingCase is a run of jobs with 25 requests each, in virtual time.
type sizingCase struct {
	rate    float64
	latency time.Duration
	machine time.Duration // CPU time of each request, on one processor
	slower  time.Duration // latency from the second minute on
	most    int           // maximum size
	speed   float64       // minimum final rate in requests per second
	// The final size must be between smallest and largest.
	smallest, largest int
}

func sizingCases() map[string]sizingCase {
	return map[string]sizingCase{
		"the rate needs more": {
			rate:     2000,
			latency:  100 * time.Millisecond,
			most:     1024,
			speed:    1950,
			smallest: 200,
			largest:  320,
		},
		"the rate needs fewer": {
			rate:     100,
			latency:  20 * time.Millisecond,
			most:     1024,
			speed:    97,
			smallest: minSize,
			largest:  16,
		},
		"the processor is the limit": {
			rate:     1e6,
			latency:  time.Millisecond,
			machine:  500 * time.Microsecond,
			most:     1024,
			speed:    1900,
			smallest: 32,
			largest:  128,
		},
		"the maximum is reached": {
			rate:     1e5,
			latency:  100 * time.Millisecond,
			most:     100,
			speed:    950,
			smallest: 100,
			largest:  100,
		},
		"the service becomes slower": {
			rate:     2000,
			latency:  5 * time.Millisecond,
			slower:   100 * time.Millisecond,
			most:     1024,
			speed:    1940,
			smallest: 200,
			largest:  320,
		},
	}
}

// TestPoolFindsItsSize: if the rate is the limit, the pool has the size that the rate needs, and
// not much more. If the limit is another one, the pool tries more workers and gives them up
// again.
func TestPoolFindsItsSize(t *testing.T) {
	for name, c := range sizingCases() {
		if testing.Short() && c.rate > 1000 {
			continue // it sends hundreds of thousands of requests
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, c.run)
		})
	}
}

func (c sizingCase) run(t *testing.T) {
	limiter, p := NewLimiter(c.rate), newTestPool(InitialSize(c.most))
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	var requests, items atomic.Int64
	var sizer sync.WaitGroup
	sizer.Go(func() {
		Autosize(ctx, p, c.most, limiter, func() Progress {
			return Progress{Requests: requests.Load(), Items: items.Load()}
		}, zap.NewNop())
	})
	processor := make(chan struct{}, 1)
	began := time.Now()
	job := func(Permit) error {
		for range 25 {
			if limiter.Wait(ctx) != nil {
				return nil
			}
			latency := c.latency
			if c.slower > 0 && time.Since(began) > time.Minute {
				latency = c.slower
			}
			_ = Sleep(ctx, latency)
			if c.machine > 0 {
				processor <- struct{}{}
				time.Sleep(c.machine)
				<-processor
			}
			requests.Add(1)
		}
		items.Add(25)
		return nil
	}
	var late int64
	for ctx.Err() == nil {
		p.Submit("", nil, false, job)
		if late == 0 && time.Since(began) > 2*time.Minute {
			late = requests.Load()
		}
	}
	p.Close()
	sizer.Wait()
	_, size, _ := p.Stats()
	speed := float64(requests.Load()-late) / 60
	if speed < c.speed || size < c.smallest || size > c.largest {
		t.Errorf("%.0f requests per second at size %d, want %.0f at %d to %d",
			speed, size, c.speed, c.smallest, c.largest)
	}
}
