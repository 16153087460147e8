package rotate

import (
	"context"
	"sync"
	"time"
)

// pool runs so many jobs at the same time as it has places. A job that rests
// gives its place to another.
type pool struct {
	places chan struct{}
	jobs   sync.WaitGroup
}

func newPool(places int) *pool { return &pool{places: make(chan struct{}, places)} }

// run starts a job as soon as there is a place.
func (p *pool) run(job func()) {
	p.places <- struct{}{}
	p.jobs.Go(func() {
		defer func() { <-p.places }()
		job()
	})
}

// rest waits for d, or until ctx ends, and for a place. Only a job may call it.
func (p *pool) rest(ctx context.Context, d time.Duration) error {
	<-p.places
	err := sleep(ctx, d)
	p.places <- struct{}{}
	return err
}

// wait returns when all jobs have ended.
func (p *pool) wait() { p.jobs.Wait() }
