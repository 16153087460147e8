package rotate

import (
	"context"
	"math"
	"sync"
	"time"
)

// How the limiter answers throttling.
const (
	// lookEvery is how often it looks at the answers.
	lookEvery = 200 * time.Millisecond
	// span is how long answers are gathered before a conclusion is drawn from
	// them, and enough how many there should be, for patience at most. Quotas count
	// by the second, and remember the second before.
	span     = time.Second
	enough   = 60
	patience = 5 * span
	// few answers say nothing within one look.
	few = 5
	// fewIntervals is the number of intervals between two requests, at the rate in force,
	// after which no answer means that no request was sent. At less than one request per
	// second every answer would otherwise begin anew, and the rate would never rise.
	fewIntervals = 4
	// below is what is taken, after throttling, of the rate that was delivered.
	below = 0.95
	// mostCut bounds one step down: to less than 1/50 in a second, when nothing is
	// delivered.
	mostCut = 0.45
	// mostBackground is the largest share of throttled answers that may be taken
	// for a thing that no lower rate would change; doubtAfter is when that is put
	// to the test again.
	mostBackground = 0.5
	doubtAfter     = time.Minute
	// stray is the share that is background in any case, and forgetting how much of
	// a background that is no longer seen goes with every span.
	stray      = 0.001
	forgetting = 0.05
	// floorShare of the rate given, or floorMost if that is less, is the least that is
	// tried, in requests per second: a rate may be given that no quota comes near to.
	floorShare = 0.01
	floorMost  = 10.0
	// climb is how the rate comes back: knee * (1 + climb * (t-K)^3), t in seconds
	// since the cut. From a cut of 5% it is back after K = 4 s, and stays near for
	// two or three. Then it leaves, by leave in place of climb, and once it is past
	// the knee by a fifth, which is 5 s after it was back, it doubles every second:
	// no quota is there any more.
	climb = 0.0008
	leave = 2 * climb
	past  = 0.2
	// slack: a limiter that was given no rate lifts its limit once so many times
	// what is asked for would fit under it.
	slack = 4
)

// Limiter is the one gate that the requests of one kind pass, retries included.
// It never lets more than the rate given through in any second. Below that it
// looks for what the service delivers.
//
// It steers by the delivered rate, not by the rate sent. Above a quota nobody
// knows, the service goes on delivering the quota: so the limiter goes a little
// below what was delivered, comes back to it along a cubic, waits there, and
// tries more. Throttling that a lower rate does not make rarer is none of our
// doing: it is taken for a background, the rate is put back, and only what
// exceeds the background counts from then on. When more than half of all is
// throttled, the service is left in peace whatever the reason.
type Limiter struct {
	gate *gate

	mu      sync.Mutex
	given   float64 // requests per second of all workers together
	workers int
	full    float64 // this worker's share; math.Inf(1): no rate is given
	now     float64 // in force

	answeredAt  time.Time // the last answer
	throttledAt time.Time // the last throttled answer
	refusals    int64     // throttled answers so far

	seen   recent
	tickAt time.Time
	tick   answers // since tickAt
	// from is when the answers in span begin; it lies ahead after a cut, until what
	// the service remembers of the time before is gone.
	from time.Time
	span answers
	// background is the share of throttled answers that is no reason to slow down,
	// since foundAt.
	background float64
	foundAt    time.Time
	// trial is the cut that has to prove itself; nil when none is.
	trial *trial
	// From low, the rate at cutAt, it climbs towards knee and beyond.
	low, knee float64
	cutAt     time.Time
}

// answers counts what the service said.
type answers struct{ all, throttled float64 }

func (a *answers) count(throttled bool) {
	a.all++
	if throttled {
		a.throttled++
	}
}

func (a answers) share() float64 { return a.throttled / max(1, a.all) }

// exceeds says whether more was throttled than a background explains, by three
// standard deviations.
func (a answers) exceeds(background float64) bool {
	expected := a.all * max(background, stray)
	return a.throttled > expected+3*math.Sqrt(expected)
}

// trial is a cut whose effect is not known yet. What was delivered just before a
// cut says little when a service was still giving away what it had saved up. So
// the first cut leads to a span whose figures can be relied on; if that has
// throttling too, a second cut goes below what was delivered in it, and its span
// decides: no quota is met there, so what is still throttled is the background.
type trial struct {
	rate float64 // before the first cut
	// What was throttled, and what served per second, in the span before the last
	// cut; zero before there is one.
	share, delivered float64
}

