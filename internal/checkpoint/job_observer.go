package checkpoint

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// JobObserver is a member of the last pass of a job that claims no partition: an audit or a
// verify. The rate is also divided with it. If a run begins the next pass, the job observer joins
// that pass.
type JobObserver struct {
	passes   *Passes
	lease    time.Duration
	use      func(Share)
	observer *Observer
}

// ErrEarlierRuns means that a job observer cannot divide the rate with the runs of a pass, because
// they are of the previous version. They would end if the job observer joined the pass.
var ErrEarlierRuns = errors.New("runs of an earlier version of rotator are listed on the pass, " +
	"and they would end if it joined them")

const (
	// visitAttempts is the maximum number of attempts to join while runs begin new passes.
	visitAttempts = 10
	visitPause    = 100 * time.Millisecond
)

// ObserveJob adds a job observer to the member list of the job. It calls use with the share of
// the rate, now and after each change. use must not call the job observer.
func (p *Passes) ObserveJob(
	ctx context.Context, lease time.Duration, use func(Share),
) (*JobObserver, error) {
	v := &JobObserver{passes: p, lease: lease, use: use}
	return v, v.join(ctx)
}

// join joins the last pass. If there is no pass, it joins the member list of pass 0.
func (v *JobObserver) join(ctx context.Context) error {
	for range visitAttempts {
		var h head
		_, err := v.passes.fetch(ctx, v.passes.headID(), "head", &h)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		member := newMembership(v.passes, h.Pass, rand.Text(), v.lease)
		member.sparesOldRuns = true
		v.observer, err = member.joinAsObserver(ctx)
		if err == nil {
			v.observer.OnShare(v.use)
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

// Run keeps the job observer on the member list until enough is closed. ctx is the context of all
// requests. After an error the job observer has no share.
func (v *JobObserver) Run(ctx context.Context, enough <-chan struct{}) error {
	for {
		err := v.observer.Run(ctx, enough)
		if err == nil || !errors.Is(err, ErrFenced) {
			return err
		}
		if err := v.join(ctx); err != nil {
			return err
		}
	}
}

// Leave removes the job observer from the member list. Run must have returned.
func (v *JobObserver) Leave(ctx context.Context) error { return v.observer.Leave(ctx) }
