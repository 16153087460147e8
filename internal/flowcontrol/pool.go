package flowcontrol

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Job is the work of one worker. It holds a permit while it runs. Its error ends the group of
// its pool.
type Job func(Permit) error

// Pool runs at most size jobs concurrently. A free permit goes to the waiting target with the
// fewest running jobs, so a slow target does not delay the others; ties are FIFO. A job that
// waits for its whole target gives up its permit until it can proceed.
//
// Jobs run on long-lived workers, each of which is one goroutine of the group. A worker is
// started when a job has a permit and no worker is idle.
type Pool struct {
	group   *errgroup.Group
	workers sync.WaitGroup

	mu       sync.Mutex
	size     int
	busy     busyTime // permits in use
	queues   map[string]*targetQueue
	idle     []chan task // the inboxes of idle workers
	closed   bool        // no job is submitted any more
	sequence int         // the number of waiters so far
	starved  bool        // a job had to wait for a permit since the last call of Stats
}

// targetQueue holds the jobs of one target.
type targetQueue struct {
	busy int // jobs with a permit
	// open counts the jobs that were started and have not ended, without those that back off.
	// It is at most the size of the pool, also while jobs have released their permits, because
	// open jobs must be repeated after a crash.
	open int
	// returning jobs had a permit before; fresh jobs have not started.
	returning, fresh []waiter
}

// waiter waits for a permit.
type waiter struct {
	number  int
	granted chan struct{}   // closed when the waiter has a permit
	urgent  <-chan struct{} // once it is closed, the waiter gets a permit at once
	task    task            // of a fresh job
}

// task is a job and its first permit.
type task struct {
	job    Job
	permit Permit
}

func (w waiter) isUrgent() bool { return isClosed(w.urgent) }

// NewPool returns a Pool that starts its workers in group. The first error of a job is the
// error of the group.
func NewPool(group *errgroup.Group, size int) *Pool {
	return &Pool{group: group, size: size, queues: map[string]*targetQueue{}}
}

// Submit waits until there is a permit for a job of a target, and hands the job to a worker.
// Once urgent is closed, the job does not wait for a permit. If withdraw is set, it is then
// dropped, and Submit returns false.
func (p *Pool) Submit(target string, urgent <-chan struct{}, withdraw bool, job Job) bool {
	w := waiter{urgent: urgent, task: task{job, Permit{p, target}}}
	granted := p.enter(target, w)
	select {
	case <-granted:
	case <-urgent:
		if withdraw && p.cancel(target, granted) {
			return false
		}
		p.grantUrgent()
		<-granted
	}
	return true
}

// Close waits until all jobs have ended, and stops the workers. Submit must not be called
// during Close or after it.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	for _, inbox := range p.idle {
		close(inbox)
	}
	p.idle = nil
	p.mu.Unlock()
	p.workers.Wait()
}

// Resize changes the number of permits. Running jobs keep their permits.
func (p *Pool) Resize(size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size = size
	p.grant()
}

// Stats returns the total time for which permits were in use, the size of the pool, and whether
// a job had to wait for a permit since the last call.
func (p *Pool) Stats() (worked time.Duration, size int, starved bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	starved, p.starved = p.starved, false
	return p.busy.change(0), p.size, starved
}

// start hands a job that has a permit to a worker. It must be called with mu held.
func (p *Pool) start(t task) {
	if last := len(p.idle) - 1; last >= 0 {
		p.idle[last] <- t // never blocks: the inbox of an idle worker is empty
		p.idle = p.idle[:last]
		return
	}
	p.workers.Add(1)
	p.group.Go(func() error { return p.work(t) })
}

// work is a worker: it runs jobs until the pool is closed or a job returns an error.
func (p *Pool) work(t task) error {
	defer p.workers.Done()
	inbox := make(chan task, 1)
	for more := true; more; t, more = <-inbox {
		err := t.job(t.permit)
		if !p.finish(t.permit, inbox, err == nil) || err != nil {
			return err
		}
	}
	return nil
}

// finish returns the permit of a job that has ended. It reports whether the worker waits for
// another job.
func (p *Pool) finish(permit Permit, inbox chan task, proceed bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	proceed = proceed && !p.closed && len(p.idle) < p.size
	if proceed {
		p.idle = append(p.idle, inbox)
	}
	permit.release(1)
	return proceed
}

// grantUrgent gives permits to urgent jobs.
func (p *Pool) grantUrgent() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.grant()
}

// cancel removes a job that has not started from its queue. It returns false if the job already
// has a permit.
func (p *Pool) cancel(target string, granted chan struct{}) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := &p.queues[target].fresh
	i := slices.IndexFunc(*fresh, func(w waiter) bool { return w.granted == granted })
	if i < 0 {
		return false
	}
	*fresh = slices.Delete(*fresh, i, i+1)
	return true
}