// NewLimiter makes a Limiter of perSecond requests. math.Inf(1) stands for no
// rate: then there is no limit until the service throttles.
func NewLimiter(perSecond float64) *Limiter {
	return &Limiter{gate: newGate(perSecond), given: perSecond, workers: 1, full: perSecond, now: perSecond}
}

// Divide sets the number of runs that divide the given rate, including this run, until the
// given time; the zero time means no end. With 0 runs, this run has no share and its requests
// wait. After Divide has returned, no request is sent that the new share does not allow.
func (l *Limiter) Divide(runs int, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case math.IsInf(l.given, 1):
		return
	case runs < 1:
		l.gate.close()
		return
	}
	l.share(runs)
	l.gate.open(until, min(1, max(1, l.given*burstShare)/float64(runs)))
}

// share must be called with l.mu held.
func (l *Limiter) share(workers int) {
	if workers == l.workers {
		return
	}
	change := float64(l.workers) / float64(workers)
	l.workers, l.full = workers, l.given/float64(workers)
	l.low, l.knee, l.trial = l.low*change, l.knee*change, nil
	l.set(l.now * change)
}

// Wait blocks until one request may go out, or ctx ends.
func (l *Limiter) Wait(ctx context.Context) error { return l.gate.pass(ctx, 1) }

// Try is WaitN where nothing has to be waited for, and false elsewhere.
func (l *Limiter) Try(n int) bool { return l.gate.try(n) }

// WaitN is Wait for a request that counts n times.
func (l *Limiter) WaitN(ctx context.Context, n int) error { return l.gate.pass(ctx, n) }

// Waited returns for how long requests have waited so far, all together.
func (l *Limiter) Waited() time.Duration { return l.gate.waited() }

// Throttled tells the limiter that the service throttled a request.
func (l *Limiter) Throttled() { l.answered(time.Now(), true) }

// Passed tells the limiter that the service served a request.
func (l *Limiter) Passed() { l.answered(time.Now(), false) }

// heed takes the answer to a request to heart. A refusal is an answer too: it had
// its share of the quota.
func (l *Limiter) heed(class Class, err error) {
	switch class {
	case ClassThrottled:
		l.Throttled()
		l.rest(err)
	case ClassTransient, ClassUnknown:
		l.rest(err)
	case ClassBusy, ClassStopped, ClassCredentials: // no information about the rate
	default:
		l.Passed()
	}
}

// Rate returns the requests per second in force now.
func (l *Limiter) Rate() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *Limiter) answered(now time.Time, throttled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen.add(now, throttled) && l.paused(now) {
		l.tickAt, l.tick = now, answers{}
		if l.from.Before(now) {
			l.from, l.span = now, answers{}
		}
	}
	l.answeredAt = now
	if throttled {
		l.throttledAt = now
		l.refusals++
	}
	l.tick.count(throttled)
	if !now.Before(l.from) {
		l.span.count(throttled)
	}
	if now.Sub(l.tickAt) < lookEvery {
		return
	}
	l.look(now)
	l.tickAt, l.tick = now, answers{}
	l.grow(now)
}

// paused reports whether no request was sent for longer than the rate explains.
func (l *Limiter) paused(now time.Time) bool {
	return now.Sub(l.answeredAt).Seconds() > max(span.Seconds(), fewIntervals/l.now)
}

// look draws conclusions from the answers since the last look, and from those of
// a whole span when it is over.
func (l *Limiter) look(now time.Time) {
	plain := l.trial == nil && l.background == 0 && l.tick.all >= few && l.tick.exceeds(0)
	flooded := l.tick.all >= few && l.tick.exceeds(l.background) && l.tick.share() > mostBackground
	switch {
	case plain, flooded && (l.trial == nil || now.Before(l.from)):
		served, sent := l.seen.perSecond(now)
		l.cut(now, served, sent)
	case now.Sub(l.from) < span, l.span.all < enough && now.Sub(l.from) < patience:
	default:
		l.conclude(now)
	}
}

