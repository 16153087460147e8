package rotate_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/flowcontrol"
)

var divisions = flag.Uint64("divisions", 20,
	"number of histories of divisions to simulate; with -short half of it")

// TestTheSumKeepsToTheRate simulates random histories of runs that join a pass, get work, have
// no work, are paused for longer than their lease, die and leave. In no second do they send
// more than the rate allows. Unless a run died, a run that gets work has its share within two
// seconds, and a run that gets the whole rate back has it within one second.
func TestTheSumKeepsToTheRate(t *testing.T) {
	first, last := uint64(1), *divisions
	if testing.Short() {
		last /= 2
	}
	if *oneSeed > 0 {
		first, last = *oneSeed, *oneSeed
	}
	sent, waits := 0, 0
	for seed := first; seed <= last && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			h := &division{seededRandom: seededRandom{seed}, test: t}
			h.simulate()
			sent, waits = sent+len(h.sent), waits+h.waits
			if got := busiest(h.sent); float64(got) > rateLimit(h.rate) {
				t.Errorf("%d requests in a second at a rate of %v", got, h.rate)
			}
		})
		if t.Failed() {
			t.Logf(
				"replay it: go test ./internal/rotate -run TestTheSumKeepsToTheRate "+
					"-args -seed=%d", seed,
			)
		}
	}
	t.Logf("%d requests, %d waits for a share", sent, waits)
	if n := int(last - first + 1); sent < 150*n || waits < n {
		t.Errorf("%d requests and %d waits for a share are too few", sent, waits)
	}
}

// division is one history.
type division struct {
	seededRandom
	test   *testing.T
	rate   float64
	lease  time.Duration
	deaths bool // some runs die or are stopped
	began  time.Time
	passes *checkpoint.Passes
	pass   checkpoint.Pass
	store  checkpoint.Store

	mu    sync.Mutex
	sent  []request
	waits int // number of waits for a share
}

func (h *division) simulate() {
	h.rate = []float64{50, 110, 400, 1000, 2500}[h.number(5, "rate")]
	h.lease = []time.Duration{
		2 * time.Second,
		6 * time.Second,
		30 * time.Second,
	}[h.number(3, "lease")]
	h.deaths = h.chance(500, "deaths")
	h.began = time.Now()
	h.store = &slowStore{
		Store: checkpoint.NewMemory(),
		most:  h.span(60*time.Millisecond, "latency"),
	}
	h.passes = checkpoint.NewPasses(h.store, "job")
	var err error
	h.pass, err = h.passes.Begin(h.test.Context(), 0, checkpoint.Pass{Status: checkpoint.Running})
	if err != nil {
		h.test.Fatal(err)
	}
	var runs sync.WaitGroup
	for i := range 2 + h.number(min(6, int(h.rate/25)), "runs") {
		runs.Go(func() { h.simulateRun(fmt.Sprint("run-", i)) })
	}
	runs.Wait()
}

// stoppable is a store for a process that can be paused and killed.
type stoppable struct {
	checkpoint.Store
	frozen func() (until time.Time, dead bool)
}

func (s stoppable) wait() error {
	until, dead := s.frozen()
	time.Sleep(time.Until(until))
	if dead {
		return errDead
	}
	return nil
}

func (s stoppable) Fetch(ctx context.Context, id string) (checkpoint.Entry, error) {
	if err := s.wait(); err != nil {
		return checkpoint.Entry{}, err
	}
	e, err := s.Store.Fetch(ctx, id)
	return e, errors.Join(err, s.wait())
}

func (s stoppable) Replace(
	ctx context.Context, old checkpoint.Entry, data []byte,
) (checkpoint.Entry, error) {
	if err := s.wait(); err != nil {
		return checkpoint.Entry{}, err
	}
	e, err := s.Store.Replace(ctx, old, data)
	return e, errors.Join(err, s.wait())
}

// process is one run of a history.
type process struct {
	*division
	id      string
	limiter *flowcontrol.Limiter

	lock              sync.Mutex
	share             checkpoint.Share
	pausedUntil       time.Time // the process is paused until this time
	disconnectedUntil time.Time // the process is disconnected from the store until this time
	dead              bool
	active            bool // the process has requests to send
}

// frozen returns the time until which the process is paused, and whether it is dead.
func (p *process) frozen() (time.Time, bool) {
	p.lock.Lock()
	defer p.lock.Unlock()
	return p.pausedUntil, p.dead
}

