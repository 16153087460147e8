package rotate

import (
	"context"
	"slices"
	"sync"
	"time"
)

// pool runs so many jobs at the same time as it has places. Where jobs of several targets
// wait, a place goes to the target that has the fewest, so that none is held up by
// another that is slow; among equals, and within a target, it goes to who asked first.
type pool struct {
	mu     sync.Mutex
	places int
	busy   presence
	lanes  map[string]*lane // by target
	asked  int              // how often a place was asked for
	short  bool             // a job had to wait for a place since the last look
	jobs   sync.WaitGroup
}

// lane is what a pool knows of one target.
type lane struct {
	busy int // jobs that have a place
	// open are the jobs that were begun and have not ended, but for those that rest. No
	// more of them are begun than there are places, whoever steps aside: what is under
	// way is what a crash makes to be asked again.
	open        int
	back, fresh []turn // who waits: jobs that had a place before, and jobs to begin
}

// turn is somebody's who waits for a place.
type turn struct {
	number int
	given  chan struct{}   // closed when the waiter gets a place
	hurry  <-chan struct{} // once it is closed, the waiter gets a place at once
}

func (t turn) hurried() bool { return isClosed(t.hurry) }

func newPool(places int) *pool { return &pool{places: places, lanes: map[string]*lane{}} }

// run starts a job of a target as soon as there is a place. Once hurry is closed, the job
// does not wait for a place. If the job may be withdrawn, it is then not started at all, and
// run returns false.
func (p *pool) run(target string, hurry <-chan struct{}, withdraw bool, job func(place)) bool {
	at := place{p, target}
	given := at.enter(func(l *lane) *[]turn { return &l.fresh }, hurry)
	select {
	case <-given:
	case <-hurry:
		if withdraw && p.cancel(target, given) {
			return false
		}
		p.hasten()
		<-given
	}
	p.jobs.Go(func() {
		defer at.leave(1)
		job(at)
	})
	return true
}

// hasten gives places to urgent jobs.
func (p *pool) hasten() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.admit()
}

// cancel removes a job that has not begun from its queue. It returns false if the job already
// has a place.
func (p *pool) cancel(target string, given chan struct{}) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := &p.lanes[target].fresh
	i := slices.IndexFunc(*fresh, func(t turn) bool { return t.given == given })
	if i < 0 {
		return false
	}
	*fresh = slices.Delete(*fresh, i, i+1)
	return true
}

// wait returns when all jobs have ended.
func (p *pool) wait() { p.jobs.Wait() }

// admit gives the free places to waiters, and additional places to urgent jobs. It must be
// called with mu held.
func (p *pool) admit() {
	for {
		next, queue := p.next()
		if next == nil {
			return
		}
		if queue == &next.fresh {
			next.open++
		}
		next.busy++
		p.busy.change(1)
		close((*queue)[0].given)
		*queue = (*queue)[1:]
	}
}

// next is whose turn it is, nil when nobody waits who may have a place. It wants mu.
func (p *pool) next() (next *lane, queue *[]turn) {
	free := p.busy.now < p.places
	for _, l := range p.lanes {
		q := l.first(p.places, free)
		if q == nil {
			continue
		}
		if next == nil || l.busy < next.busy || l.busy == next.busy && (*q)[0].number < (*queue)[0].number {
			next, queue = l, q
		}
	}
	return next, queue
}

// first returns the queue of a lane whose waiter is next, or nil. free states whether there is
// a place for a job that is not urgent.
func (l *lane) first(places int, free bool) *[]turn {
	if i := slices.IndexFunc(l.fresh, turn.hurried); i >= 0 {
		hurried := l.fresh[i]
		copy(l.fresh[1:i+1], l.fresh[:i])
		l.fresh[0] = hurried
		return &l.fresh
	}
	switch {
	case free && len(l.back) > 0:
		return &l.back
	case free && len(l.fresh) > 0 && l.open < places:
		return &l.fresh
	}
	return nil
}

// resize changes the number of places from now on. Jobs that have one keep it.
func (p *pool) resize(places int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.places = places
	p.admit()
}

// look returns for how long all places together were busy so far, how many there are,
// and whether a job had to wait for one since the last look.
func (p *pool) look() (worked time.Duration, places int, short bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	short, p.short = p.short, false
	return p.busy.change(0), p.places, short
}

// place is that of a job in a pool. The zero value is that of a job without a pool, which
// has nobody to give it to.
type place struct {
	pool   *pool
	target string
}

// rest waits for d, or until ctx ends, for the sake of one item, and then for a place.
// Others have the place meanwhile, also of the same target.
func (at place) rest(ctx context.Context, d time.Duration) error {
	if at.pool == nil {
		return sleep(ctx, d)
	}
	at.leave(1)
	err := sleep(ctx, d)
	at.wait(func(l *lane) *[]turn { l.open++; return &l.back })
	return err
}

// aside runs wait, which waits for the whole target. Other targets have the place
// meanwhile. In the end it is had back at once, even if that makes one too many: who
// comes back may hold what those wait for who have the places, such as room for bodies.
func (at place) aside(wait func() error) error {
	if at.pool == nil {
		return wait()
	}
	at.leave(0)
	err := wait()
	at.pool.mu.Lock()
	defer at.pool.mu.Unlock()
	at.pool.lanes[at.target].busy++
	at.pool.busy.change(1)
	return err
}

// pass waits until n requests to the target may go out, aside if not at once.
func (at place) pass(ctx context.Context, limiter *Limiter, n int) error {
	if limiter.Free() || limiter.Try(n) {
		return ctx.Err()
	}
	return at.aside(func() error { return limiter.WaitN(ctx, n) })
}

// wait waits for a place in the queue that choose returns.
func (at place) wait(choose func(*lane) *[]turn) { <-at.enter(choose, nil) }

// enter adds a waiter to the queue that choose returns. The channel is closed when it gets a
// place.
func (at place) enter(choose func(*lane) *[]turn, hurry <-chan struct{}) (given chan struct{}) {
	p := at.pool
	given = make(chan struct{})
	p.mu.Lock()
	l, ok := p.lanes[at.target]
	if !ok {
		l = &lane{}
		p.lanes[at.target] = l
	}
	queue := choose(l)
	*queue = append(*queue, turn{p.asked, given, hurry})
	p.asked++
	p.admit()
	p.short = p.short || p.busy.now >= p.places && len(*queue) > 0
	p.mu.Unlock()
	return given
}

// leave gives the place back; open is how many jobs fewer the target has under way.
func (at place) leave(open int) {
	p := at.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lanes[at.target]
	l.busy--
	l.open -= open
	p.busy.change(-1)
	p.admit()
}

// presence is how many there are, and for how long all together have been. The zero
// value is nobody.
type presence struct {
	now int
	at  time.Time
	sum time.Duration // up to at
}

// change adds n of them, and returns the sum up to now.
func (p *presence) change(n int) time.Duration {
	at := time.Now()
	if p.now > 0 {
		p.sum += time.Duration(p.now) * at.Sub(p.at)
	}
	p.now, p.at = p.now+n, at
	return p.sum
}
