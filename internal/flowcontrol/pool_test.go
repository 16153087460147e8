package flowcontrol

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"
)

// newTestPool returns a pool whose workers are in their own group.
func newTestPool(size int) *Pool { return NewPool(&errgroup.Group{}, size) }

// crowd counts the jobs that have started and those that have a permit, by target.
type crowd struct {
	mu      sync.Mutex
	started map[string]int
	permits map[string]int
}

func (c *crowd) count(target string, started, permits int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started[target] += started
	c.permits[target] += permits
}

func (c *crowd) counts(target string) (started, permits int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.started[target], c.permits[target]
}

func newCrowd() *crowd { return &crowd{started: map[string]int{}, permits: map[string]int{}} }

// feed submits n jobs of a target, one after the other, as a scanner does.
func (c *crowd) feed(p *Pool, target string, n int, job func(Permit)) {
	for range n {
		p.Submit(target, nil, false, func(at Permit) error {
			c.count(target, 1, 1)
			defer c.count(target, 0, -1)
			job(at)
			return nil
		})
	}
}

// A target whose jobs never end has all permits while no other target waits. Then each free
// permit goes to the target with fewer, until both have the same number.
func TestPermitsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c, end := newTestPool(8), newCrowd(), make(chan struct{})
		var feeds sync.WaitGroup
		feeds.Go(func() { c.feed(p, "slow", 20, func(Permit) { <-end }) })
		synctest.Wait()
		if _, permits := c.counts("slow"); permits != 8 {
			t.Errorf("a target without competitors has %d of 8 permits", permits)
		}
		feeds.Go(func() { c.feed(p, "other", 20, func(Permit) { <-end }) })
		for range 4 {
			synctest.Wait()
			end <- struct{}{}
		}
		synctest.Wait()
		_, slow := c.counts("slow")
		if _, other := c.counts("other"); slow != 4 || other != 4 {
			t.Errorf("the slow target has %d permits and the other %d, want 4 each", slow, other)
		}
		close(end)
		feeds.Wait()
		p.Close()
	})
}

// Jobs that wait for their whole target hold no permit. At most as many of them are started as
// the pool has permits, because started jobs must be repeated after a crash.
func TestPermitsOfBlockedTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c, open := newTestPool(4), newCrowd(), make(chan struct{})
		var feeds sync.WaitGroup
		feeds.Go(func() {
			c.feed(p, "slow", 20, func(at Permit) {
				_ = at.ReleaseWhile(func() error { <-open; return nil })
			})
		})
		synctest.Wait()
		if started, _ := c.counts("slow"); started != 4 {
			t.Errorf("%d jobs were started at 4 permits", started)
		}
		feeds.Go(func() { c.feed(p, "other", 40, func(Permit) { time.Sleep(time.Second) }) })
		time.Sleep(10*time.Second + time.Millisecond)
		if started, permits := c.counts("other"); started != 40 || permits != 0 {
			t.Errorf(
				"in 10 s the other target ended %d jobs of a second each at 4 permits, want 40",
				started-permits,
			)
		}
		close(open)
		feeds.Wait()
		p.Close()
		if started, _ := c.counts("slow"); started != 20 {
			t.Errorf("%d of 20 jobs were started in the end", started)
		}
	})
}

// A job that returns from ReleaseWhile may hold memory for which the jobs with permits wait.
func TestPermitsWithoutDeadlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, room := newTestPool(2), make(chan struct{}, 2)
		var feeds sync.WaitGroup
		for _, target := range []string{"first", "second"} {
			feeds.Go(func() {
				newCrowd().feed(p, target, 10, func(at Permit) {
					room <- struct{}{}
					_ = at.ReleaseWhile(func() error { time.Sleep(time.Second); return nil })
					<-room
				})
			})
		}
		feeds.Wait()
		p.Close()
		if _, size, _ := p.Stats(); p.busy.now != 0 || size != 2 {
			t.Errorf("%d jobs still have a permit", p.busy.now)
		}
	})
}

// A job that backs off because of one item gives its permit to others of its own target.
func TestPermitsOfJobsThatBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := newTestPool(2), newCrowd()
		var feeds sync.WaitGroup
		feeds.Go(func() {
			c.feed(p, "one", 10, func(at Permit) { _ = at.BackOff(t.Context(), time.Hour) })
		})
		synctest.Wait()
		if started, _ := c.counts("one"); started != 10 {
			t.Errorf("%d of 10 jobs were started", started)
		}
		time.Sleep(2 * time.Hour)
		feeds.Wait()
		p.Close()
	})
}

// The first error of a job ends the context of the group and is its error. Jobs that wait still
// run, on the remaining workers, and Close returns when all have ended.
func TestFirstErrorEndsTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group, ctx := errgroup.WithContext(t.Context())
		p, c := NewPool(group, 3), newCrowd()
		wrong := errors.New("wrong")
		var feeds sync.WaitGroup
		feeds.Go(func() {
			for i := range 40 {
				p.Submit("one", nil, false, func(Permit) error {
					c.count("one", 1, 0)
					time.Sleep(time.Second)
					if i == 7 {
						return wrong
					}
					return nil
				})
			}
		})
		feeds.Wait()
		p.Close()
		if !errors.Is(context.Cause(ctx), wrong) || !errors.Is(group.Wait(), wrong) {
			t.Errorf("cause %v, error %v", context.Cause(ctx), group.Wait())
		}
		if started, _ := c.counts("one"); started != 40 {
			t.Errorf("%d of 40 jobs were started", started)
		}
	})
}

// A pool of long-lived workers has at most as many goroutines as jobs run at the same time.
func TestWorkersAreReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		workers := map[chan task]bool{}
		p := newTestPool(4)
		for range 100 {
			p.Submit("one", nil, false, func(Permit) error {
				time.Sleep(time.Second)
				return nil
			})
			synctest.Wait()
			p.mu.Lock()
			mu.Lock()
			for _, inbox := range p.idle {
				workers[inbox] = true
			}
			mu.Unlock()
			p.mu.Unlock()
		}
		time.Sleep(2 * time.Second)
		p.mu.Lock()
		idle := len(p.idle)
		p.mu.Unlock()
		if p.Close(); len(workers) > 4 || idle != 4 {
			t.Errorf("%d workers were seen, and %d are idle; want 4", len(workers), idle)
		}
	})
}
