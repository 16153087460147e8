package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/reencrypt"
	"rotator/internal/rotate"
)

const (
	// joinTime is the maximum time for an audit to join the runs of its job, and to leave them.
	joinTime = 10 * time.Second
	// waitIsLong is the time without a share of the rate after which the log states the wait.
	waitIsLong = 2 * time.Second
)

// joinsRuns describes what fails if a command cannot become a member of the last pass.
const joinsRuns = "join the runs of the job"

// rateMember is an entry among the members of the last pass of a job. It divides the rate
// between the runs of the job and a command that works on no pass: an audit, a verify, or
// the preflight of any command. Without a share, requests wait.
type rateMember struct {
	observer *checkpoint.JobObserver
	life     context.Context // of all requests to the checkpoint
	end      context.CancelFunc
	patience func() time.Duration // returns the maximum time that leave can take
	enough   chan struct{}
	ended    chan struct{} // closed after err is set
	err      error         // why the member has lost its entry

	mu      sync.Mutex
	use     func(checkpoint.Share) // nil: there is no receiver yet
	share   checkpoint.Share
	runs    int           // of the last share that allowed requests
	changed chan struct{} // closed and replaced with each share
}

// newRateMember joins the members of the last pass. The member must leave. patience returns the
// maximum time to leave.
func newRateMember(
	ctx context.Context, passes *checkpoint.Passes, lease time.Duration,
	patience func() time.Duration,
) (*rateMember, error) {
	m := &rateMember{
		patience: patience,
		enough:   make(chan struct{}),
		ended:    make(chan struct{}),
		changed:  make(chan struct{}),
	}
	observer, err := passes.ObserveJob(ctx, lease, m.set)
	if err != nil {
		return nil, err
	}
	m.observer = observer
	m.life, m.end = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(m.ended)
		m.err = observer.Run(m.life, m.enough)
	}()
	return m, nil
}

