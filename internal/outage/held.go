package outage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Error is the error of a request to a service that gave no usable response.
type Error struct {
	Service string // "KMS at http://127.0.0.1:4566"
	Err     error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// RetryableError makes the SDK retry the request, where retries are on. Otherwise it would not
// retry if a host name cannot be resolved.
func (e *Error) RetryableError() bool { return true }

// givenUpError is the error of a request that was given up during an outage. Its outcome is
// unknown, as after a timeout.
type givenUpError struct {
	err    error
	before error // as in pending
}

func (e *givenUpError) Error() string {
	if e.before != nil {
		return fmt.Sprintf("given up during an outage (%s): %v", Cause(e.before), e.err)
	}
	return fmt.Sprintf("no answer in time, nor to any other request: %v", e.err)
}

// Timeout and Temporary implement net.Error.
func (e *givenUpError) Timeout() bool   { return true }
func (e *givenUpError) Temporary() bool { return true }

var _ net.Error = (*givenUpError)(nil)

// givenUp reports whether a request was given up. before is as in pending.
func (g *Gate) givenUp(p *pending) (before error, gaveUp bool) {
	g.monitor.mu.Lock()
	defer g.monitor.mu.Unlock()
	if p == nil {
		return nil, false
	}
	return p.before, p.gaveUp
}

// requestsToGiveUp returns the functions that end the requests which must be given up. It must be
// called with Monitor.mu held.
func (g *Gate) requestsToGiveUp(now time.Time) (giveUp []func()) {
	if g.opens == nil || g.outageSince.IsZero() {
		return nil
	}
	patience := g.monitor.patience
	over := patience > 0 && now.Sub(g.outageSince) >= patience
	for p := range g.pending {
		if !p.gaveUp && !p.arriving(now) && (over || now.Sub(p.began) >= hopelessAfter) {
			p.gaveUp = true
			if now.Sub(p.began) < silentAfter {
				p.before = g.lastCause()
			}
			giveUp = append(giveUp, p.giveUp)
		}
	}
	return giveUp
}

// lastCause returns the last failure of the requests that were not cut short. It must be called
// with Monitor.mu held.
func (g *Gate) lastCause() error {
	var cut *givenUpError
	if errors.As(g.lastErr, &cut) && cut.before != nil {
		return cut.before
	}
	return g.lastErr
}

// HeldError is the error of a request that was not sent because of an outage.
type HeldError struct {
	gate    *Gate
	Service string
	Err     error // of the last attempt; nil if there was no answer
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("%s gives no usable answer: %s", e.Service, Cause(e.Err))
}

// RetryableError makes the SDK retry the request, where retries are on.
func (e *HeldError) RetryableError() bool { return true }

// Await blocks until the gate is open or the caller gets the next attempt, but at most for
// limit. It returns the error of ctx if ctx ends. Callers are served in order of arrival.
func (e *HeldError) Await(ctx context.Context, limit time.Duration) error {
	g := e.gate
	opens := g.enter()
	if opens == nil {
		return ctx.Err()
	}
	defer g.leave()
	over := time.NewTimer(limit)
	defer over.Stop()
	select {
	case g.turn <- struct{}{}:
	case <-opens:
		return ctx.Err()
	case <-over.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-g.turn }()
	for {
		wait := g.take()
		if wait <= 0 {
			return ctx.Err()
		}
		next := time.NewTimer(wait)
		select {
		case <-next.C:
			continue
		case <-opens:
		case <-over.C:
		case <-ctx.Done():
		}
		next.Stop()
		return ctx.Err()
	}
}

// Delay returns the time until the next attempt, for callers that do not wait in Await.
func (e *HeldError) Delay() time.Duration {
	g := e.gate
	g.monitor.mu.Lock()
	defer g.monitor.mu.Unlock()
	if g.opens == nil {
		return 0
	}
	return max(time.Until(g.service.next), 10*time.Millisecond)
}

// enter returns nil if the gate is open.
func (g *Gate) enter() (opens chan struct{}) {
	g.monitor.mu.Lock()
	defer g.monitor.mu.Unlock()
	if g.opens != nil {
		g.waiting++
	}
	return g.opens
}

func (g *Gate) leave() {
	g.monitor.mu.Lock()
	defer g.monitor.mu.Unlock()
	g.waiting--
}

// take reserves the next attempt for the caller, or returns the time until it is due.
func (g *Gate) take() (wait time.Duration) {
	g.monitor.mu.Lock()
	defer g.monitor.mu.Unlock()
	now := time.Now()
	if wait = g.service.next.Sub(now); wait > 0 {
		return wait
	}
	g.service.next = now.Add(interval)
	g.permit = now.Add(interval)
	return 0
}
