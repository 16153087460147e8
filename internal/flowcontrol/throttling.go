package flowcontrol

import (
	"math"
	"sync"
	"time"

	"go.uber.org/zap"
)

// The conditions under which throttling is reported.
const (
	// throttledBelow is the share of the given rate below which a service throttles a run.
	throttledBelow = 0.8
	// throttledAfter is the time for which the rate must be below this share. throttledEvery
	// is the minimum time between two warnings.
	throttledAfter = 10 * time.Second
	throttledEvery = 30 * time.Second
	throttlingLook = time.Second
)

// throttling reports when a service throttles the requests of one limiter.
type throttling struct {
	Watched
	logger *zap.Logger

	belowSince     time.Time // the time since which the rate is below; zero if it is not
	lastWarning    time.Time // the last warning
	reported       bool
	refusalsBefore int64 // throttled requests before the throttling began
}

// check logs a change. It must be called about once a second.
func (t *throttling) check(now time.Time) {
	rate, given, at, refusals := t.Limiter.pressure()
	throttled := rate < throttledBelow*given
	if math.IsInf(given, 1) { // no rate was given: only recent throttling counts
		throttled = throttled && now.Sub(at) < throttledAfter
	}
	switch {
	case !throttled && t.reported:
		t.logger.Info(t.Service+" no longer throttles"+t.Requests,
			t.fields(now, rate, given, refusals)...)
		t.reported, t.belowSince = false, time.Time{}
	case !throttled:
		t.belowSince, t.refusalsBefore = time.Time{}, refusals
	case t.belowSince.IsZero():
		t.belowSince = now
	case now.Sub(t.belowSince) < throttledAfter:
	case !t.reported && now.Sub(t.lastWarning) >= throttledAfter:
		t.warn(now, t.Service+" throttles"+t.Requests, rate, given, refusals)
	case t.reported && now.Sub(t.lastWarning) >= throttledEvery:
		t.warn(now, t.Service+" still throttles"+t.Requests, rate, given, refusals)
	}
}

func (t *throttling) warn(now time.Time, text string, rate, given float64, refusals int64) {
	t.reported, t.lastWarning = true, now
	fields := append(t.fields(now, rate, given, refusals),
		zap.String("meanwhile", "requests wait for the lower rate; no slot fails"))
	t.logger.Warn(text, fields...)
}

func (t *throttling) fields(now time.Time, rate, given float64, refusals int64) []zap.Field {
	fields := []zap.Field{
		zap.String("service", t.Service),
		zap.Duration("for", now.Sub(t.belowSince).Round(time.Second)),
		zap.Int64("throttled", refusals-t.refusalsBefore),
	}
	if !math.IsInf(rate, 1) {
		fields = append(fields, zap.Float64("rate", math.Round(10*rate)/10))
	}
	if !math.IsInf(given, 1) {
		fields = append(fields, zap.Float64("given", math.Round(10*given)/10))
	}
	return fields
}

// Watched is a limiter whose throttling is reported. Its messages read, for example,
// "KMS throttles requests".
type Watched struct {
	Service  string // "KMS"
	Requests string // " requests"
	Limiter  *Limiter
}

// WatchThrottling logs the throttling of limiters until stop is called.
func WatchThrottling(logger *zap.Logger, watched []Watched) (stop func()) {
	var all []*throttling
	for _, w := range watched {
		all = append(all, &throttling{Watched: w, logger: logger})
	}
	quit := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		ticker := time.NewTicker(throttlingLook)
		defer ticker.Stop()
		for {
			select {
			case now := <-ticker.C:
				for _, t := range all {
					t.check(now)
				}
			case <-quit:
				return
			}
		}
	})
	return func() {
		close(quit)
		wait.Wait()
	}
}
