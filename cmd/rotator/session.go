package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/report"
	"rotator/internal/report/auditlog"
	"rotator/internal/rotate"
)

// settle is how long an unusable key is looked at again before a run stops: KMS
// needs up to some tens of seconds until a change of state is seen everywhere.
const settle = 30 * time.Second

// session is one command working on one job, with everything open that it
// needs.
type session struct {
	*common
	job     *config.Job
	logger  *zap.Logger
	wiring  *wiring
	summary *report.Summary
}

// open wires the job; command is the word for the result.
func open(ctx context.Context, c *common, job *config.Job, command string) (*session, error) {
	logger, err := c.logger()
	if err != nil {
		return nil, err
	}
	w, err := wire(ctx, job, logger)
	if err != nil {
		return nil, err
	}
	return &session{common: c, job: job, logger: logger, wiring: w, summary: &report.Summary{
		Job: job.Job, Command: command, Started: time.Now().UTC(), DestinationKey: w.keys.Destination.ARN, Version: version,
		Keys: []report.Key{}, Reasons: []report.Reason{}, Targets: []report.Target{}, Notes: w.notes}}, nil
}

// targets returns the job's targets for the engine; without writers, nothing
// that is done with them can change anything.
func (s *session) targets(write bool) []rotate.Target {
	var targets []rotate.Target
	for _, p := range s.wiring.places {
		t := rotate.Target{Name: p.name, Lister: p.source, Format: p.format, Batch: p.source.Batch()}
		if write {
			t.Writer = p.source
		}
		targets = append(targets, t)
	}
	return targets
}

func (s *session) names() (names []string) {
	for _, p := range s.wiring.places {
		names = append(names, p.name)
	}
	return names
}

// rotator makes the engine for one pass.
func (s *session) rotator(targets []rotate.Target, pass int, recorder rotate.Recorder) *rotate.Rotator {
	return rotate.New(rotate.Config{Targets: targets, Keys: s.wiring.keys, KMS: s.wiring.kms, Rate: s.job.KMS.Rate,
		Workers: s.job.Workers, MaxOutage: time.Duration(s.job.MaxOutage), Settle: settle, Pass: pass,
		Recorder: recorder, Logger: s.logger})
}

func (s *session) plan(targets []rotate.Target) (rotate.Plan, error) {
	print, err := fingerprint(s.job)
	return rotate.Plan{Job: s.job.Job, Fingerprint: print, Keys: s.wiring.keys, Targets: targets}, err
}

// pass is the pass of a session, with its store and tracker.
type pass struct {
	passes     *checkpoint.Passes
	record     checkpoint.Pass
	partitions []rotate.Partition
	tracker    *checkpoint.Tracker
}

// openPass resumes or begins a pass in store. BeforeSave runs before any cursor
// moves.
func (s *session) openPass(ctx context.Context, store checkpoint.Store, targets []rotate.Target, beforeSave func(context.Context) error) (*pass, error) {
	plan, err := s.plan(targets)
	if err != nil {
		return nil, err
	}
	passes := checkpoint.NewPasses(store, s.job.Job)
	opened, err := rotate.OpenPass(ctx, passes, plan)
	if err != nil {
		return nil, err
	}
	for _, note := range opened.Notes {
		s.logger.Info(note)
	}
	tracker, err := passes.Track(ctx, opened.Pass, checkpoint.TrackOptions{BeforeSave: beforeSave})
	if err != nil {
		return nil, err
	}
	return &pass{passes: passes, record: opened.Pass, partitions: opened.Partitions, tracker: tracker}, nil
}

// work runs the engine over the pass, with progress on stderr, and fills in the
// figures.
func (s *session) work(ctx context.Context, engine *rotate.Rotator, p *pass) error {
	stop := s.progress(engine, p.tracker)
	err := engine.Run(ctx, p.tracker, p.partitions)
	stop()
	s.summary.Ended = time.Now().UTC()
	s.summary.KMS.Requests, s.summary.KMS.Throttled, _ = engine.Requests()
	s.summary.Status = report.Complete
	if err != nil {
		s.summary.Status = report.Stopped
	}
	return err
}

// noteSources adds what the sources found out about their places.
func (s *session) noteSources() {
	for _, p := range s.wiring.places {
		s.summary.Notes = append(s.summary.Notes, p.source.Notes()...)
	}
}

// print writes the result to stdout.
func (s *session) print() error {
	s.noteSources()
	write := s.summary.Text
	if s.output == "json" {
		write = s.summary.JSON
	}
	if err := write(s.out); err != nil {
		return &storageError{what: "print the result", err: err}
	}
	return nil
}

// state is the durable side of a run: lock, store and audit log.
type state struct {
	lock  *checkpoint.Lock
	store *checkpoint.File
	log   *auditlog.Log
}

// openState takes the lock and opens, or makes, the checkpoint and audit log.
func openState(job *config.Job, logger *zap.Logger) (*state, error) {
	path := job.CheckpointFile()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, &storageError{what: "make the directory of the checkpoint", err: err}
	}
	lock, err := checkpoint.AcquireLock(path)
	if locked := (*checkpoint.LockedError)(nil); errors.As(err, &locked) {
		return nil, err
	}
	if err != nil {
		return nil, &storageError{what: "lock the checkpoint", err: err}
	}
	s := &state{lock: lock}
	if s.store, err = checkpoint.CreateFile(path); err != nil {
		return nil, s.fail("open the checkpoint", err)
	}
	if s.log, err = auditlog.Open(job.AuditLog); err != nil {
		return nil, s.fail("open the audit log", err)
	}
	if torn := s.log.Torn(); torn > 0 {
		logger.Warn("the last line of the audit log was cut short by a crash and has been taken off", zap.Int("bytes", torn))
	}
	return s, nil
}

func (s *state) fail(what string, err error) error {
	s.close()
	return &storageError{what: what, err: err}
}

func (s *state) close() {
	if s.log != nil {
		_ = s.log.Close()
	}
	_ = s.lock.Release()
}

// exceptions is the exit code of a complete pass with a ledger, or nil.
func (s *session) exceptions() error {
	n := s.summary.Slots.Exceptions()
	if n == 0 {
		return nil
	}
	return &outcomeError{code: exitExceptions, text: fmt.Sprintf(
		"complete, with %d slots in the ledger; rotator report --ledger lists them, rotator retry tries them again", n)}
}
