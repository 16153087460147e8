package rotate

import (
	"errors"
	"math"
	"strconv"
	"time"

	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	// retryAfterHeader is how a service states, in milliseconds, when a failed request may
	// be sent again. Every AWS service may send it.
	retryAfterHeader = "X-Amz-Retry-After"
	// retryAfterMost is the longest time that is waited because of the header, as in the
	// retryer of the SDK. A longer outage is found by further attempts.
	retryAfterMost = 5 * time.Second
)

// retryAfter returns how long the service that failed with err asks to wait before the next
// attempt, at most retryAfterMost. It is 0 without a valid header.
func retryAfter(err error) time.Duration {
	var failed *smithyhttp.ResponseError
	if !errors.As(err, &failed) || failed.Response == nil || failed.Response.Response == nil {
		return 0
	}
	ms, invalid := strconv.ParseInt(failed.Response.Header.Get(retryAfterHeader), 10, 64)
	if invalid != nil || ms < 0 {
		return 0
	}
	return time.Duration(min(ms, int64(retryAfterMost/time.Millisecond))) * time.Millisecond
}

// rest holds the requests of the limiter for as long as the service asks, unless most
// requests of the last second were served: then the request that failed waits alone.
func (l *Limiter) rest(err error) {
	after := retryAfter(err)
	if after == 0 {
		return
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen.mostServed(now) {
		return
	}
	l.gate.rest(now.Add(after))
}

// mostServed reports whether more than half of the answers of the last second were not
// throttled.
func (r *recent) mostServed(now time.Time) bool {
	if now.UnixNano()/int64(cell)-r.last >= int64(cellsKept) {
		return false // no answers
	}
	served, sent := r.perSecond(now)
	return served > sent/2
}

// rest lets nothing pass before a time.
func (g *gate) rest(until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until.After(g.resting) {
		g.resting = until
	}
}

// rested returns how long nothing may pass from now on. It must be called with mu held.
func (g *gate) rested(now time.Time) time.Duration {
	if g.resting.IsZero() {
		return 0
	}
	left := g.resting.Sub(now)
	if left <= 0 {
		g.resting = time.Time{}
	}
	return max(left, 0)
}

// free reports whether requests pass without a limit. It must be called with mu held.
func (g *gate) free() bool { return math.IsInf(g.perSecond, 1) && g.resting.IsZero() }

// Free reports whether no request has to wait.
func (l *Limiter) Free() bool {
	l.gate.mu.Lock()
	defer l.gate.mu.Unlock()
	return l.gate.free()
}
