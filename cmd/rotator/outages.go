package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/fastkms"
	"rotator/internal/outage"
	"rotator/internal/retry"
	"rotator/internal/rotate"
)

// preflightPatience is the maximum time without a usable response from a service before a
// pass begins.
const preflightPatience = 30 * time.Second

// patienceBefore returns the maximum time without a usable response from a service before a
// pass begins.
func patienceBefore(job *config.Job) time.Duration {
	return min(preflightPatience, time.Duration(job.MaxOutage))
}

// awayPatience is the maximum time for a request to a checkpoint that is known to be unavailable,
// if the command can continue without it.
const awayPatience = 2 * time.Second

// checkpointTime returns the maximum time for a request to the checkpoint without which the
// command can continue: usual, or less while the checkpoint gives no usable response.
func (s streams) checkpointTime(usual time.Duration) time.Duration {
	if _, _, away := s.outages.Away(useCheckpoint); away {
		return min(usual, awayPatience)
	}
	return usual
}

// passBegins sets the time limit for the checkpoint to that of a pass.
func (s *state) passBegins(job *config.Job) {
	if store, ok := s.store.(interface{ SetPatience(time.Duration) }); ok {
		store.SetPatience(time.Duration(job.MaxOutage))
	}
}

// useCheckpoint is the name of checkpoint requests in notices.
const useCheckpoint = "checkpoint"

// The names of the sources of credentials in notices.
const (
	credentialsName   = "the source of credentials"
	credentialsOfRole = "the source of credentials for role "
)

// newOutages returns the monitor of all services, which reports to a logger.
func newOutages(logger *zap.Logger) *outage.Monitor {
	return outage.New(outage.Config{
		Judge:  retry.Judge,
		Report: func(n outage.Notice) { logOutage(logger, n) },
	})
}

// watchOutages reports outages until stop is called.
func (s streams) watchOutages(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wait sync.WaitGroup
	wait.Go(func() { s.outages.Run(ctx) })
	return func() {
		cancel()
		wait.Wait()
	}
}

// logOutage logs a notice.
func logOutage(logger *zap.Logger, n outage.Notice) {
	fields := []zap.Field{zap.String("service", n.Service)}
	if n.Requests != "" {
		fields = append(fields, zap.String("requests", n.Requests))
	}
	lasted := n.For.Round(time.Second)
	if n.Kind == outage.Ended {
		logger.Info(n.Service+" answers again", append(fields,
			zap.Duration("away", lasted), zap.Int("vain_attempts", n.Attempts))...)
		return
	}
	cause := outage.Cause(n.Err)
	if strings.HasPrefix(n.Service, credentialsName) && n.Err != nil {
		cause = outage.CauseOf(n.Err)
	}
	fields = append(fields, zap.Duration("for", lasted), zap.String("error", cause),
		zap.Int("vain_attempts", n.Attempts),
		zap.String("meanwhile", "requests wait; one attempt a second"))
	if n.GivesUpIn > 0 {
		fields = append(fields, zap.Duration("gives_up_in", n.GivesUpIn.Round(time.Second)))
	}
	text := " gives no usable answer"
	if n.Kind == outage.Continues {
		text = " still gives no usable answer"
	}
	logger.Warn(n.Service+text, fields...)
}

// beginThrough returns the hook that makes requests of the fast KMS client wait at the gate
// of KMS.
func (s streams) beginThrough() fastkms.Begin {
	type known struct {
		to   *url.URL
		gate *outage.Gate
	}
	var last atomic.Pointer[known]
	return func(to *url.URL, giveUp func()) (func(error) error, error) {
		k := last.Load()
		if k == nil || k.to != to {
			gate := s.outages.Gate(outage.Name("KMS", to), "").At(to).GiveUpWith(giveUp)
			k = &known{to, gate}
			last.Store(k)
		}
		attempt, err := k.gate.Begin(false)
		if err != nil {
			return nil, err
		}
		return func(err error) error { return attempt.End(outage.Foreign(err)) }, nil
	}
}

// beforePass returns the error for a service that is unavailable before a pass begins. A
// later run has no pass to resume in this case.
func beforePass(err error) error {
	if !rotate.CheckpointAway(err) {
		return err
	}
	return &retry.StopError{Kind: retry.StopUnavailable, NoPass: true, Err: err,
		What: "the checkpoint gave no usable answer"}
}

// nameCheckpoint adds the service of the checkpoint to an error that it was unavailable.
func (s streams) nameCheckpoint(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return s.nameCheckpoints(joined.Unwrap())
	}
	var doing *checkpoint.ServiceError
	if !rotate.CheckpointAway(err) || !errors.As(err, &doing) {
		return err
	}
	service, cause, ok := s.outages.Away(useCheckpoint)
	if over := (*outage.OverError)(nil); errors.As(err, &over) {
		service, cause = over.Last()
	} else if !ok {
		return err
	}
	return &causeError{err: err, cause: fmt.Sprintf("the checkpoint: %s gave no usable answer: "+
		"%s (%s)", service, outage.Cause(cause), doing.Operation)}
}

// nameCheckpoints is like nameCheckpoint, for joined errors. Of the errors that the checkpoint
// was unavailable, it returns only the first.
func (s streams) nameCheckpoints(errs []error) error {
	var named []error
	away := false
	for _, err := range errs {
		again := away
		away = away || rotate.CheckpointAway(err)
		if !again || !rotate.CheckpointAway(err) {
			named = append(named, s.nameCheckpoint(err))
		}
	}
	return errors.Join(named...)
}
