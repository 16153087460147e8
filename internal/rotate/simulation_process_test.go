package rotate_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

var errDead = errors.New("the process is dead")

// simProcess is one process of rotator. All its requests and writes are calls of do, which can
// kill or pause the process or return an error.
type simProcess struct {
	*universe
	id      string
	machine int
	cancel  context.CancelFunc
	// stopped is the period in which the process is paused, as by SIGSTOP.
	stopped [2]time.Duration
	faulty  bool
	denied  bool // KMS denies the use of all keys except the destination key
	// The process is killed at its killAt-th durable step, before or after the step is applied.
	killAt    int
	killAfter bool

	lock  sync.Mutex
	dead  bool
	steps int            // durable steps so far
	calls map[string]int // by operation and subject
}

// die ends the process as by SIGKILL. It has no effects any more.
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

// call returns the number of calls so far for an operation and a subject.
func (p *simProcess) call(what, about string) int {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.calls[what+about]++
	return p.calls[what+about]
}

// sleep waits for d, and longer if the process is paused. It returns false if the process is
// killed or ctx ends.
func (p *simProcess) sleep(ctx context.Context, d time.Duration) bool {
	if now := time.Since(p.began) + d; now >= p.stopped[0] && now < p.stopped[1] {
		d += p.stopped[1] - now + d // so that not all operations continue at the same moment
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil && p.alive()
}

// do executes one operation on the universe. The operation takes time before and after it is
// applied, and can fail in the ways of its kind.
func (p *simProcess) do(
	ctx context.Context, what, about string, durable bool, apply func() error,
) error {
	n, most := p.call(what, about), latency
	if what == "reencrypt" {
		most = p.maxKMSDelay
	}
	if !p.sleep(ctx, p.span(most, p.id, what, about, n, "before")) {
		return p.ended(ctx)
	}
	if p.faulty {
		if code := p.refusal(what, about, n); code != "" {
			p.count(what + " refused")
			return apiError(code)
		}
	}
	if !p.step(durable, false) {
		return errDead
	}
	err := apply()
	p.mu.Lock()
	p.record(p.id, what, fmt.Sprintf("%s %v", about, err))
	p.mu.Unlock()
	if !p.step(durable, true) || !p.sleep(ctx, p.span(most, p.id, what, about, n, "after")) {
		return p.ended(ctx)
	}
	if lost := map[string]int{"replace": 40, "reencrypt": 10, "load": 10, "page": 10,
		"store": 15}[what]; p.faulty && p.chance(lost, p.id, what, about, n, "lost") {
		p.count(what + " lost")
		return context.DeadlineExceeded
	}
	return err
}

// count counts a fault or an event.
func (u *universe) count(what string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.occurrences[what]++
}

func (p *simProcess) ended(ctx context.Context) error {
	if !p.alive() {
		return errDead
	}
	return ctx.Err()
}

// refusal returns the error code of a fault before the operation is applied, or "".
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
	perMille := 60
	if what == "fetch" || what == "store" {
		perMille = 6 // the store has already retried, so this error ends the run
	}
	if len(codes) == 0 || !p.chance(perMille, p.id, what, about, n, "refused") {
		return ""
	}
	return codes[p.number(len(codes), p.id, what, about, n, "code")]
}

// step counts a durable step. It returns false if the process is killed at this step.
func (p *simProcess) step(durable, after bool) bool {
	p.lock.Lock()
	if durable && !after {
		p.steps++
	}
	// Not ==, because another goroutine may have counted a step before this step is applied.
	killed := durable && p.killAt > 0 && p.steps >= p.killAt && p.killAfter == after
	dead := p.dead
	p.lock.Unlock()
	if killed && !dead {
		p.die()
	}
	return !killed && !dead
}
