package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
)

// joinTime is the maximum time for an audit to join the runs of its job, and to leave them.
const joinTime = 10 * time.Second

// sharing divides the rate between a command that works on no pass and the runs of its job.
type sharing struct {
	mu    sync.Mutex
	use   func(checkpoint.Share) // of the engine; nil before there is one
	share checkpoint.Share
	runs  int // of the last share that allowed requests
}

// set is called with each new share.
func (s *sharing) set(share checkpoint.Share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.share = share
	if share.Runs > 0 {
		s.runs = share.Runs
	}
	if s.use != nil {
		s.use(share)
	}
}

// onShare is rotate.Config.Shares.
func (s *sharing) onShare(use func(checkpoint.Share)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.use = use
	use(s.share)
}

// lost removes the end of the last share.
func (s *sharing) lost() {
	s.mu.Lock()
	share := checkpoint.Share{Runs: max(s.runs, 1)}
	s.mu.Unlock()
	s.set(share)
}

// shareRate divides the rate with the runs of the job if the checkpoint is shared. If this is
// not possible, it logs a warning. leave ends the sharing.
func (s *session) shareRate(ctx context.Context) (leave func()) {
	nothing := func() {}
	if !s.job.CheckpointPlace().Shared() {
		s.logger.Info(fmt.Sprintf("the rate of %s is not shared with other commands, because "+
			"the checkpoint is a file: if a run works at the same time, both send up to %s "+
			"requests per second", s.summary.Command, number(s.wiring.rate)))
		return nothing
	}
	joining, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	store, err := s.sharedStore(joining, s.job, joinTime)
	if absent := (*config.Problems)(nil); errors.As(err, &absent) {
		return nothing // there can be no runs
	}
	shared := &sharing{}
	var visitor *checkpoint.Visitor
	if err == nil {
		passes := checkpoint.NewPasses(store, s.job.Job)
		visitor, err = passes.Visit(joining, time.Duration(s.job.Lease), shared.set)
	}
	if err != nil {
		if ctx.Err() == nil {
			s.unshared(err)
		}
		return nothing
	}
	s.shares = shared.onShare
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	enough := make(chan struct{})
	var member sync.WaitGroup
	member.Go(func() {
		if err := visitor.Run(life, enough); err != nil && life.Err() == nil {
			s.unshared(err)
			shared.lost()
		}
	})
	return func() {
		close(enough)
		stop := time.AfterFunc(joinTime, end)
		defer stop.Stop()
		member.Wait()
		_ = visitor.Leave(life) // else the runs find out after a lease
		end()
	}
}

// unshared warns that the rate is not divided with the runs of the job.
func (s *session) unshared(err error) {
	reason := s.secrets.Text(err.Error())
	if !errors.Is(err, checkpoint.ErrEarlierRuns) {
		reason = "the checkpoint cannot be used: " + reason
	}
	s.logger.Warn(fmt.Sprintf("the rate of %s cannot be shared with other commands, because %s; "+
		"if a run works at the same time, together they may send more than %s requests per second",
		s.summary.Command, reason, number(s.wiring.rate)))
}
