// Package flowcontrol limits how much a run does at the same time and per second: the rate
// limiter of the requests to a service, the pool of workers that targets share, and the size of
// this pool. It does not know what a request or a job is.
package flowcontrol

import (
	"context"
	"math"
	"sync"
	"time"
)

// The parameters by which the limiter responds to throttling.
const (
	// lookInterval is the minimum time between two evaluations of the responses.
	lookInterval = 200 * time.Millisecond
	// span is the time over which responses are counted before they are evaluated. A span is
	// extended, up to maxSpan, until it has minResponses. It is a second long, because quotas
	// apply to seconds.
	span         = time.Second
	minResponses = 60
	maxSpan      = 5 * span
	// minPerLook is the minimum number of responses since the last evaluation.
	minPerLook = 5
	// idleIntervals is the number of intervals between two requests, at the current rate,
	// after which no response means that no request was sent. Without it, the span would
	// restart with every response at less than one request per second, and the rate would
	// never rise.
	idleIntervals = 4
	// cutFactor times the rate served is the rate after throttling.
	cutFactor = 0.95
	// minCut is the minimum factor of one reduction. If a service serves nothing, the rate
	// still falls to less than 1/50 in a second.
	minCut = 0.45
	// maxBaseline is the maximum share of throttled responses that can count as throttling
	// that does not depend on the rate. recheckAfter is the time after which this is tested
	// again.
	maxBaseline  = 0.5
	recheckAfter = time.Minute
	// ignoredThrottling is the share of throttled responses that is ignored. baselineDecay is the
	// part of a baseline that is removed after each span with less throttling.
	ignoredThrottling = 0.001
	baselineDecay     = 0.05
	// floorShare is the minimum rate as a share of the given rate. The minimum is never above
	// maxFloor requests per second, because the given rate can be far above the quota.
	floorShare = 0.01
	maxFloor   = 10.0
	// climbFactor is the coefficient of the curve on which the rate returns:
	// knee * (1 + climbFactor * (t-K)^3), with t in seconds since the cut. The knee is the rate
	// before the cut. After a cut of 5% the rate is back after K = 4 s and stays near the knee
	// for two or three seconds. Above the knee the coefficient is leaveFactor. When the rate
	// exceeds the knee by the share past, 5 s after the return, it doubles every second, because
	// the quota must have been raised.
	climbFactor = 0.0008
	leaveFactor = 2 * climbFactor
	past        = 0.2
	// A limiter without a given rate removes its limit when the limit exceeds the rate that is
	// used by unlimitFactor.
	unlimitFactor = 4
)

// Response classifies the response to a request by what it shows about the quota of the service.
type Response int

// The responses.
const (
	// NoInformation: the request was not sent, or failed for a reason that does not depend on
	// the rate.
	NoInformation Response = iota
	// Served: the request used a part of the quota. It may have failed for another reason.
	Served
	// Throttled: the service asks for fewer requests.
	Throttled
	// Unanswered: there was no response, or none that shows anything.
	Unanswered
)

// Limiter limits all requests of one kind, including retries, to a rate. In no second does it
// allow more requests than the given rate. Below the given rate it searches for the rate that the
// service delivers. Its methods can be called concurrently.
//
// The limiter follows the rate that the service serves, not the rate that it sends. Above an
// unknown quota a service still serves the quota. The limiter therefore goes a little below the
// rate served, returns to it on a cubic curve, stays there for a while and then probes more.
// Throttling that does not become rarer at a lower rate is the baseline: the rate is restored,
// and only throttling above the baseline counts. If more than half of the requests are
// throttled, the limiter slows down in any case.
type Limiter struct {
	bucket *tokenBucket

	mu          sync.Mutex
	givenRate   float64 // requests per second of all runs together
	runs        int     // the number of runs that divide the given rate
	share       float64 // the share of this run; math.Inf(1): no rate is given
	currentRate float64 // requests per second in force

	respondedAt time.Time // the last response
	throttledAt time.Time // the last throttled response
	refusals    int64     // throttled responses so far

	seen   recent
	tickAt time.Time
	tick   responses // since tickAt
	// from is the start of the responses in span. After a cut it is in the future, until the
	// service no longer counts the time before the cut.
	from time.Time
	span responses
	// baselineThrottle is the share of throttled responses that does not depend on the rate.
	// It was found at foundAt.
	baselineThrottle float64
	foundAt          time.Time
	// probe is the cut whose effect is being measured, or nil.
	probe *probe
	// From low, the rate at cutAt, the rate climbs towards knee and beyond.
	low, knee float64
	cutAt     time.Time
}

// responses counts the responses of a service.
type responses struct{ all, throttled float64 }

func (r *responses) count(throttled bool) {
	r.all++
	if throttled {
		r.throttled++
	}
}

func (r responses) setShare() float64 { return r.throttled / max(1, r.all) }

// exceeds reports whether more responses were throttled than a baseline explains, by three
// standard deviations.
func (r responses) exceeds(baseline float64) bool {
	expected := r.all * max(baseline, ignoredThrottling)
	return r.throttled > expected+3*math.Sqrt(expected)
}