// enter adds a waiter to the queue of its target. The channel is closed when the waiter gets a
// permit.
func (p *Pool) enter(target string, w waiter) (granted chan struct{}) {
	w.granted = make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queues[target]
	if q == nil {
		q = &targetQueue{}
		p.queues[target] = q
	}
	w.number = p.sequence
	p.sequence++
	list := &q.fresh
	if w.task.job == nil {
		list = &q.returning
		q.open++
	}
	*list = append(*list, w)
	p.grant()
	p.starved = p.starved || p.busy.now >= p.size && len(*list) > 0
	return w.granted
}

// grant gives the free permits to waiters, and additional permits to urgent jobs. It must be
// called with mu held.
func (p *Pool) grant() {
	for {
		next, list := p.next()
		if next == nil {
			return
		}
		w := (*list)[0]
		*list = (*list)[1:]
		next.busy++
		p.busy.change(1)
		close(w.granted)
		if w.task.job != nil {
			next.open++
			p.start(w.task)
		}
	}
}

// next returns the queue whose first waiter gets the next permit, or nil if no waiter can have
// one. It must be called with mu held.
func (p *Pool) next() (next *targetQueue, list *[]waiter) {
	free := p.busy.now < p.size
	for _, q := range p.queues {
		l := q.first(p.size, free)
		if l == nil {
			continue
		}
		if next == nil || q.busy < next.busy ||
			q.busy == next.busy && (*l)[0].number < (*list)[0].number {
			next, list = q, l
		}
	}
	return next, list
}

// first returns the list of a queue whose first waiter is next, or nil. free states whether
// there is a permit for a job that is not urgent.
func (q *targetQueue) first(size int, free bool) *[]waiter {
	if i := slices.IndexFunc(q.fresh, waiter.isUrgent); i >= 0 {
		urgent := q.fresh[i]
		copy(q.fresh[1:i+1], q.fresh[:i])
		q.fresh[0] = urgent
		return &q.fresh
	}
	switch {
	case free && len(q.returning) > 0:
		return &q.returning
	case free && len(q.fresh) > 0 && q.open < size:
		return &q.fresh
	}
	return nil
}

// Permit is the permission of a job to run. The zero Permit is for jobs that run without a pool:
// its methods only wait. A permit must be used by one goroutine at a time.
type Permit struct {
	pool   *Pool
	target string
}

// BackOff waits for d, or until ctx ends, because of one item, and then for a permit. Other
// jobs, also of the same target, can have the permit meanwhile. A job that holds memory budget
// must not call BackOff: jobs with a permit may be waiting for memory.
func (permit Permit) BackOff(ctx context.Context, d time.Duration) error {
	if permit.pool == nil {
		return Sleep(ctx, d)
	}
	permit.giveUp(1)
	err := Sleep(ctx, d)
	<-permit.pool.enter(permit.target, waiter{})
	return err
}

// ReleaseWhile runs wait, which waits for the whole target. Other targets can have the permit
// meanwhile. Afterwards the job gets a permit at once, even if this is one too many: it may
// hold something, such as memory budget, for which the jobs with permits wait.
func (permit Permit) ReleaseWhile(wait func() error) error {
	if permit.pool == nil {
		return wait()
	}
	permit.giveUp(0)
	err := wait()
	permit.pool.mu.Lock()
	defer permit.pool.mu.Unlock()
	permit.pool.queues[permit.target].busy++
	permit.pool.busy.change(1)
	return err
}

// WaitN waits until a limiter lets a request pass that counts n times. It gives up the permit
// if it has to wait.
func (permit Permit) WaitN(ctx context.Context, limiter *Limiter, n int) error {
	if limiter.Free() || limiter.Try(n) {
		return ctx.Err()
	}
	return permit.ReleaseWhile(func() error { return limiter.WaitN(ctx, n) })
}

// giveUp returns the permit to the pool. open is the number of open jobs that the target loses.
func (permit Permit) giveUp(open int) {
	permit.pool.mu.Lock()
	defer permit.pool.mu.Unlock()
	permit.release(open)
}

// release is giveUp for callers that hold mu.
func (permit Permit) release(open int) {
	p := permit.pool
	q := p.queues[permit.target]
	q.busy--
	q.open -= open
	p.busy.change(-1)
	p.grant()
}

// busyTime counts the jobs that are busy now, and their total busy time. The zero value is ready
// for use.
type busyTime struct {
	now int
	at  time.Time
	sum time.Duration // the busy time up to at
}

// change adds n, and returns the total time so far.
func (b *busyTime) change(n int) time.Duration {
	permit := time.Now()
	if b.now > 0 {
		b.sum += time.Duration(b.now) * permit.Sub(b.at)
	}
	b.now, b.at = b.now+n, permit
	return b.sum
}