// set is called with each new share.
func (m *rateMember) set(share checkpoint.Share) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.share = share
	if share.Runs > 0 {
		m.runs = share.Runs
	}
	if m.use != nil {
		m.use(share)
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

// onShare calls use with the share of the rate, now and after each change.
func (m *rateMember) onShare(use func(checkpoint.Share)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.use = use
	use(m.share)
}

// ready waits until the member has a share of the rate. It returns the error with which the
// member has lost its entry.
func (m *rateMember) ready(ctx context.Context) error {
	for {
		m.mu.Lock()
		has, changed := m.share.Runs > 0, m.changed
		m.mu.Unlock()
		if has {
			return nil
		}
		select {
		case <-changed:
		case <-m.ended:
			return &storageError{what: joinsRuns, err: m.err}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// keep removes the end of the last share.
func (m *rateMember) keep() {
	m.mu.Lock()
	share := checkpoint.Share{Runs: max(m.runs, 1)}
	m.mu.Unlock()
	m.set(share)
}

// leave ends the share and removes the entry.
func (m *rateMember) leave() {
	close(m.enough)
	stop := time.AfterFunc(m.patience(), m.end)
	defer stop.Stop()
	<-m.ended
	_ = m.observer.Leave(m.life) // otherwise the runs remove the entry after its lease
	m.end()
}

// joinRuns makes the command a member of the last pass of the job. The member is nil if the
// checkpoint is a file or does not exist yet. A request to the checkpoint may take as long
// as patience without a usable response, and later as long as max_outage.
func (s streams) joinRuns(
	ctx context.Context, job *config.Job, patience time.Duration,
) (*rateMember, error) {
	if !job.CheckpointLocation().Shared() {
		return nil, nil
	}
	store, err := s.sharedStore(ctx, job, patience)
	if absent := (*config.Problems)(nil); errors.As(err, &absent) {
		return nil, nil // there can be no runs
	}
	if err != nil {
		return nil, err
	}
	passes := checkpoint.NewPasses(store, job.Job)
	lease := time.Duration(job.Lease)
	m, err := newRateMember(ctx, passes, lease, func() time.Duration {
		return s.checkpointTime(joinTime)
	})
	if err != nil {
		return nil, &storageError{what: joinsRuns, err: err}
	}
	if store, ok := store.(interface{ SetPatience(time.Duration) }); ok {
		store.SetPatience(time.Duration(job.MaxOutage))
	}
	return m, nil
}

// checkAuthorized sends the dry runs of the preflight. If the checkpoint is shared, they are
// sent within a share of the rate, since runs of the job may be working.
func (w *wiring) checkAuthorized(ctx context.Context, c *jobFlags, command string) error {
	leave, allowed, err := w.shareOfPreflight(ctx, c, command)
	if err != nil || !allowed {
		return err
	}
	defer leave()
	return w.patiently(ctx, "KMS", func(ctx context.Context) (err error) {
		w.notes, err = reencrypt.CheckAuthorized(ctx, w.kms, w.limiter, w.keys, hasContexts(w.job))
		return err
	})
}

// shareOfPreflight waits for a share of the rate. leave gives it back. If allowed is false,
// the preflight must send no dry runs.
func (w *wiring) shareOfPreflight(
	ctx context.Context, c *jobFlags, command string,
) (leave func(), allowed bool, err error) {
	nothing, patience := func() {}, patienceBefore(w.job)
	joining, cancel := ctx, context.CancelFunc(nothing)
	if w.readOnly {
		patience = joinTime
		joining, cancel = context.WithTimeout(ctx, joinTime)
	}
	defer cancel()
	m, err := c.joinRuns(joining, w.job, patience)
	joined := m != nil
	if joined {
		m.onShare(func(s checkpoint.Share) { w.limiter.Divide(s.Runs, s.Until) })
		long := time.AfterFunc(waitIsLong, func() { c.logger.Info(waitsForRate) })
		defer long.Stop()
		if err = m.ready(ctx); err == nil {
			return m.leave, true, nil
		}
		m.leave()
	}
	switch {
	case err == nil:
		return nothing, true, nil
	case ctx.Err() != nil:
		return nil, false, ctx.Err()
	case w.readOnly && (!joined || errors.Is(err, checkpoint.ErrEarlierRuns)):
		w.unshared = true
		c.unshared(command, w.rate, err)
		w.limiter.Divide(1, time.Time{})
		return nothing, true, nil
	case w.readOnly || rotate.CheckpointAway(err):
		return nil, false, beforePass(err)
	}
	// Opening the pass returns a more specific error, or repairs the checkpoint.
	w.notes = append(w.notes, "permissions for ReEncrypt were not checked before the pass, "+
		"because this run could not join the other runs of the job before")
	return nil, false, nil
}

// shareRate divides the rate of a read-only command with the runs of the job if the checkpoint
// is shared. If this is not possible, it logs a warning. If the checkpoint becomes unavailable
// later, requests wait, and finally the context ends with a *retry.StopError as its cause.
// leave ends the sharing.
func (s *session) shareRate(ctx context.Context) (working context.Context, leave func()) {
	nothing := func() {}
	if !s.job.CheckpointLocation().Shared() {
		s.logger.Info(fmt.Sprintf("the rate of %s is not shared with other commands, because "+
			"the checkpoint is a file: if a run works at the same time, both send up to %s",
			s.summary.Command, requestRate(s.wiring.rate)))
	}
	if s.wiring.unshared {
		return ctx, nothing
	}
	joining, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	m, err := s.joinRuns(joining, s.job, joinTime)
	if err != nil && ctx.Err() == nil {
		s.unshared(s.summary.Command, s.wiring.rate, err)
	}
	if m == nil {
		return ctx, nothing
	}
	s.shares = m.onShare
	working, left := m.watch(ctx, func(err error) {
		s.unshared(s.summary.Command, s.wiring.rate, err)
	})
	return working, left
}

// watch returns a context that ends when the member has lost its entry. Its cause is then a
// *retry.StopError. If the reason is that runs of an earlier version have begun a pass, watch
// calls unshared instead, and the member keeps its share. left calls leave.
func (m *rateMember) watch(
	ctx context.Context, unshared func(error),
) (working context.Context, left func()) {
	working, stop := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		<-m.ended
		switch {
		case m.err == nil || m.life.Err() != nil:
		case errors.Is(m.err, checkpoint.ErrEarlierRuns):
			unshared(m.err)
			m.keep()
		default:
			stop(rotate.CheckpointError(m.err))
		}
	})
	return working, func() {
		m.leave()
		watching.Wait()
		stop(nil)
	}
}

// unshared warns that the rate is not divided with the runs of the job.
func (s streams) unshared(command string, rate float64, err error) {
	reason := s.secrets.Text(err.Error())
	if !errors.Is(err, checkpoint.ErrEarlierRuns) {
		reason = "the checkpoint cannot be used: " + reason
	}
	s.logger.Warn(fmt.Sprintf("the rate of %s cannot be shared with other commands, because %s; "+
		"if a run works at the same time, together they may send more than %s",
		command, reason, requestRate(rate)))
}
