package rotate_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

var errDead = errors.New("the process is dead")

// simProcess is one process of rotator: everything it does to the world goes
// through do, where it can be killed, stopped and failed.
type simProcess struct {
	*universe
	id      string
	machine int
	cancel  context.CancelFunc
	// stopped is a time in which it does nothing: SIGSTOP.
	stopped [2]time.Duration
	faulty  bool
	denied  bool // KMS lets it use no key but the destination
	// sweep kills it at its killAt-th durable step, before or after it is applied.
	killAt    int
	killAfter bool

	lock  sync.Mutex
	dead  bool
	steps int            // durable ones
	calls map[string]int // by operation and subject
}

// die is SIGKILL: nothing of it happens any more.
func (p *simProcess) die() {
	p.lock.Lock()
	p.dead = true
	p.lock.Unlock()
	p.cancel()
}

func (p *simProcess) alive() bool {
	p.lock.Lock()
	defer p.lock.Unlock()
	return !p.dead
}

// call numbers the calls of one kind about one thing.
func (p *simProcess) call(what, about string) int {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.calls[what+about]++
	return p.calls[what+about]
}

// sleep waits, and for as long as the process is stopped; it is false when the
// process died or ctx ended meanwhile.
func (p *simProcess) sleep(ctx context.Context, d time.Duration) bool {
	if now := time.Since(p.began) + d; now >= p.stopped[0] && now < p.stopped[1] {
		d += p.stopped[1] - now + d // not all at one moment
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil && p.alive()
}

// do is one operation on the world: it takes time, before and after it is applied,
// and goes wrong in the ways that the kind of operation knows.
func (p *simProcess) do(
	ctx context.Context, what, about string, durable bool, apply func() error,
) error {
	n, most := p.call(what, about), latency
	if what == "reencrypt" {
		most = p.pace
	}
	if !p.sleep(ctx, p.span(most, p.id, what, about, n, "before")) {
		return p.ended(ctx)
	}
	if p.faulty {
		if code := p.refusal(what, about, n); code != "" {
			p.meet(what + " refused")
			return apiError(code)
		}
	}
	if !p.step(durable, false) {
		return errDead
	}
	err := apply()
	p.mu.Lock()
	p.note(p.id, what, fmt.Sprintf("%s %v", about, err))
	p.mu.Unlock()
	if !p.step(durable, true) || !p.sleep(ctx, p.span(most, p.id, what, about, n, "after")) {
		return p.ended(ctx)
	}
	if lost := map[string]int{"replace": 40, "reencrypt": 10, "load": 10, "page": 10,
		"store": 15}[what]; p.faulty && p.chance(lost, p.id, what, about, n, "lost") {
		p.meet(what + " lost")
		return context.DeadlineExceeded
	}
	return err
}

// meet counts what went wrong.
func (u *universe) meet(what string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.met[what]++
}

func (p *simProcess) ended(ctx context.Context) error {
	if !p.alive() {
		return errDead
	}
	return ctx.Err()
}

// refusal is a fault before anything was applied; "" for none.
func (p *simProcess) refusal(what, about string, n int) string {
	codes := map[string][]string{
		"reencrypt": {
			"ThrottlingException",
			"KMSInternalException",
			"DependencyTimeoutException",
			"KeyUnavailableException",
			"AccessDeniedException",
		},
		"replace": {
			"ProvisionedThroughputExceededException",
			"InternalServerError",
			"TransactionConflictException",
			"ThrottlingException",
		},
		"load":  {"ThrottlingException", "InternalServerError"},
		"page":  {"ThrottlingException", "InternalServerError"},
		"fetch": {"ThrottlingException", "InternalServerError"},
		"store": {"ThrottlingException", "InternalServerError"},
	}[what]
	often := 60
	if what == "fetch" || what == "store" {
		often = 6 // the store's own patience is over, so it ends the run
	}
	if len(codes) == 0 || !p.chance(often, p.id, what, about, n, "refused") {
		return ""
	}
	return codes[p.number(len(codes), p.id, what, about, n, "code")]
}

// step counts a durable step, and is false when the process dies at it.
func (p *simProcess) step(durable, after bool) bool {
	p.lock.Lock()
	if durable && !after {
		p.steps++
	}
	// Another goroutine may have counted a step before this one is applied: not only ==.
	killed := durable && p.killAt > 0 && p.steps >= p.killAt && p.killAfter == after
	dead := p.dead
	p.lock.Unlock()
	if killed && !dead {
		p.die()
	}
	return !killed && !dead
}
