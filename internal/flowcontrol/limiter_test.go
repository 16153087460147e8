package flowcontrol

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestNoSecondHoldsMoreThanTheRate: many goroutines send requests, with pauses. No window of one
// second has more requests than the rate.
func TestNoSecondHoldsMoreThanTheRate(t *testing.T) {
	for _, rate := range []float64{1, 3, 50, 100, 150, 999, 5000} {
		synctest.Test(t, func(t *testing.T) {
			limiter := NewLimiter(rate)
			var mu sync.Mutex
			var passed []time.Time
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			var group sync.WaitGroup
			for i := range 16 {
				group.Go(func() {
					// unused tokens must not add up
					time.Sleep(time.Duration(i%4) * 700 * time.Millisecond)
					for limiter.Wait(ctx) == nil {
						mu.Lock()
						passed = append(passed, time.Now())
						mu.Unlock()
					}
				})
			}
			group.Wait()
			if n := inAnySecond(passed); float64(n) > rate {
				t.Fatalf("rate %v: %d requests within a second", rate, n)
			}
			if least := 0.99*rate*4 - 1; float64(len(passed)) < least {
				t.Errorf("rate %v: %d requests in 4 seconds, want %v", rate, len(passed), least)
			}
		})
	}
}

// TestANewRateHoldsForTheQueue: a new rate applies to requests that already wait.
func TestANewRateHoldsForTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := newTokenBucket(1)
		began := time.Now()
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() { _ = bucket.wait(t.Context(), 1) })
		}
		time.Sleep(time.Millisecond)
		bucket.set(1000)
		group.Wait()
		if took := time.Since(began); took > 300*time.Millisecond {
			t.Errorf("100 requests took %v at a rate raised to 1000 per second", took)
		}
		bucket.set(100)
		began = time.Now()
		for range 8 {
			_ = bucket.wait(t.Context(), 25)
		}
		if took := time.Since(began); took < 1700*time.Millisecond || took > 1800*time.Millisecond {
			t.Errorf("8 requests that count 25 each took %v at 100 per second", took)
		}
	})
}

// TestThrottlingSlowsDownAndComesBack: throttling reduces the rate within two seconds, and the
// rate is back 15 s after it. It never exceeds the given rate and never falls to zero.
func TestThrottlingSlowsDownAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := NewLimiter(1000)
		full := limiter.Rate()
		for range 2000 { // two seconds of throttling
			limiter.Observe(Throttled, 0)
			time.Sleep(time.Millisecond)
		}
		if got := limiter.Rate(); got > full/10 || got < full/100 {
			t.Errorf("after two seconds of throttling the rate is %v of %v", got, full)
		}
		for range 15000 {
			limiter.Observe(Served, 0)
			time.Sleep(time.Millisecond)
		}
		if got := limiter.Rate(); got != full {
			t.Errorf("fifteen seconds later it is %v, want %v", got, full)
		}
	})
	rapid.Check(t, func(r *rapid.T) {
		limiter := NewLimiter(rapid.Float64Range(0.1, 100000).Draw(r, "rate"))
		full, now := limiter.Rate(), time.Now()
		for range rapid.IntRange(0, 200).Draw(r, "answers") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(r, "ms")) * time.Millisecond)
			limiter.count(now, rapid.Bool().Draw(r, "throttled"))
			if got := limiter.Rate(); !(got <= full &&
				got >= min(full*floorShare, maxFloor)*0.99) {
				r.Fatalf("the rate is %v of %v", got, full)
			}
		}
	})
}

// service is a function that receives one request and reports whether it is served.
type service func() bool

// sliding serves a request if fewer than quota were served in the second before it.
func sliding(quota int) service {
	taken := make([]time.Time, quota)
	next := 0
	return func() bool {
		now := time.Now()
		if at := taken[next]; !at.IsZero() && now.Sub(at) < time.Second {
			return false
		}
		taken[next], next = now, (next+1)%quota
		return true
	}
}

