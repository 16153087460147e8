package rotate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Backoff is exponential with full jitter. Throttled calls wait less: the
// limiter already slows the run, and a parked worker wastes its turn.
const (
	backoffBase      = 25 * time.Millisecond
	backoffMost      = 2 * time.Second
	backoffThrottled = 400 * time.Millisecond
	// attemptsTransient is how often one call is tried while the same service
	// goes on serving others: then the trouble is the call's own.
	attemptsTransient = 8
	// attemptTimeout bounds one request to KMS. Sources bound their own, since
	// they may first have to wait for capacity.
	attemptTimeout = 30 * time.Second
)

// retrier is the one retry layer: the SDK's own is off. It tells a call that
// keeps failing from a service that is down, by remembering when each service
// last answered.
type retrier struct {
	maxOutage time.Duration
	draw      func(n int64) int64

	mu    sync.Mutex
	alive map[string]time.Time
}

func newRetrier(maxOutage time.Duration, draw func(n int64) int64) *retrier {
	return &retrier{maxOutage: maxOutage, draw: draw, alive: map[string]time.Time{}}
}

// Patiently runs call until it succeeds or fails for good, for what has to be
// asked before a run: throttling and errors that pass are waited out, for
// maxOutage at most, as in a run.
func Patiently(ctx context.Context, maxOutage time.Duration, service string, call func(context.Context) error) error {
	return newRetrier(maxOutage, rand.Int64N).do(ctx, service, 0, call)
}

// do runs call until it succeeds or fails for good, and returns its last error.
// Throttling is waited out; a transient error is tried again, at most attempts
// times (0: no limit) while the service answers others. A service that gives no
// answer for longer than maxOutage is a *StopError of kind StopUnavailable.
func (r *retrier) do(ctx context.Context, service string, attempts int, call func(context.Context) error) error {
	began := time.Now()
	r.note(service, began, false)
	failures := 0
	for n := 0; ; n++ {
		err := call(ctx)
		class := Classify(err)
		if class != ClassThrottled && class != ClassTransient {
			r.note(service, time.Now(), true)
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		alive := r.lastAlive(service)
		if time.Since(alive) > r.maxOutage && time.Since(began) > r.maxOutage {
			return &StopError{Kind: StopUnavailable, Err: err,
				What: fmt.Sprintf("%s gave no usable answer for %s", service, r.maxOutage)}
		}
		if class == ClassTransient {
			failures++
		}
		if attempts > 0 && failures >= attempts && alive.After(began) {
			return err
		}
		if err := sleep(ctx, r.backoff(n, class)); err != nil {
			return err
		}
	}
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

func (r *retrier) backoff(n int, class Class) time.Duration {
	most := backoffMost
	if class == ClassThrottled {
		most = backoffThrottled
	}
	ceiling := min(backoffBase<<min(n, 10), most)
	return time.Duration(r.draw(int64(ceiling))) + time.Millisecond
}

// sleep waits for d, or returns the reason why ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
