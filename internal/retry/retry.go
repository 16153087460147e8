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

// Backoff is exponential with full jitter. Throttled calls wait less: the
// limiter already slows the run, and a parked worker wastes its turn.
const (
	backoffBase = 25 * time.Millisecond
	backoffMost = 2 * time.Second
	// The same of throttled calls.
	throttledBase = 5 * time.Millisecond
	throttledMost = 400 * time.Millisecond
)

// patienceOver is the time by which Patiently may exceed its patience. The last attempt must
// have time to fail by itself, so that its error is known.
const patienceOver = 500 * time.Millisecond

// Retrier is the one retry layer: the SDK's own is off. It tells a call that
// keeps failing from a service that is down, by remembering when each service
// last answered.
type Retrier struct {
	MaxOutage, Settle time.Duration
	draw              func(n int64) int64

	mu       sync.Mutex
	alive    map[string]time.Time
	accepted map[string]time.Time // when a request last succeeded
}

func New(maxOutage, settle time.Duration, draw func(n int64) int64) *Retrier {
	return &Retrier{
		MaxOutage: maxOutage,
		Settle:    settle,
		draw:      draw,
		alive:     map[string]time.Time{},
		accepted:  map[string]time.Time{},
	}
}

// WithRetry runs call until it succeeds or fails for good, for what has to be
// asked before a run: throttling and errors that pass are waited out, for
// maxOutage at most, as in a run.
func WithRetry(ctx context.Context, maxOutage time.Duration, service string, call func(context.Context) error) error {
	over := time.Now().Add(maxOutage + patienceOver)
	limited := func(ctx context.Context) error { // a request may wait longer for its answer
		ctx, cancel := context.WithDeadline(ctx, over)
		defer cancel()
		return call(ctx)
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
	var failed, troubled, refused time.Time
	for n := 0; ; n++ {
		err := call(ctx)
		e.Kind = Classify(err)
		if ctx.Err() != nil && e.Kind != KindNone {
			return ctx.Err()
		}
		alive := r.lastAlive(service)
		switch e.Kind {
		case KindThrottled, KindTransient, KindUnknown:
			e.Unanswered = min(time.Since(alive), time.Since(began))
			// Count a failure again only if other requests succeeded since the last one.
			if HeldOf(err) == nil && (failed.IsZero() || alive.After(failed)) {
				e.Failures++
			}
			failed = time.Now()
		case KindBusy:
			r.note(service, time.Now(), true)
			e.Unanswered = time.Since(began) // of this place
		case KindKeyState, KindCredentials:
			r.note(service, time.Now(), true)
			if troubled.IsZero() {
				troubled = time.Now()
			}
			e.UnusableFor = time.Since(troubled)
			// Count a refused signature only if other requests succeeded since the last one.
			if awserr.Code(err) == CodeSignature && r.lastAccepted(service).After(refused) {
				e.Refusals++
			}
			refused = time.Now()
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

// PauseFor is how long to wait after the n-th attempt.
func (r *Retrier) PauseFor(n int, class ErrorKind) time.Duration {
	if class == KindKeyState || class == KindCredentials {
		return min(r.Settle/8, r.backoff(n, class)*4)
	}
	return r.backoff(n, class)
}

// note remembers an answer, or the first time a service was called at all.
func (r *Retrier) note(service string, at time.Time, answered bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.alive[service]; answered || !known {
		r.alive[service] = at
	}
}

func (r *Retrier) lastAlive(service string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.alive[service]
}

// Accept records a request that succeeded.
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
	base, most := backoffBase, backoffMost
	if class == KindThrottled {
		base, most = throttledBase, throttledMost
	}
	ceiling := min(base<<min(n, 10), most)
	return time.Duration(r.draw(int64(ceiling))) + time.Millisecond
}

// ResponseTo returns what the response to a request shows about the rate. A refusal used a part
// of the quota, as a success did.
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
