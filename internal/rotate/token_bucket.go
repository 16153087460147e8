package rotate

import (
	"context"
	"math"
	"sync"
	"time"
)

// How a gate keeps time.
const (
	// burstShare of a second's requests may go out at once, after a pause. It is
	// taken off the rate, so that a whole second with its burst holds no more than
	// the rate.
	burstShare = 0.01
	// quantum is the least that the first in the queue sleeps, where the burst
	// makes up for it: timers are dearer than requests.
	quantum = time.Millisecond
	// lateBy is the maximum delay of a timer that does not reduce the rate.
	lateBy = 5 * time.Millisecond
	// lookAgain is how long it sleeps at most, since the rate may have changed.
	lookAgain = 100 * time.Millisecond
)

// gate lets requests through at a rate, in the order in which they came. Unlike
// a limiter that hands out reservations it promises no time to who waits, so
// that a new rate holds for the whole queue at once.
type gate struct {
	line     chan struct{} // held by the first waiter that is not urgent
	turn     chan struct{} // held by the first waiter in the queue
	underway underway

	mu        sync.Mutex
	perSecond float64   // math.Inf(1): no limit
	spare     float64   // terms
	closed    bool      // no request passes
	until     time.Time // no request passes from then on; zero means no end
	tokens    float64   // requests that may pass now; negative after an expensive one
	at        time.Time
	passed    time.Time // when the last request passed
	resting   time.Time // no request passes before; zero means no rest
	queue     presence  // requests that wait
}

func newGate(perSecond float64) *gate {
	g := &gate{
		line:      make(chan struct{}, 1),
		turn:      make(chan struct{}, 1),
		perSecond: perSecond,
		spare:     1,
		at:        time.Now(),
	}
	g.tokens, _ = g.terms()
	return g
}

// terms returns the maximum number of tokens and the number of new tokens a second. The
// maximum is at least one, and enough to make up for a timer that is lateBy late. The rate is
// reduced by the burst, so a second never has more requests than the rate. If the burst is
// less than 2, it is reduced only by the part above the spare tokens: at such rates a second
// may have 1 request more than the rate. Gates that divide a rate also divide this 1. The rate
// is reduced by at most half.
func (g *gate) terms() (burst, refill float64) {
	if burst = g.perSecond * burstShare; burst >= 2 {
		return burst, g.perSecond - burst
	}
	burst = 1 + g.perSecond*lateBy.Seconds()
	return burst, max(g.perSecond-(burst-g.spare), g.perSecond/2)
}

// pass blocks until a request that counts n times may go out, or ctx ends.
func (g *gate) pass(ctx context.Context, n int) error {
	if !g.join() {
		return ctx.Err()
	}
	defer g.leave()
	if !inHurry(ctx) {
		select {
		case g.line <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-g.line }()
	}
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-g.turn }()
	for ctx.Err() == nil {
		wait := g.take(n)
		if wait <= 0 {
			return nil
		}
		if err := sleep(ctx, min(wait, lookAgain)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// try takes n tokens if they are there and nobody waits for any.
func (g *gate) try(n int) bool {
	select {
	case g.turn <- struct{}{}:
	default:
		return false
	}
	defer func() { <-g.turn }()
	return g.take(n) <= 0
}

// join enters the queue; false says that there is none, since there is no limit.
func (g *gate) join() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.free() {
		return false
	}
	g.queue.change(1)
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue.change(-1)
}

// waited returns for how long all requests together have waited so far.
func (g *gate) waited() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queue.change(0)
}

// take takes n tokens, or says how long it is until they are there. What counts
// more than the burst holds goes out on a full burst, and leaves a debt.
func (g *gate) take(n int) (wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if wait := g.rested(now); wait > 0 {
		return wait
	}
	if math.IsInf(g.perSecond, 1) {
		return 0
	}
	if g.closed || !g.until.IsZero() && !now.Before(g.until) {
		return lookAgain
	}
	if g.underway.full(g.perSecond, now.Sub(g.passed)) {
		return quantum
	}
	g.gather(now)
	burst, refill := g.terms()
	if missing := min(float64(n), burst) - g.tokens; missing > 0 {
		wait = time.Duration(math.Ceil(missing / refill * float64(time.Second)))
		if burst > 1 {
			wait = max(wait, quantum)
		}
		return max(wait, 1)
	}
	g.tokens -= float64(n)
	g.passed = now
	return 0
}

// gather adds what time has brought since the last look.
func (g *gate) gather(now time.Time) {
	if burst, refill := g.terms(); !math.IsInf(g.perSecond, 1) {
		g.tokens = min(burst, g.tokens+refill*now.Sub(g.at).Seconds())
	}
	g.at = now
}

// open lets requests pass until the given time; the zero time means no end. A gate that was
// closed opens without tokens.
func (g *gate) open(until time.Time, spare float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		g.closed, g.tokens, g.at = false, 0, time.Now()
	}
	g.until, g.spare = until, spare
}

// close blocks all requests until open is called.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// hurry is the key of a context value: a channel. Once the channel is closed, the work with
// this context must be finished before other work.
type hurry struct{}

// hurried returns a context for work that has priority once hurried is closed.
func hurried(ctx context.Context, hurried <-chan struct{}) context.Context {
	return context.WithValue(ctx, hurry{}, hurried)
}

func inHurry(ctx context.Context) bool {
	c, _ := ctx.Value(hurry{}).(<-chan struct{})
	return isClosed(c)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// set changes the rate from now on.
func (g *gate) set(perSecond float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gather(time.Now())
	g.perSecond = perSecond
	if math.IsInf(perSecond, 1) {
		g.tokens = 0 // the debt of a rate that is gone
	} else if burst, _ := g.terms(); g.tokens > burst {
		g.tokens = burst
	}
}
