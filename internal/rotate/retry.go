package rotate

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

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

// retrier is the one retry layer: the SDK's own is off. It tells a call that
// keeps failing from a service that is down, by remembering when each service
// last answered.
type retrier struct {
	maxOutage, settle time.Duration
	draw              func(n int64) int64

	mu       sync.Mutex
	alive    map[string]time.Time
	accepted map[string]time.Time // when a request last succeeded
}

func newRetrier(maxOutage, settle time.Duration, draw func(n int64) int64) *retrier {
	return &retrier{
		maxOutage: maxOutage,
		settle:    settle,
		draw:      draw,
		alive:     map[string]time.Time{},
		accepted:  map[string]time.Time{},
	}
}

// Patiently runs call until it succeeds or fails for good, for what has to be
// asked before a run: throttling and errors that pass are waited out, for
// maxOutage at most, as in a run.
func Patiently(ctx context.Context, maxOutage time.Duration, service string, call func(context.Context) error) error {
	over := time.Now().Add(maxOutage + patienceOver)
	limited := func(ctx context.Context) error { // a request may wait longer for its answer
		ctx, cancel := context.WithDeadline(ctx, over)
		defer cancel()
		return call(ctx)
	}
	err := newRetrier(maxOutage, 0, rand.Int64N).do(ctx, flowcontrol.Permit{}, Listing, service, limited)
	var stop *StopError
	if errors.As(err, &stop) {
		stop.NoPass = true
	}
	return err
}

// do runs call until Decide has no other use for it, and returns its last error. A
// service that gives no answer for longer than maxOutage is a *StopError of kind
// StopUnavailable. The run's own trouble is tried again until it has settled. Between two
// calls another target may have the place.
func (r *retrier) do(
	ctx context.Context, permit flowcontrol.Permit, doing Doing, service string,
	call func(context.Context) error,
) error {
	began := time.Now()
	r.note(service, began, false)
	e := Event{Doing: doing, MaxOutage: r.maxOutage, Settle: r.settle}
	var failed, troubled, refused time.Time
	for n := 0; ; n++ {
		err := call(ctx)
		e.Class = Classify(err)
		if ctx.Err() != nil && e.Class != ClassNone {
			return ctx.Err()
		}
		alive := r.lastAlive(service)
		switch e.Class {
		case ClassThrottled, ClassTransient, ClassUnknown:
			e.Silence = min(time.Since(alive), time.Since(began))
			// Count a failure again only if other requests succeeded since the last one.
			if heldOf(err) == nil && (failed.IsZero() || alive.After(failed)) {
				e.Failures++
			}
			failed = time.Now()
		case ClassBusy:
			r.note(service, time.Now(), true)
			e.Silence = time.Since(began) // of this place
		case ClassKeyState, ClassCredentials:
			r.note(service, time.Now(), true)
			if troubled.IsZero() {
				troubled = time.Now()
			}
			e.Trouble = time.Since(troubled)
			// Count a refused signature only if other requests succeeded since the last one.
			if code(err) == codeSignature && r.lastAccepted(service).After(refused) {
				e.Refusals++
			}
			refused = time.Now()
		case ClassNone:
			r.accept(service, time.Now())
			return nil
		default:
			r.note(service, time.Now(), true)
			return err
		}
		switch d := Decide(e); {
		case d.Stop == StopUnavailable:
			return unavailable(service, r.maxOutage, err)
		case d.Do == FailSlot && e.Class == ClassCredentials:
			return &signatureError{err}
		case d.Do != Again && d.Do != Slower:
			return err
		}
		held, left := heldOf(err), r.maxOutage-e.Silence+time.Millisecond
		pause := min(retryAfter(err)+r.pauseFor(n, e.Class), left)
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

// signatureError is the error of a request whose signature is refused although other requests
// with the same credentials succeed.
type signatureError struct{ err error }

func (e *signatureError) Error() string { return e.err.Error() }
func (e *signatureError) Unwrap() error { return e.err }

// pauseFor is how long to wait after the n-th attempt.
func (r *retrier) pauseFor(n int, class Class) time.Duration {
	if class == ClassKeyState || class == ClassCredentials {
		return min(r.settle/8, r.backoff(n, class)*4)
	}
	return r.backoff(n, class)
}

// note remembers an answer, or the first time a service was called at all.
func (r *retrier) note(service string, at time.Time, answered bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.alive[service]; answered || !known {
		r.alive[service] = at
	}
}

func (r *retrier) lastAlive(service string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.alive[service]
}

// accept records a request that succeeded.
func (r *retrier) accept(service string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alive[service], r.accepted[service] = at, at
}

// lastAccepted returns when a request last succeeded, or the zero time.
func (r *retrier) lastAccepted(service string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accepted[service]
}

func (r *retrier) backoff(n int, class Class) time.Duration {
	base, most := backoffBase, backoffMost
	if class == ClassThrottled {
		base, most = throttledBase, throttledMost
	}
	ceiling := min(base<<min(n, 10), most)
	return time.Duration(r.draw(int64(ceiling))) + time.Millisecond
}

// responseTo returns what the response to a request shows about the rate. A refusal used a part
// of the quota, as a success did.
func responseTo(err error) flowcontrol.Response {
	switch Classify(err) {
	case ClassThrottled:
		return flowcontrol.Throttled
	case ClassTransient, ClassUnknown:
		return flowcontrol.Unanswered
	case ClassBusy, ClassStopped, ClassCredentials:
		return flowcontrol.NoInformation
	}
	return flowcontrol.Served
}
