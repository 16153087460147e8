package retry

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"rotator/internal/awserr"
	"rotator/internal/flowcontrol"
)

// The delay between attempts is exponential with full jitter: a random time below a ceiling that
// starts at backoffBase and doubles with each attempt, up to maxBackoff. Throttled requests
// have shorter delays, because the limiter already lowers the rate.
const (
	backoffBase   = 25 * time.Millisecond
	maxBackoff    = 2 * time.Second
	throttledBase = 5 * time.Millisecond
	throttledMost = 400 * time.Millisecond
)

// lastAttemptGrace is the time by which WithRetry can exceed maxOutage, so that the last attempt
// can return its error.
const lastAttemptGrace = 500 * time.Millisecond

// Retrier retries requests. The retries of the AWS SDK must be disabled. Retrier records when
// each service last answered, so that it can distinguish a failing request from an unavailable
// service. Its methods can be called concurrently.
type Retrier struct {
	MaxOutage, Settle time.Duration
	draw              func(n int64) int64

	mu       sync.Mutex
	alive    map[string]time.Time
	accepted map[string]time.Time // when a request last succeeded
}

// New returns a Retrier. maxOutage limits the time without a usable response of a service, and
// settle the time for which errors of keys and credentials are retried. draw returns a random
// number in [0, n).
func New(maxOutage, settle time.Duration, draw func(n int64) int64) *Retrier {
	return &Retrier{
		MaxOutage: maxOutage,
		Settle:    settle,
		draw:      draw,
		alive:     map[string]time.Time{},
		accepted:  map[string]time.Time{},
	}
}

// WithRetry calls call until it succeeds or fails with a permanent error. It is for requests
// outside of a run. Like a run, it retries throttled requests and temporary errors for at most
// maxOutage. A *StopError that it returns has NoPass set.
func WithRetry(
	ctx context.Context, maxOutage time.Duration, service string,
	call func(context.Context) error,
) error {
	over := time.Now().Add(maxOutage + lastAttemptGrace)
	var last error                               // of an attempt that over did not end
	limited := func(ctx context.Context) error { // the timeout of a request can be longer
		ctx, cancel := context.WithDeadline(ctx, over)
		defer cancel()
		err := call(ctx)
		if err != nil && ctx.Err() != nil && last != nil {
			return last
		}
		last = err
		return err
	}
	err := New(maxOutage, 0, rand.Int64N).Do(ctx, flowcontrol.Permit{}, Listing, service, limited)
	var stop *StopError
	if errors.As(err, &stop) {
		stop.NoPass = true
	}
	return err
}

// Do retries call until Decide returns another action than Again or Slower, and returns the
// last error. If the service gives no usable response for MaxOutage, the error is a *StopError
// of kind StopUnavailable. Errors of keys and credentials are retried for the time Settle. Do
// releases permit between two calls, so that other targets can use it.
func (r *Retrier) Do(
	ctx context.Context, permit flowcontrol.Permit, doing Operation, service string,
	call func(context.Context) error,
) error {
	began := time.Now()
	r.note(service, began, false)
	e := Event{Operation: doing, MaxOutage: r.MaxOutage, Settle: r.Settle}
	h := requestHistory{began: began}
	for n := 0; ; n++ {
		err := call(ctx)
		e.Kind = Classify(err)
		if ctx.Err() != nil && e.Kind != KindNone {
			return ctx.Err()
		}
		switch e.Kind {
		case KindThrottled, KindTransient, KindUnknown, KindBusy, KindKeyState, KindCredentials:
			r.count(&e, &h, service, err)
		case KindNone:
			r.Accept(service, time.Now())
			return nil
		default:
			r.note(service, time.Now(), true)
			return err
		}
		switch d := Decide(e); {
		case d.Stop == StopUnavailable:
			return Unavailable(service, r.MaxOutage, err)
		case d.Do == FailSlot && e.Kind == KindCredentials:
			return &signatureError{err}
		case d.Do != Again && d.Do != Slower:
			return err
		}
		held, left := HeldOf(err), r.MaxOutage-e.Unanswered+time.Millisecond
		pause := min(awserr.RetryAfter(err)+r.PauseFor(n, e.Kind), left)
		if err := permit.ReleaseWhile(func() error {
			if held != nil {
				return held.Await(ctx, left)
			}
			return flowcontrol.Sleep(ctx, pause)
		}); err != nil {
			return err
		}
	}
}

// requestHistory has the times of a request's first call and of its last failures, by kind.
type requestHistory struct{ began, failed, unusable, refused time.Time }

// count adds a failure that can be temporary to the event of a request.
func (r *Retrier) count(e *Event, h *requestHistory, service string, err error) {
	now, alive := time.Now(), r.lastResponse(service)
	switch e.Kind {
	case KindThrottled, KindTransient, KindUnknown:
		e.Unanswered = min(now.Sub(alive), now.Sub(h.began))
		// Count another failure only if other requests succeeded since the last one.
		if HeldOf(err) == nil && (h.failed.IsZero() || alive.After(h.failed)) {
			e.Failures++
		}
		h.failed = now
	case KindBusy:
		r.note(service, now, true)
		e.Unanswered = now.Sub(h.began) // only this item is busy, not the service
	case KindKeyState, KindCredentials:
		r.note(service, now, true)
		if h.unusable.IsZero() {
			h.unusable = now
		}
		e.UnusableFor = now.Sub(h.unusable)
		// Count a refused signature only if other requests succeeded since the last one.
		if awserr.Code(err) == CodeSignature && r.lastAccepted(service).After(h.refused) {
			e.Refusals++
		}
		h.refused = now
	}
}

// PauseFor returns the delay after attempt n, counted from 0, that failed with an error of the
// given kind.
func (r *Retrier) PauseFor(n int, class ErrorKind) time.Duration {
	if class == KindKeyState || class == KindCredentials {
		return min(r.Settle/8, r.backoff(n, class)*4)
	}
	return r.backoff(n, class)
}

// note records the time of a response or, if answered is false, of the first call of a service.
func (r *Retrier) note(service string, at time.Time, answered bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.alive[service]; answered || !known {
		r.alive[service] = at
	}
}

func (r *Retrier) lastResponse(service string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.alive[service]
}

// Accept records that a request to service succeeded at the given time.
func (r *Retrier) Accept(service string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alive[service], r.accepted[service] = at, at
}

// lastAccepted returns when a request last succeeded, or the zero time.
func (r *Retrier) lastAccepted(service string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accepted[service]
}

// signatureError is the error of a request whose signature is refused although other requests
// with the same credentials succeed.
type signatureError struct{ err error }

func (e *signatureError) Error() string { return e.err.Error() }
func (e *signatureError) Unwrap() error { return e.err }

func (r *Retrier) backoff(n int, class ErrorKind) time.Duration {
	base, most := backoffBase, maxBackoff
	if class == KindThrottled {
		base, most = throttledBase, throttledMost
	}
	ceiling := min(base<<min(n, 10), most)
	return time.Duration(r.draw(int64(ceiling))) + time.Millisecond
}

// ResponseTo returns what the result of a request means for the limiter. A refused request used
// the quota like a successful one.
func ResponseTo(err error) flowcontrol.Response {
	switch Classify(err) {
	case KindThrottled:
		return flowcontrol.Throttled
	case KindTransient, KindUnknown:
		return flowcontrol.Unanswered
	case KindBusy, KindStopped, KindCredentials:
		return flowcontrol.NoInformation
	}
	return flowcontrol.Served
}
