package checkpoint

import (
	"context"
	"time"
)

// Observer is a member of a pass that claims no partition: a retry of the ledger. It is on
// the member list, so that the rate is also divided with it.
type Observer struct{ membership *membership }

// ObservePass adds an observer that writes to the targets to the member list of a pass. With a
// lease of 0 the caller guarantees that no other process works on the pass. The error is ErrFenced
// if the job is at a later pass.
func (p *Passes) ObservePass(
	ctx context.Context, pass int, worker string, lease time.Duration,
) (*Observer, error) {
	if lease == 0 {
		return &Observer{}, nil
	}
	member := newMembership(p, pass, worker, lease)
	member.writes = true
	return member.joinAsObserver(ctx)
}

// joinAsObserver adds the membership to the member list as an observer that requests a share of
// the rate.
func (t *membership) joinAsObserver(ctx context.Context) (*Observer, error) {
	t.observer = true
	t.addUses(1)
	return &Observer{t}, t.heartbeat(ctx)
}

// Ready waits until this observer has a share of the rate: each other run that sends requests has
// confirmed that it divides the rate with the observer, or has left. Run must run meanwhile.
func (g *Observer) Ready(ctx context.Context) error { return g.membership.ready(ctx) }

// OnShare calls use with the share of the rate of this observer, now and after each change.
func (g *Observer) OnShare(use func(Share)) { g.membership.onShare(use) }

// Run renews the lease of the observer until enough is closed. ctx is the context of all
// requests. The error is ErrFenced if the lease has expired or the job is at a later pass.
func (g *Observer) Run(ctx context.Context, enough <-chan struct{}) error {
	return g.membership.keepAlive(ctx, enough, nil)
}

// Workers returns the number of members of the pass, as last read.
func (g *Observer) Workers() int { return g.membership.size() }

// Leave removes the observer from the member list, so that other members need not wait until its
// lease expires. Run must have returned.
func (g *Observer) Leave(ctx context.Context) error { return g.membership.leave(ctx) }
