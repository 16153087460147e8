package flowcontrol

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// The limits for requests whose responses take unusually long.
const (
	// A time without any response counts as a stall if it is longer than minStall, and a request
	// sent in it took longer than usual by minStall. All requests of this time arrive together.
	// In a shorter stall they are less than 5% of the rate.
	minStall = 45 * time.Millisecond
	// usualShift is the weight of a new response in the moving average: 1/2^usualShift.
	usualShift = 5
	// permitValid is the maximum time between a permit and the request. If all requests are
	// delayed by this time, they exceed the rate by at most 1%.
	permitValid = 8 * time.Millisecond
)

// inFlight counts the requests of a limiter that are in flight. After a stall of the network
// or of the service, all of them can arrive at the same moment. Therefore at most one second's
// worth of requests is in flight, and after a stall the limiter waits until the average rate,
// including these requests, is within the limit again.
type inFlight struct {
	minStall time.Duration // at least the constant minStall

	requests     atomic.Int64 // requests in flight
	lastResponse atomic.Int64 // time of the last response, in nanoseconds since 1970
	usual        atomic.Int64 // moving average of the time until a response, in nanoseconds

	mu          sync.Mutex
	silentSince time.Time // start of the last long time without responses
	silentUntil time.Time // end of that time
	pending     int64     // requests in flight at that end, until they are counted as stalled
}

// minStallAt returns the minimum length of a stall at a rate. Below 20 requests a second, it is the
// time between two requests, because one request more than the rate is allowed.
func minStallAt(perSecond float64) time.Duration {
	return max(minStall, time.Duration(0.9/perSecond*float64(time.Second)))
}

// full reports whether another request must wait for a response. One request a second is
// always allowed, to detect the end of an outage.
func (f *inFlight) full(perSecond float64, sinceLast time.Duration) bool {
	return float64(f.requests.Load()) >= max(1, perSecond) && sinceLast < time.Second
}

// countResponse counts the response at now to a request that was sent at the given time. It returns
// the number of requests that may just have arrived at the service together.
func (f *inFlight) countResponse(sent, now time.Time) (arrivedTogether int64) {
	left := f.requests.Add(-1)
	took, usual := now.Sub(sent), f.usual.Load()
	last := f.lastResponse.Swap(now.UnixNano())
	if usual == 0 {
		f.usual.Store(max(1, int64(took)))
		return 0
	}
	long := time.Duration(usual) + f.minStall
	silent := now.UnixNano()-last > int64(f.minStall)
	if took > long || silent {
		arrivedTogether = f.stalled(sent, now, long, silent, time.Unix(0, last), left+1)
		took = min(took, long)
	}
	f.usual.Store(max(1, usual+(int64(took)-usual)>>usualShift))
	return arrivedTogether
}

// stalled is like countResponse, for a response that took long or was the first one after a long
// time without responses. That time is a stall if a slow request was sent during it, or so shortly
// before it that no response was due. The requests in flight at its end are counted once.
func (f *inFlight) stalled(
	sent, now time.Time, long time.Duration, silent bool, since time.Time, pending int64,
) (arrivedTogether int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if silent {
		f.silentSince, f.silentUntil, f.pending = since, now, pending
	}
	switch {
	case now.Sub(sent) <= long, now.Sub(f.silentUntil) > long:
		return 0
	case sent.Before(f.silentSince.Add(-long)), !sent.Before(f.silentUntil):
		return 0
	}
	arrivedTogether, f.pending = f.pending, 0
	return arrivedTogether
}

// Begin is like Wait, for a request whose end is reported to End. It returns the time at which
// the request can be sent.
func (l *Limiter) Begin(ctx context.Context) (sent time.Time, err error) {
	if err := l.bucket.wait(ctx, 1); err != nil {
		return time.Time{}, err
	}
	l.bucket.inFlight.requests.Add(1)
	return time.Now(), nil
}

// Renew waits for another permit for a request that Begin has allowed but that was not sent
// within Valid.
func (l *Limiter) Renew(ctx context.Context) error {
	l.bucket.inFlight.requests.Add(-1)
	defer l.bucket.inFlight.requests.Add(1)
	return l.bucket.wait(ctx, 1)
}

// Valid returns the time after Begin or Renew within which a request must be sent. At less than
// 100 requests per second it is half the time between two requests, so delayed requests exceed
// the rate by at most 1.
func (l *Limiter) Valid() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(permitValid, time.Duration(0.5/l.givenRate*float64(time.Second)))
}

// End reports the end of a request that Begin has allowed, with what its response shows.
func (l *Limiter) End(sent time.Time, response Response, retryAfter time.Duration) {
	if arrivedTogether := l.bucket.inFlight.countResponse(sent, time.Now()); arrivedTogether > 0 {
		l.bucket.charge(arrivedTogether)
	}
	l.Observe(response, retryAfter)
}
