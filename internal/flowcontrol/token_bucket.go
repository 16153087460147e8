package flowcontrol

import (
	"context"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The parameters of a token bucket.
const (
	// burstShare is the share of the requests of one second that can be sent at once after a
	// pause. The rate is reduced by it, so one second, burst included, does not exceed the
	// rate.
	burstShare = 0.01
	// minSleep is the minimum time that the first waiter sleeps if the burst compensates for
	// it. Timers cost more CPU time than requests.
	minSleep = time.Millisecond
	// lateBy is the maximum delay of a timer that does not reduce the rate.
	lateBy = 5 * time.Millisecond
	// maxSleep is the maximum time that the first waiter sleeps, because a pause may end and
	// requests in flight may return.
	maxSleep = 100 * time.Millisecond
	// perRequest is the number of tokens that a request costs. rate.Limiter has a whole number
	// of tokens as its burst, and bursts of less than 2 requests need fractions.
	perRequest = 1000
)

// tokenBucket limits requests to a rate and lets them pass in the order of their arrival. The
// bucket of a rate.Limiter does the arithmetic. Waiters have no reservations in it: they wait
// in a queue, so a new rate applies to all of them at once.
type tokenBucket struct {
	queue    chan struct{} // held by the first waiter that is not urgent
	first    chan struct{} // held by the first waiter
	inFlight inFlight

	mu         sync.Mutex
	tokens     *rate.Limiter
	perSecond  float64       // math.Inf(1): no limit
	spare      float64       // see limits
	changed    chan struct{} // closed and replaced when the rate changes or the bucket opens
	closed     bool          // no request passes
	until      time.Time     // no request passes from then on; zero means no end
	lastPassed time.Time     // when the last request passed
	pause      time.Time     // no request passes before; zero means no pause
	waiting    busyTime      // requests that wait
}

func newTokenBucket(perSecond float64) *tokenBucket {
	b := &tokenBucket{
		queue:     make(chan struct{}, 1),
		first:     make(chan struct{}, 1),
		perSecond: perSecond,
		spare:     1,
		changed:   make(chan struct{}),
		inFlight:  inFlight{minStall: minStallAt(perSecond)},
	}
	burst, refill := b.limits()
	b.tokens = rate.NewLimiter(tokensPerSecond(refill), tokensOf(burst))
	return b
}

// limits returns the burst, which is the maximum number of requests that can pass at once, and
// the number of requests per second in the long run. The burst is at least 1, and large enough to
// compensate for a timer that is lateBy late. The rate is reduced by the burst, so no second
// exceeds the rate. If the burst is less than 2, the rate is reduced only by the part above spare:
// at such rates a second can have 1 request more than the rate. Runs that divide a rate also divide
// this 1. The rate is reduced by at most half.
func (b *tokenBucket) limits() (burst, refill float64) {
	if math.IsInf(b.perSecond, 1) {
		return b.perSecond, b.perSecond
	}
	if burst = b.perSecond * burstShare; burst >= 2 {
		return burst, b.perSecond - burst
	}
	burst = 1 + b.perSecond*lateBy.Seconds()
	return burst, max(b.perSecond-(burst-b.spare), b.perSecond/2)
}

func tokensOf(requests float64) int {
	return int(min(requests*perRequest, math.MaxInt32))
}

func tokensPerSecond(refill float64) rate.Limit {
	if math.IsInf(refill, 1) {
		return rate.Inf
	}
	return rate.Limit(refill * perRequest)
}

// wait blocks until a request that counts n times can be sent, or ctx ends.
func (b *tokenBucket) wait(ctx context.Context, n int) error {
	if !b.join() {
		return ctx.Err()
	}
	defer b.leave()
	if !isUrgent(ctx) {
		select {
		case b.queue <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-b.queue }()
	}
	select {
	case b.first <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-b.first }()
	for ctx.Err() == nil {
		changed := b.nextChange()
		delay := b.take(n)
		if delay <= 0 {
			return nil
		}
		if err := sleepUntil(ctx, min(delay, maxSleep), changed); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// nextChange returns a channel that is closed when the rate changes or the bucket opens.
func (b *tokenBucket) nextChange() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// try reports whether a request that counts n times can be sent now. It fails if requests wait.
func (b *tokenBucket) try(n int) bool {
	select {
	case b.first <- struct{}{}:
	default:
		return false
	}
	defer func() { <-b.first }()
	return b.take(n) <= 0
}

// join enters the queue. It returns false if there is no queue because there is no limit.
func (b *tokenBucket) join() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free() {
		return false
	}
	b.waiting.change(1)
	return true
}

func (b *tokenBucket) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting.change(-1)
}

// free reports whether requests pass without a limit. It must be called with mu held.
func (b *tokenBucket) free() bool { return math.IsInf(b.perSecond, 1) && b.pause.IsZero() }

// waited returns the total time that requests have waited.
func (b *tokenBucket) waited() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting.change(0)
}