// tokens serves quota requests a second, and up to burst at once after a pause.
func tokens(quota, burst float64) service {
	left, at := burst, time.Now()
	return func() bool {
		now := time.Now()
		left, at = min(burst, left+quota*now.Sub(at).Seconds()), now
		if left < 1 {
			return false
		}
		left--
		return true
	}
}

// clocked serves quota requests in every second of the clock.
func clocked(quota int) service {
	var second int64
	left := quota
	return func() bool {
		if now := time.Now().Unix(); now != second {
			second, left = now, quota
		}
		left--
		return left >= 0
	}
}

// randomly throttles a share of the requests that another service, or nil, serves.
func randomly(share float64, next service) service {
	random := rand.New(rand.NewPCG(1, 2))
	return func() bool { return random.Float64() >= share && (next == nil || next()) }
}

// load is a run against a service.
type load struct {
	limiter *Limiter
	workers int
	latency time.Duration

	mu              sync.Mutex
	sent, throttled int
	served          int
}

// run sends requests for d, and retries every throttled request.
func (l *load) run(t *testing.T, serve service, d time.Duration) (served, throttled float64) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	l.sent, l.served, l.throttled = 0, 0, 0
	var group sync.WaitGroup
	for range l.workers {
		group.Go(func() {
			for l.limiter.Wait(ctx) == nil {
				time.Sleep(l.latency)
				l.mu.Lock()
				ok := serve()
				l.sent++
				if ok {
					l.served++
				} else {
					l.throttled++
				}
				l.mu.Unlock()
				if ok {
					l.limiter.Observe(Served, 0)
				} else {
					l.limiter.Observe(Throttled, 0)
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	group.Wait()
	return float64(l.served) / d.Seconds(), float64(l.throttled) / float64(max(1, l.sent))
}

// services returns services that apply a quota per second in different ways.
func services(quota int) map[string]func() service {
	return map[string]func() service{
		"sliding second": func() service { return sliding(quota) },
		"clock second":   func() service { return clocked(quota) },
		"bucket":         func() service { return tokens(float64(quota), float64(quota)) },
		"small bucket": func() service {
			return tokens(float64(quota), max(2, float64(quota)/20))
		},
	}
}

var full = flag.Bool("full", false, "test with large quotas too")

// underQuotas runs a test for several quotas, kinds of services, rates above the quota, and
// numbers of workers.
func underQuotas(t *testing.T, test func(t *testing.T, l *load, serve service, quota float64)) {
	quotas := []int{50, 400}
	switch {
	case *full:
		quotas = append(quotas, 2000)
	case testing.Short():
		quotas = quotas[:1]
	}
	for _, quota := range quotas {
		for name, serve := range services(quota) {
			for _, sender := range []struct {
				rate    float64
				workers int
			}{{1.3, 64}, {10, 64}, {1000, 64}, {math.Inf(1), 256}, {1.05, 8}} {
				rate := sender.rate * float64(quota)
				t.Run(fmt.Sprintf("%s of %d, rate %v, %d workers", name, quota, rate,
					sender.workers), func(
					t *testing.T,
				) {
					synctest.Test(t, func(t *testing.T) {
						latency := time.Duration(
							float64(sender.workers) / float64(quota) / 2 * float64(time.Second),
						)
						l := &load{
							limiter: NewLimiter(rate),
							workers: sender.workers,
							latency: min(5*time.Millisecond, latency),
						}
						test(t, l, serve(), float64(quota))
					})
				})
			}
		}
	}
}

// TestThrottlingSlowsDownWithinASecond: one second after a service has throttled for the first
// time, the rate is lower than before.
func TestThrottlingSlowsDownWithinASecond(t *testing.T) {
	underQuotas(t, func(t *testing.T, l *load, serve service, _ float64) {
		before, seen := 0.0, time.Time{}
		watched := func() bool {
			served := serve()
			if !served && seen.IsZero() {
				before, seen = l.limiter.Rate(), time.Now()
			}
			return served
		}
		for n := 0; n < 30 && seen.IsZero(); n++ {
			l.run(t, watched, time.Second)
		}
		l.run(t, watched, time.Until(seen.Add(time.Second)))
		if rate := l.limiter.Rate(); seen.IsZero() || rate >= before {
			t.Errorf(
				"%v requests per second a second after it was throttled for the first time, at "+
					"%v; at %v before", rate, seen, before,
			)
		}
	})
}

// TestHiddenQuota: a run uses 95% of an unknown quota, and less than 1% of its requests are
// throttled.
func TestHiddenQuota(t *testing.T) {
	underQuotas(t, func(t *testing.T, l *load, serve service, quota float64) {
		first, _ := l.run(t, serve, 20*time.Second)
		served, throttled := l.run(t, serve, 40*time.Second)
		t.Logf("%.1f%% delivered in the first twenty seconds, then %.1f%%, %.2f%% throttled",
			first/quota*100, served/quota*100, throttled*100)
		if served < 0.95*quota || throttled >= 0.01 {
			t.Errorf("delivered %.1f of %v per second, %.2f%% throttled", served, quota,
				throttled*100)
		}
		if first < 0.8*quota {
			t.Errorf("delivered %.1f of %v per second at first", first, quota)
		}
	})
}

// TestRandomThrottlingIsNoQuota: if a lower rate does not make throttling rarer, the rate stays
// useful. With a quota in addition, the rate stays below the quota.
func TestRandomThrottlingIsNoQuota(t *testing.T) {
	rates := []float64{100, 2000}
	if testing.Short() {
		rates = rates[:1]
	}
	for _, share := range []float64{0.001, 0.01, 0.05, 0.2, 0.4} {
		for _, rate := range rates {
			t.Run(fmt.Sprintf("%v%% of %v", share*100, rate), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := &load{
						limiter: NewLimiter(rate),
						workers: 64,
						latency: 5 * time.Millisecond,
					}
					served, throttled := l.run(t, randomly(share, nil), 40*time.Second)
					t.Logf("%.1f of %v per second served, %.1f%% throttled", served, rate,
						throttled*100)
					useful, most := 0.85, share+0.05
					if rate < 1000 { // few responses, so little certainty
						useful, most = 0.6, 1
					}
					if served < useful*rate*(1-share) {
						t.Errorf("only %.1f of %v per second", served, rate)
					}
					quota := rate / 2
					l = &load{limiter: NewLimiter(rate), workers: 64, latency: 5 * time.Millisecond}
					served, throttled = l.run(t, randomly(share, sliding(int(quota))),
						40*time.Second)
					t.Logf("with a quota of %v: %.1f served, %.1f%% throttled", quota, served,
						throttled*100)
					if served < useful*quota || throttled > most {
						t.Errorf("with a quota of %v: %.1f per second served, %.1f%% throttled",
							quota, served, throttled*100)
					}
				})
			})
		}
	}
}

// TestAQuotaThatMoves: if a quota falls, the rate follows within two seconds. If the quota rises
// again, the rate does too.
func TestAQuotaThatMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &load{limiter: NewLimiter(5000), workers: 64, latency: 5 * time.Millisecond}
		high, low := tokens(2000, 100), tokens(300, 15)
		l.run(t, high, 20*time.Second)
		l.run(t, low, time.Second)
		if got := l.limiter.Rate(); got > 1000 {
			t.Errorf("one second after the quota fell from 2000 to 300 the rate is %v", got)
		}
		l.run(t, low, time.Second/2)
		if got := l.limiter.Rate(); got > 500 {
			t.Errorf("one and a half seconds after the quota fell to 300 the rate is %v", got)
		}
		if _, throttled := l.run(t, low, 2*time.Second); throttled > 0.3 {
			t.Errorf("%.1f%% throttled in the two seconds after that, when the quota had fallen",
				throttled*100)
		}
		if served, _ := l.run(t, low, 20*time.Second); served < 0.95*300 {
			t.Errorf("%v of 300 per second", served)
		}
		l.run(t, high, 30*time.Second)
		if served, _ := l.run(t, high, 10*time.Second); served < 0.95*2000 {
			t.Errorf("half a minute after the quota rose again, %v of 2000 per second", served)
		}
	})
}
