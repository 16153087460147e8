package rotate

import (
	"context"
	"sync"
	"time"
)

// pool runs so many jobs at the same time as it has places, which are given in the order
// in which they are asked for. A job that rests gives its place to another.
type pool struct {
	mu     sync.Mutex
	places int
	busy   presence
	queue  []chan struct{} // who waits for a place; closed for the one who gets it
	short  bool            // a job had to wait for a place since the last look
	jobs   sync.WaitGroup
}

func newPool(places int) *pool { return &pool{places: places} }

// run starts a job as soon as there is a place.
func (p *pool) run(job func()) {
	p.take()
	p.jobs.Go(func() {
		defer p.give()
		job()
	})
}

// rest waits for d, or until ctx ends, and for a place. Only a job may call it.
func (p *pool) rest(ctx context.Context, d time.Duration) error {
	p.give()
	err := sleep(ctx, d)
	p.take()
	return err
}

// wait returns when all jobs have ended.
func (p *pool) wait() { p.jobs.Wait() }

func (p *pool) take() {
	turn := make(chan struct{})
	p.mu.Lock()
	p.queue = append(p.queue, turn)
	p.admit()
	p.short = p.short || len(p.queue) > 0
	p.mu.Unlock()
	<-turn
}

// admit gives the places that are free. It wants mu.
func (p *pool) admit() {
	for len(p.queue) > 0 && p.busy.now < p.places {
		p.busy.change(1)
		close(p.queue[0])
		p.queue = p.queue[1:]
	}
}

func (p *pool) give() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy.change(-1)
	p.admit()
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
