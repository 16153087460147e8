package checkpoint

import (
	"context"
	"time"
)

// Guest is a worker on a pass that claims no partition: a retry of its ledger. It is on
// the roster like the others, so that all of them know by how many the rate is divided.
type Guest struct{ team *team }

// Join puts a guest on the roster of a pass. With a lease of 0 the caller promises that
// no other process works on the pass. ErrFenced when the job is at a later pass.
func (p *Passes) Join(ctx context.Context, pass int, worker string, lease time.Duration) (*Guest, error) {
	if lease == 0 {
		return &Guest{}, nil
	}
	return newTeam(p, pass, worker, lease).asGuest(ctx)
}

// asGuest adds the team to the roster as a guest that requests a share of the rate.
func (t *team) asGuest(ctx context.Context) (*Guest, error) {
	t.guest = true
	t.want(1)
	return &Guest{t}, t.beat(ctx)
}

// Ready waits until this worker has a share of the rate: each other run that sends requests
// has confirmed that it divides the rate with this worker, or has left. Run must run meanwhile.
func (g *Guest) Ready(ctx context.Context) error { return g.team.ready(ctx) }

// OnShare calls use with the share of the rate of this worker, now and after each change.
func (g *Guest) OnShare(use func(Share)) { g.team.onShare(use) }

// Run tells the others that this worker is alive, until enough is closed. ErrFenced
// when they took it for dead, or the job is at a later pass; ctx is for all requests.
func (g *Guest) Run(ctx context.Context, enough <-chan struct{}) error {
	return g.team.beats(ctx, enough, nil)
}

// Workers is how many workers were on the pass when this one looked last.
func (g *Guest) Workers() int { return g.team.size() }

// Leave takes the guest off the roster, so that the others need not wait for its lease
// to end. Run must have returned.
func (g *Guest) Leave(ctx context.Context) error { return g.team.leave(ctx) }
