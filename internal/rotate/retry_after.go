package rotate

import (
	"errors"
	"math"
	"strconv"
	"time"

	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	// retryAfterHeader contains the time in milliseconds after which a failed request may be
	// sent again. Every AWS service can send it.
	retryAfterHeader = "X-Amz-Retry-After"
	// retryAfterMost is the maximum time to wait because of the header, as in the retryer of
	// the SDK. After that, the next attempt shows whether the outage continues.
	retryAfterMost = 5 * time.Second
)

// retryAfter returns the time, at most retryAfterMost, that the service requests before the
// next attempt after the error err. It is 0 without a valid header.
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

// rest holds all requests of the limiter for the time that the service requests. If most
// requests of the last second succeeded, only the failed request waits.
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

// rest blocks all requests until a time.
func (g *gate) rest(until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until.After(g.resting) {
		g.resting = until
	}
}

// rested returns the time from now on for which no request may pass. It must be called with mu
// held.
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

// Free reports whether requests do not have to wait.
func (l *Limiter) Free() bool {
	l.gate.mu.Lock()
	defer l.gate.mu.Unlock()
	return l.gate.free()
}
