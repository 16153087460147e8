package checkpoint

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// Visitor is a command that sends requests but works on no pass: an audit or a verify. It is a
// guest of the last pass of the job, so the rate is divided with it. If a run begins the next
// pass, the visitor becomes a guest of that pass.
type Visitor struct {
	passes *Passes
	lease  time.Duration
	use    func(Share)
	guest  *Guest
}

// ErrEarlierRuns means that a visitor cannot divide the rate with the runs of a pass, because
// they are of the previous version. They would end if the visitor joined the pass.
var ErrEarlierRuns = errors.New("runs of an earlier version of rotator are listed on the pass, " +
	"and they would end if it joined them")

const (
	// visitAttempts is the maximum number of attempts to join while runs begin new passes.
	visitAttempts = 10
	visitPause    = 100 * time.Millisecond
)

// Visit adds a visitor to the roster of the job. It calls use with the share of the rate, now
// and after each change. use must not call the visitor.
func (p *Passes) Visit(
	ctx context.Context, lease time.Duration, use func(Share),
) (*Visitor, error) {
	v := &Visitor{passes: p, lease: lease, use: use}
	return v, v.join(ctx)
}

// join joins the last pass. If there is no pass, it joins the roster of pass 0.
func (v *Visitor) join(ctx context.Context) error {
	for range visitAttempts {
		var h head
		_, err := v.passes.fetch(ctx, v.passes.headID(), "head", &h)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		member := newTeam(v.passes, h.Pass, rand.Text(), v.lease)
		member.visits = true
		v.guest, err = member.asGuest(ctx)
		if err == nil {
			v.guest.OnShare(v.use)
		}
		if !errors.Is(err, ErrFenced) {
			return err
		}
		if err := pause(ctx, visitPause); err != nil {
			return err
		}
	}
	return fmt.Errorf("a new pass began %d times in a row", visitAttempts)
}

// Run keeps the visitor on the roster until enough is closed. ctx is the context of all
// requests. After an error the visitor has no share.
func (v *Visitor) Run(ctx context.Context, enough <-chan struct{}) error {
	for {
		err := v.guest.Run(ctx, enough)
		if err == nil || !errors.Is(err, ErrFenced) {
			return err
		}
		if err := v.join(ctx); err != nil {
			return err
		}
	}
}

// Leave removes the visitor from the roster. Run must have returned.
func (v *Visitor) Leave(ctx context.Context) error { return v.guest.Leave(ctx) }