// disconnected is like frozen, for requests to the store.
func (p *process) disconnected() (time.Time, bool) {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.disconnectedUntil.After(p.pausedUntil) {
		return p.disconnectedUntil, p.dead
	}
	return p.pausedUntil, p.dead
}

// simulateRun simulates one run.
func (h *division) simulateRun(id string) {
	time.Sleep(h.span(3*time.Second, id, "start"))
	p := &process{division: h, id: id, limiter: flowcontrol.NewLimiter(h.rate)}
	passes := checkpoint.NewPasses(stoppable{h.store, p.disconnected}, "job")
	options := checkpoint.TrackOptions{Worker: id, Lease: h.lease}
	tracker, err := passes.Track(h.test.Context(), h.pass, options)
	if err != nil {
		h.test.Errorf("%s: %v", id, err)
		return
	}
	tracker.OnShare(func(s checkpoint.Share) {
		p.limiter.Divide(s.Runs, s.Until)
		p.lock.Lock()
		defer p.lock.Unlock()
		p.share = s
	})
	ctx, cancel := context.WithCancel(h.test.Context())
	var work sync.WaitGroup
	ran := make(chan error, 1)
	go func() { ran <- tracker.Run(h.test.Context(), ctx.Done()) }()
	for range 8 {
		work.Go(func() { p.sendRequests(ctx) })
	}
	p.changeState(tracker)
	cancel()
	work.Wait()
	fenced := <-ran
	if _, dead := p.frozen(); dead || h.deaths && errors.Is(fenced, checkpoint.ErrFenced) {
		return
	}
	if err := errors.Join(fenced, tracker.Close(h.test.Context())); err != nil {
		h.test.Errorf("%s: %v", id, err)
	}
}

// changeState changes the state of a run at random times.
func (p *process) changeState(tracker *checkpoint.Tracker) {
	for n := range 3 + p.number(6, p.id, "chapters") {
		done := tracker.Engage()
		p.set(func() { p.active = true })
		p.waitForShare(n)
		time.Sleep(p.span(4*time.Second, p.id, "busy", n))
		if p.deaths {
			switch p.number(12, p.id, "fate", n) {
			case 0:
				p.set(func() { p.dead = true })
				return
			case 1:
				p.set(func() {
					p.pausedUntil = time.Now().Add(p.span(2*p.lease, p.id, "stopped", n))
				})
				time.Sleep(time.Until(p.pausedUntil))
			case 2:
				p.set(func() {
					p.disconnectedUntil = time.Now().Add(p.span(2*p.lease, p.id, "cut off", n))
				})
				time.Sleep(time.Until(p.disconnectedUntil))
			}
		}
		done()
		if p.chance(300, p.id, "late", n) { // the process requests a share late
			time.Sleep(p.span(time.Second, p.id, "late for", n))
		}
		p.set(func() { p.active = false })
		time.Sleep(p.span(3*time.Second, p.id, "idle", n))
	}
}

func (p *process) set(change func()) {
	p.lock.Lock()
	defer p.lock.Unlock()
	change()
}

// waitForShare waits for a share of the rate, for at most two seconds if no run dies.
func (p *process) waitForShare(n int) {
	began := time.Now()
	for {
		p.lock.Lock()
		has := p.share.Runs > 0
		p.lock.Unlock()
		waited := time.Since(began)
		if has || p.deaths && waited > time.Second {
			break
		}
		if waited > 2*time.Second {
			p.test.Errorf("%s has no share %v after it received work (%d)", p.id, waited, n)
			return
		}
		time.Sleep(time.Millisecond)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waits++
}

// sendRequests sends while the run has something to send.
func (p *process) sendRequests(ctx context.Context) {
	for ctx.Err() == nil {
		p.lock.Lock()
		may := p.active && !p.dead && !time.Now().Before(p.pausedUntil)
		p.lock.Unlock()
		if !may {
			time.Sleep(3 * time.Millisecond)
			continue
		}
		if p.limiter.Wait(ctx) != nil {
			return
		}
		until, dead := p.frozen()
		if dead || time.Now().Before(until) {
			continue // the request was not sent
		}
		p.mu.Lock()
		p.sent = append(p.sent, request{time.Since(p.began), p.id})
		p.mu.Unlock()
	}
}