// conclude draws the conclusion from a span.
func (l *Limiter) conclude(now time.Time) {
	share := l.span.share()
	seconds := now.Sub(l.from).Seconds()
	served, sent := (l.span.all-l.span.throttled)/seconds, l.span.all/seconds
	if l.background < stray || now.Sub(l.foundAt) > doubtAfter {
		l.background = 0
	}
	switch t := l.trial; {
	case t != nil && l.now <= t.delivered && share > stray && share <= mostBackground && share >= (l.background+t.share)/2:
		l.background, l.foundAt = min((share+t.share)/2, mostBackground), now
		l.low, l.knee, l.cutAt = t.rate, t.rate, now
		l.set(t.rate)
		l.trial = nil
	case !l.span.exceeds(l.background):
		// Downwards alone: upwards would make a quota a background by and by.
		l.background -= forgetting * max(0, l.background-share)
		l.trial = nil
	default:
		l.cut(now, served, sent)
		l.trial.share, l.trial.delivered = share, served
		l.from = now.Add(span)
	}
	if l.from.Before(now) {
		l.from = now
	}
	l.span = answers{}
}

// cut goes below the rate served per second, of all that was sent.
func (l *Limiter) cut(now time.Time, served, sent float64) {
	base := min(l.now, sent)
	delivered := served / (1 - l.background) // at this rate sent, a quota would be met
	if l.trial == nil {
		l.trial = &trial{rate: l.now}
		l.from, l.span = now.Add(span), answers{}
		l.knee = base
	}
	next := max(min(max(below*delivered, mostCut*base), below*base), l.floor())
	if l.tick.throttled > 0 && l.tick.throttled < l.tick.all { // else it was not being asked, or is down: nothing to learn
		l.knee = max(delivered, next)
	}
	l.low, l.cutAt = next, now
	l.set(next)
}

func (l *Limiter) floor() float64 {
	if math.IsInf(l.full, 1) {
		return 1
	}
	return min(l.full*floorShare, floorMost)
}

// grow moves the rate along its curve.
func (l *Limiter) grow(now time.Time) {
	if l.now >= l.full || l.trial != nil {
		return
	}
	next := max(l.now, l.curve(now.Sub(l.cutAt).Seconds()))
	if _, sent := l.seen.perSecond(now); math.IsInf(l.full, 1) && next > l.knee && next > slack*max(sent, 1) {
		next = l.full
	}
	l.set(min(next, l.full))
}

// curve is the rate so many seconds after a cut.
func (l *Limiter) curve(seconds float64) float64 {
	knee := max(l.knee, l.floor())
	t := seconds - math.Cbrt(max(0, 1-l.low/knee)/climb)
	switch beyond := leave * t * t * t; {
	case t < 0:
		return knee * (1 + climb*t*t*t)
	case beyond < past:
		return knee * (1 + beyond)
	}
	return knee * (1 + past) * math.Exp2(t-math.Cbrt(past/leave))
}

func (l *Limiter) set(perSecond float64) {
	l.now = perSecond
	l.gate.set(perSecond)
}

// recent counts the answers of the last second, in cells of it.
type recent struct {
	cells [cellsKept]answers
	last  int64     // number of the newest cell
	since time.Time // of the first answer, or the first after a pause of a second
}

const (
	cell      = 50 * time.Millisecond
	cellsKept = int(span/cell) + 1
)

// add counts an answer; true says that there was none in the second before.
func (r *recent) add(now time.Time, throttled bool) (first bool) {
	number := now.UnixNano() / int64(cell)
	if number-r.last >= int64(cellsKept) {
		r.since, first = now, true
		r.cells = [cellsKept]answers{}
		r.last = number
	}
	for r.last < number {
		r.last++
		r.cells[r.last%int64(cellsKept)] = answers{}
	}
	r.cells[r.last%int64(cellsKept)].count(throttled)
	return first
}

// perSecond returns how many requests were served per second, and how many were
// answered at all.
func (r *recent) perSecond(now time.Time) (served, sent float64) {
	var sum answers
	for _, a := range r.cells {
		sum.all += a.all
		sum.throttled += a.throttled
	}
	covered := span + time.Duration(now.UnixNano()%int64(cell))
	seconds := max(lookEvery, min(covered, now.Sub(r.since))).Seconds()
	return (sum.all - sum.throttled) / seconds, sum.all / seconds
}
