package rotate

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// How a limiter handles requests whose responses take unusually long.
const (
	// A time without any response counts as a stall if it is at least stallLeast and at least
	// stallFactor times the usual time until a response.
	stallLeast  = 50 * time.Millisecond
	stallFactor = 2
	// usualShift is the weight of a new response in the moving average: 1/2^usualShift.
	usualShift = 5
	// permitValid is the maximum time between a permit and the request. If all requests are
	// delayed by this time, they exceed the rate by at most 1%.
	permitValid = 8 * time.Millisecond
)

// underway counts the requests of a limiter that are in flight. After a stall of the network
// or of the service, all of them can arrive at the same moment. Therefore at most one second's
// worth of requests is in flight, and after a stall the limiter waits until the average rate,
// including these requests, is within the limit again. The zero value is ready for use.
type underway struct {
	n     atomic.Int64 // requests in flight
	last  atomic.Int64 // time of the last response, in nanoseconds since 1970
	usual atomic.Int64 // moving average of the time until a response, in nanoseconds

	mu      sync.Mutex
	silent  time.Time // begin of the last long time without responses
	resumed time.Time // end of that time
	pending int64     // requests in flight at that end, until they are counted as stalled
}

// full reports whether another request must wait for a response. One request a second is
// always allowed, to detect the end of an outage.
func (u *underway) full(perSecond float64, sinceLast time.Duration) bool {
	return float64(u.n.Load()) >= max(1, perSecond) && sinceLast < time.Second
}

// land counts the response at now to a request that was sent at the given time. It returns the
// number of requests that may just have arrived at the service together.
func (u *underway) land(sent, now time.Time) (together int64) {
	left := u.n.Add(-1)
	took, usual := now.Sub(sent), u.usual.Load()
	last := u.last.Swap(now.UnixNano())
	if usual == 0 {
		u.usual.Store(max(1, int64(took)))
		return 0
	}
	long := time.Duration(usual*stallFactor) + stallLeast
	silent := now.UnixNano()-last > int64(long)
	if took > long || silent {
		together = u.stalled(sent, now, long, silent, time.Unix(0, last), left+1)
		took = min(took, long)
	}
	u.usual.Store(max(1, usual+(int64(took)-usual)>>usualShift))
	return together
}

// stalled is like land, for a response that took long or was the first one after a long time
// without responses. That time is a stall if a slow request was sent during it, or so shortly
// before it that no response was due. The requests in flight at its end are counted once.
func (u *underway) stalled(
	sent, now time.Time, long time.Duration, silent bool, since time.Time, pending int64,
) (together int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if silent {
		u.silent, u.resumed, u.pending = since, now, pending
	}
	switch {
	case now.Sub(sent) <= long, now.Sub(u.resumed) > long:
		return 0
	case sent.Before(u.silent.Add(-long)), !sent.Before(u.resumed):
		return 0
	}
	together, u.pending = u.pending, 0
	return together
}

// Begin is like Wait, for a request whose end is reported to End. It returns the time at which
// the request may be sent.
func (l *Limiter) Begin(ctx context.Context) (sent time.Time, err error) {
	if err := l.gate.pass(ctx, 1); err != nil {
		return time.Time{}, err
	}
	l.gate.underway.n.Add(1)
	return time.Now(), nil
}

// Renew waits for another permit for a request that Begin has allowed but that was not sent
// within Valid.
func (l *Limiter) Renew(ctx context.Context) error {
	l.gate.underway.n.Add(-1)
	defer l.gate.underway.n.Add(1)
	return l.gate.pass(ctx, 1)
}

// Valid returns the time after Begin or Renew within which a request may be sent. At less than
// 100 requests per second, it is half the time between two requests, so delayed requests exceed
// the rate by at most 1.
func (l *Limiter) Valid() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(permitValid, time.Duration(0.5/l.given*float64(time.Second)))
}

// End reports the end of a request that Begin has allowed.
func (l *Limiter) End(sent time.Time, class Class, err error) {
	if together := l.gate.underway.land(sent, time.Now()); together > 0 {
		l.gate.charge(together)
	}
	l.heed(class, err)
}

// charge removes n tokens. The resulting debt delays requests by at most one second.
func (g *gate) charge(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if math.IsInf(g.perSecond, 1) {
		return
	}
	g.gather(time.Now())
	g.tokens = max(g.tokens-float64(n), -g.perSecond)
}
