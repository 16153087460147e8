package rotate

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestPlacesFindTheirSize: jobs of 25 requests each, in virtual time. Where the rate
// is the limit there are as many places as it needs, but not many more; where
// something else is, more of them are tried and given back.
func TestPlacesFindTheirSize(t *testing.T) {
	for name, test := range map[string]struct {
		rate        float64
		latency     time.Duration
		machine     time.Duration // of each request, on the one processor there is
		slower      time.Duration // latency from the second minute on
		most        int
		speed       float64 // least requests per second in the end
		least, many int     // places in the end
	}{
		"the rate needs more":        {rate: 4000, latency: 50 * time.Millisecond, most: 1024, speed: 3900, least: 200, many: 320},
		"the rate needs fewer":       {rate: 100, latency: 20 * time.Millisecond, most: 1024, speed: 97, least: leastPlaces, many: 16},
		"the processor is the limit": {rate: 1e6, latency: time.Millisecond, machine: 500 * time.Microsecond, most: 1024, speed: 1900, least: 32, many: 128},
		"there are no more":          {rate: 1e5, latency: 100 * time.Millisecond, most: 100, speed: 950, least: 100, many: 100},
		"the service gets slower":    {rate: 2000, latency: 5 * time.Millisecond, slower: 100 * time.Millisecond, most: 1024, speed: 1950, least: 200, many: 320},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := New(Config{Rate: test.rate, MostWorkers: test.most})
				p := newPool(r.workers())
				ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
				defer stop()
				sized := r.sizing(ctx, p)
				processor := make(chan struct{}, 1)
				began := time.Now()
				var late int64
				for ctx.Err() == nil {
					p.run("", nil, false, func(place) {
						for range 25 {
							if r.decider.limiter.Wait(ctx) != nil {
								return
							}
							latency := test.latency
							if test.slower > 0 && time.Since(began) > time.Minute {
								latency = test.slower
							}
							_ = sleep(ctx, latency)
							if test.machine > 0 {
								processor <- struct{}{}
								time.Sleep(test.machine)
								<-processor
							}
							r.decider.requests.Add(1)
						}
						r.items.Add(25)
					})
					if late == 0 && time.Since(began) > 2*time.Minute {
						late = r.decider.requests.Load()
					}
				}
				p.wait()
				sized()
				_, places, _ := p.look()
				if speed := float64(r.decider.requests.Load()-late) / 60; speed < test.speed || places < test.least || places > test.many {
					t.Errorf("%.0f requests per second at %d places, want %.0f at %d to %d", speed, places, test.speed, test.least, test.many)
				}
			})
		})
	}
}