// probe is a cut whose effect is not known yet. The rate served just before a cut shows little
// if the service still served from a burst. Therefore the span after the first cut only
// measures. If it has throttling too, a second cut goes below the rate served in this span. The
// span after that decides: it is below every quota, so the remaining throttling is the
// baseline.
type probe struct {
	rate float64 // before the first cut
	// The share throttled and the rate served in the span before the last cut; zero before
	// there is one.
	share, delivered float64
}

// NewLimiter returns a Limiter of perSecond requests. With math.Inf(1) there is no limit until
// the service throttles.
func NewLimiter(perSecond float64) *Limiter {
	return &Limiter{
		bucket:      newTokenBucket(perSecond),
		givenRate:   perSecond,
		runs:        1,
		share:       perSecond,
		currentRate: perSecond,
	}
}

// Divide sets the number of runs that divide the given rate, including this run, until the
// given time; the zero time means no end. With 0 runs, this run has no share and its requests
// wait. After Divide has returned, no request is sent that the new share does not allow.
func (l *Limiter) Divide(runs int, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case math.IsInf(l.givenRate, 1):
		return
	case runs < 1:
		l.bucket.close()
		return
	}
	l.setShare(runs)
	l.bucket.open(until, min(1, max(1, l.givenRate*burstShare)/float64(runs)))
}

// setShare sets the number of runs that divide the given rate. It must be called with mu held.
func (l *Limiter) setShare(runs int) {
	if runs == l.runs {
		return
	}
	change := float64(l.runs) / float64(runs)
	l.runs, l.share = runs, l.givenRate/float64(runs)
	l.low, l.knee, l.probe = l.low*change, l.knee*change, nil
	l.set(l.currentRate * change)
}

// Wait blocks until one request can be sent, or ctx ends.
func (l *Limiter) Wait(ctx context.Context) error { return l.bucket.wait(ctx, 1) }

// WaitN is like Wait, for a request that counts n times.
func (l *Limiter) WaitN(ctx context.Context, n int) error { return l.bucket.wait(ctx, n) }

// Try reports whether a request that counts n times can be sent at once. If so, it is counted.
func (l *Limiter) Try(n int) bool { return l.bucket.try(n) }

// Free reports whether requests do not have to wait.
func (l *Limiter) Free() bool {
	l.bucket.mu.Lock()
	defer l.bucket.mu.Unlock()
	return l.bucket.free()
}

// Waited returns the total time that requests have waited so far.
func (l *Limiter) Waited() time.Duration { return l.bucket.waited() }

// Observe adapts the rate to a response. retryAfter is the time that the service requests
// before the next request, or 0.
func (l *Limiter) Observe(response Response, retryAfter time.Duration) {
	now := time.Now()
	switch response {
	case Throttled:
		l.count(now, true)
		l.pause(now, retryAfter)
	case Unanswered:
		l.pause(now, retryAfter)
	case Served:
		l.count(now, false)
	}
}

// pause blocks all requests for the time that the service requests. If most requests of the
// last second succeeded, only the failed request waits.
func (l *Limiter) pause(now time.Time, retryAfter time.Duration) {
	if retryAfter == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.seen.mostServed(now) {
		l.bucket.pauseUntil(now.Add(retryAfter))
	}
}

// Rate returns the requests per second in force now.
func (l *Limiter) Rate() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.currentRate
}

// pressure returns the current rate, the given rate, the time of the last throttled response,
// and the number of throttled responses.
func (l *Limiter) pressure() (current, given float64, at time.Time, refusals int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.currentRate, l.share, l.throttledAt, l.refusals
}

// count counts a response and evaluates the responses so far.
func (l *Limiter) count(now time.Time, throttled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen.add(now, throttled) && l.idle(now) {
		l.tickAt, l.tick = now, responses{}
		if l.from.Before(now) {
			l.from, l.span = now, responses{}
		}
	}
	l.respondedAt = now
	if throttled {
		l.throttledAt = now
		l.refusals++
	}
	l.tick.count(throttled)
	if !now.Before(l.from) {
		l.span.count(throttled)
	}
	if now.Sub(l.tickAt) < lookInterval {
		return
	}
	l.look(now)
	l.tickAt, l.tick = now, responses{}
	l.grow(now)
}

// idle reports whether no request was sent for longer than the rate explains.
func (l *Limiter) idle(now time.Time) bool {
	return now.Sub(l.respondedAt).Seconds() > max(span.Seconds(), idleIntervals/l.currentRate)
}

// look evaluates the responses since its last call, and all responses of a span when the span
// ends.
func (l *Limiter) look(now time.Time) {
	plain := l.probe == nil && l.baselineThrottle == 0 && l.tick.all >= minPerLook &&
		l.tick.exceeds(0)
	flooded := l.tick.all >= minPerLook && l.tick.exceeds(l.baselineThrottle) &&
		l.tick.setShare() > maxBaseline
	switch {
	case plain, flooded && (l.probe == nil || now.Before(l.from)):
		served, sent := l.seen.perSecond(now)
		l.cut(now, served, sent)
	case now.Sub(l.from) < span, l.span.all < minResponses && now.Sub(l.from) < maxSpan:
	default:
		l.evaluate(now)
	}
}