// take takes the tokens of n requests. If there are too few, it takes none and returns the time
// until there are enough. A request that counts more than the burst passes when the bucket is
// full, and leaves a debt.
func (b *tokenBucket) take(n int) (delay time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if left := b.paused(now); left > 0 {
		return left
	}
	if math.IsInf(b.perSecond, 1) {
		return 0
	}
	if b.closed || !b.until.IsZero() && !now.Before(b.until) {
		return maxSleep
	}
	if b.inFlight.full(b.perSecond, now.Sub(b.lastPassed)) {
		return minSleep
	}
	cost, burst := n*perRequest, b.tokens.Burst()
	if !b.tokens.AllowN(now, min(cost, burst)) {
		missing := float64(min(cost, burst)) - b.tokens.TokensAt(now)
		delay = time.Duration(math.Ceil(missing / float64(b.tokens.Limit()) * float64(time.Second)))
		if burst > perRequest {
			delay = max(delay, minSleep)
		}
		return max(delay, 1)
	}
	b.takeDebt(now, cost-burst)
	b.lastPassed = now
	return 0
}

// takeDebt takes tokens from the bucket even if the bucket has fewer. It must be called with mu
// held.
func (b *tokenBucket) takeDebt(now time.Time, tokens int) {
	for burst := b.tokens.Burst(); tokens > 0; tokens -= burst {
		b.tokens.ReserveN(now, min(tokens, burst))
	}
}

// charge takes the tokens of n requests that were not counted before. The resulting debt delays
// requests by at most one second.
func (b *tokenBucket) charge(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if math.IsInf(b.perSecond, 1) {
		return
	}
	now := time.Now()
	left := b.tokens.TokensAt(now) + b.perSecond*perRequest
	b.takeDebt(now, int(max(0, min(float64(n)*perRequest, left))))
}

// set changes the rate from now on, also for requests that wait.
func (b *tokenBucket) set(perSecond float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	unlimited := math.IsInf(b.perSecond, 1) && !math.IsInf(perSecond, 1)
	b.perSecond = perSecond
	b.apply()
	if unlimited {
		b.drain()
	}
}

// apply sets the burst and the rate of the bucket. It must be called with mu held.
func (b *tokenBucket) apply() {
	now := time.Now()
	burst, refill := b.limits()
	b.tokens.SetLimitAt(now, tokensPerSecond(refill))
	b.tokens.SetBurstAt(now, tokensOf(burst))
	close(b.changed)
	b.changed = make(chan struct{})
}

// drain empties the bucket. It must be called with mu held.
func (b *tokenBucket) drain() {
	now := time.Now()
	b.takeDebt(now, int(b.tokens.TokensAt(now)))
}

// open lets requests pass until the given time; the zero time means no end. A bucket that was
// closed opens empty.
func (b *tokenBucket) open(until time.Time, spare float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed := b.closed || b.spare != spare
	b.until, b.spare = until, spare
	if !changed {
		return
	}
	b.apply()
	if b.closed {
		b.closed = false
		b.drain()
	}
}

// close blocks all requests until open is called.
func (b *tokenBucket) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// pauseUntil blocks all requests until a time.
func (b *tokenBucket) pauseUntil(end time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if end.After(b.pause) {
		b.pause = end
	}
}

// paused returns the remaining time for which no request passes. It must be called with mu held.
func (b *tokenBucket) paused(now time.Time) time.Duration {
	if b.pause.IsZero() {
		return 0
	}
	left := b.pause.Sub(now)
	if left <= 0 {
		b.pause = time.Time{}
	}
	return max(left, 0)
}

// urgency is the key of a context value: a channel. Once the channel is closed, work with this
// context must be finished before other work.
type urgency struct{}

// WithUrgency returns a context for work that has priority over other work once urgent is
// closed.
func WithUrgency(ctx context.Context, urgent <-chan struct{}) context.Context {
	return context.WithValue(ctx, urgency{}, urgent)
}

func isUrgent(ctx context.Context) bool {
	c, _ := ctx.Value(urgency{}).(<-chan struct{})
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