// evaluate evaluates a whole span.
func (l *Limiter) evaluate(now time.Time) {
	share := l.span.setShare()
	seconds := now.Sub(l.from).Seconds()
	served, sent := (l.span.all-l.span.throttled)/seconds, l.span.all/seconds
	if l.baselineThrottle < ignoredThrottling || now.Sub(l.foundAt) > recheckAfter {
		l.baselineThrottle = 0
	}
	switch p := l.probe; {
	case p != nil && l.currentRate <= p.delivered && share > ignoredThrottling &&
		share <= maxBaseline &&
		share >= (l.baselineThrottle+p.share)/2:
		l.baselineThrottle, l.foundAt = min((share+p.share)/2, maxBaseline), now
		l.low, l.knee, l.cutAt = p.rate, p.rate, now
		l.set(p.rate)
		l.probe = nil
	case !l.span.exceeds(l.baselineThrottle):
		// The baseline only falls here. If it could rise, throttling by a quota would become part
		// of it.
		l.baselineThrottle -= baselineDecay * max(0, l.baselineThrottle-share)
		l.probe = nil
	default:
		l.cut(now, served, sent)
		l.probe.share, l.probe.delivered = share, served
		l.from = now.Add(span)
	}
	if l.from.Before(now) {
		l.from = now
	}
	l.span = responses{}
}

// cut sets a rate below the rate served. served and sent are requests per second.
func (l *Limiter) cut(now time.Time, served, sent float64) {
	base := min(l.currentRate, sent)
	delivered := served / (1 - l.baselineThrottle) // the rate to send that the quota allows
	if l.probe == nil {
		l.probe = &probe{rate: l.currentRate}
		l.from, l.span = now.Add(span), responses{}
		l.knee = base
	}
	next := max(min(max(cutFactor*delivered, minCut*base), cutFactor*base), l.floor())
	// Without this, no requests were sent, or the service is down. Neither shows a quota.
	if l.tick.throttled > 0 && l.tick.throttled < l.tick.all {
		l.knee = max(delivered, next)
	}
	l.low, l.cutAt = next, now
	l.set(next)
}

func (l *Limiter) floor() float64 {
	if math.IsInf(l.share, 1) {
		return 1
	}
	return min(l.share*floorShare, maxFloor)
}

// grow moves the rate along its curve.
func (l *Limiter) grow(now time.Time) {
	if l.currentRate >= l.share || l.probe != nil {
		return
	}
	next := max(l.currentRate, l.curve(now.Sub(l.cutAt).Seconds()))
	_, sent := l.seen.perSecond(now)
	if math.IsInf(l.share, 1) && next > l.knee && next > unlimitFactor*max(sent, 1) {
		next = l.share
	}
	l.set(min(next, l.share))
}

// curve returns the rate at a number of seconds after a cut.
func (l *Limiter) curve(seconds float64) float64 {
	knee := max(l.knee, l.floor())
	t := seconds - math.Cbrt(max(0, 1-l.low/knee)/climbFactor)
	switch beyond := leaveFactor * t * t * t; {
	case t < 0:
		return knee * (1 + climbFactor*t*t*t)
	case beyond < past:
		return knee * (1 + beyond)
	}
	return knee * (1 + past) * math.Exp2(t-math.Cbrt(past/leaveFactor))
}

func (l *Limiter) set(perSecond float64) {
	l.currentRate = perSecond
	l.bucket.set(perSecond)
}

// recent counts the responses of the last second in cells of 50 ms.
type recent struct {
	cells [cellsKept]responses
	last  int64     // the number of the newest cell
	since time.Time // of the first response, or the first after a pause of a second
}

const (
	cell      = 50 * time.Millisecond
	cellsKept = int(span/cell) + 1
)

// add counts a response. It reports whether there was none in the second before.
func (r *recent) add(now time.Time, throttled bool) (first bool) {
	number := now.UnixNano() / int64(cell)
	if number-r.last >= int64(cellsKept) {
		r.since, first = now, true
		r.cells = [cellsKept]responses{}
		r.last = number
	}
	for r.last < number {
		r.last++
		r.cells[r.last%int64(cellsKept)] = responses{}
	}
	r.cells[r.last%int64(cellsKept)].count(throttled)
	return first
}

// perSecond returns the requests per second that were served, and that had any response.
func (r *recent) perSecond(now time.Time) (served, sent float64) {
	var sum responses
	for _, a := range r.cells {
		sum.all += a.all
		sum.throttled += a.throttled
	}
	covered := span + time.Duration(now.UnixNano()%int64(cell))
	seconds := max(lookInterval, min(covered, now.Sub(r.since))).Seconds()
	return (sum.all - sum.throttled) / seconds, sum.all / seconds
}

// mostServed reports whether more than half of the responses of the last second were not
// throttled.
func (r *recent) mostServed(now time.Time) bool {
	if now.UnixNano()/int64(cell)-r.last >= int64(cellsKept) {
		return false // no responses
	}
	served, sent := r.perSecond(now)
	return served > sent/2
}
