package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/report"
	"rotator/internal/rotate"
)

func newRunCommand(std streams) *cobra.Command {
	var restart bool
	var flags earlyFlags
	cmd := kmsCommand(std, "run", "Start or resume the pass: move every slot under a source key",
		`Run resumes the unfinished pass of the job, or begins the next one. It may be
stopped at any time, by any means, and run again. With a checkpoint in a table or
bucket any number of runs, on any machines, share the work of one pass.

Exit codes: 0 complete; 3 complete, with slots in the ledger, or a target or slot rule
that found no ciphertext at all; 75 stopped, run again; others in docs/exit-codes.md.`,
		func(ctx context.Context, c *jobFlags, job *config.Job) error {
			return runJob(ctx, c, job, restart, &flags)
		})
	flags.ofWriters(cmd)
	cmd.Flags().BoolVar(&restart, "restart", false, "begin a new pass although the last is unfinished or cannot be read; its records are kept")
	return cmd
}

func runJob(
	ctx context.Context, c *jobFlags, job *config.Job, restart bool, flags *earlyFlags,
) error {
	most, err := flags.failures()
	if err != nil {
		return err
	}
	last, release := shutdownContext(ctx)
	defer release()
	s, err := open(ctx, c, job, "run")
	if err != nil {
		return err
	}
	state, err := openState(ctx, s.jobFlags, job)
	if err != nil {
		return err
	}
	defer state.close()
	targets := s.targets(true)
	p, err := s.openPass(ctx, state.store, targets, state.track(), restart)
	if err != nil {
		return beforePass(err)
	}
	state.passBegins(job)
	s.summary.Pass = p.record.Number
	s.summary.Started = p.record.Started
	if err := s.believe(ctx, state, p); err != nil {
		return err
	}
	s.stopsEarly = rotate.Early{Most: most, Proven: s.provenBefore(ctx,
		func() *checkpoint.Passes { return p.passes }, func() int { return p.record.Number })}
	engine := s.rotator(targets, p.record, state.log, s.recordHeaderUse(p, state))
	s.stop.reached(working, "")
	worked := s.work(ctx, engine, p)
	if stop := (*rotate.StopError)(nil); errors.As(worked, &stop) && stop.Kind == rotate.StopFenced {
		return worked // the record of the pass is the other run's now
	}
	if worked == nil {
		worked = s.withKeyState(ctx, s.settlePadding(ctx, p, state, targets))
		if worked != nil {
			s.summary.Status = report.Stopped
		}
	}
	s.alike = isAlike(worked)
	if err := s.finish(last, p, state); err != nil {
		return errors.Join(worked, err)
	}
	worked = s.stoppedEarly(s.withLedger(worked))
	s.halted(worked)
	if err := s.print(); err != nil {
		return errors.Join(worked, err)
	}
	if worked != nil {
		return worked
	}
	return s.exceptions()
}

// believe checks the audit logs against the checkpoint before the pass begins.
// The report notes each log with missing lines.
func (s *session) believe(ctx context.Context, state *state, p *pass) error {
	notes, err := state.believe(ctx, p.passes, p.record)
	for _, note := range notes {
		s.logger.Warn(note)
	}
	s.summary.Notes = append(s.summary.Notes, notes...)
	return err
}

// recordHeaderUse notes in the record of a pass that this run is about to count slots by the
// headers of their blobs; false where a run has found that they do not tell.
func (s *session) recordHeaderUse(p *pass, state *state) func(context.Context) (bool, error) {
	return func(ctx context.Context) (may bool, err error) {
		_, err = p.passes.Update(ctx, p.record.Number, func(record *checkpoint.Pass) {
			may = !slices.ContainsFunc(record.Headers, func(h checkpoint.HeaderRun) bool { return h.Wrong != "" }) && record.BeginHeaders(state.worker)
		})
		return may, err
	}
}

// finish saves how the run ended, and fills in what the pass counted.
func (s *session) finish(ctx context.Context, p *pass, state *state) error {
	if err := state.log.Sync(); err != nil {
		return &storageError{what: "sync the audit log", err: err}
	}
	if err := addLedger(ctx, s.tally, p.passes, p.record); err != nil {
		return err
	}
	end := state.runEnd(s.summary.KMS, s.headers)
	end.AcceptKeys, end.TokenKeys = s.wiring.under, s.tokenKeys(p)
	end.Doubts, end.Early = s.keysAtEnd(ctx, p.record), s.alike
	record, err := rotate.ClosePass(ctx, p.passes, p.record, end,
		s.summary.Status == report.Complete)
	if err != nil {
		return &storageError{what: "save the pass", err: err}
	}
	p.record = record
	totals, err := p.passes.Totals(ctx, record)
	if err != nil {
		return &storageError{what: "read the pass", err: err}
	}
	s.summary.AsOf, s.recordedTokens = record.Started, record.TokenKeys
	s.setTargets(ctx, totals)
	if err := addExamples(ctx, p.passes, record, s.summary); err != nil {
		return err
	}
	s.summary.SetHeaders(record.Headers)
	setAccepted(s.summary, s.job, s.tally)
	for _, doubt := range record.Doubts {
		s.summary.Doubt(doubt)
	}
	s.summary.Conclude()
	return s.stillWritten(ctx, p.passes, record.Number-1)
}

// stillWritten notes the targets in which an earlier, complete pass had left
// nothing under a source key, and this one found something: somebody writes
// with the old key, and the retirement will not converge until that ends. The
// comparison is a courtesy: an earlier pass that cannot be read, as run --restart
// leaves it behind, is noted and does not spoil this one.
func (s *session) stillWritten(ctx context.Context, passes *checkpoint.Passes, earlier int) error {
	before, totals, err := s.comparable(ctx, passes, earlier)
	switch {
	case checkpoint.Untrusted(err):
		s.summary.Notes = append(s.summary.Notes, fmt.Sprintf(
			"the records of pass %d, the one before, cannot be read, so this pass was not compared with it to find who still writes with the old key", earlier))
		return nil
	case err != nil:
		return &storageError{what: "read the pass before", err: err}
	}
	if s.rotatedSince(before) {
		return nil
	}
	for _, target := range s.summary.Targets {
		left := totals[target.Name].Slots
		found := target.Slots.Rotated + target.Slots.Remaining
		if _, known := totals[target.Name]; known && found > left.Failed+left.Conflict+left.Remaining {
			s.summary.Notes = append(s.summary.Notes, fmt.Sprintf(
				"target %s: %d slots %s, more than pass %d, begun %s, left there: %s", target.Name,
				found, s.summary.Mode.Where(), earlier, before.Started.Format(time.RFC3339),
				s.summary.Mode.Writes()))
		}
	}
	return nil
}

// rotatedSince reports whether the key of a refresh was, or may have been, rotated since an
// earlier pass began. Slots that the pass moved are then on older material again.
func (s *session) rotatedSince(before checkpoint.Pass) bool {
	keys := s.wiring.keys
	return keys.Mode == rotate.ModeRefresh &&
		(before.Destination.Material != keys.Destination.Material || len(s.summary.Doubts()) > 0)
}

// comparable returns an earlier pass with its totals. It returns no totals for a pass of
// another job file, and for one that was not complete when this pass began.
func (s *session) comparable(ctx context.Context, passes *checkpoint.Passes, earlier int) (checkpoint.Pass, map[string]checkpoint.Counts, error) {
	before, err := passes.Pass(ctx, earlier)
	if errors.Is(err, checkpoint.ErrNotFound) {
		return before, nil, nil
	}
	if err != nil {
		return before, nil, err
	}
	same, err := sameWork(before, s.job)
	if err != nil || before.Status != checkpoint.Finished || !same ||
		before.Ended.After(s.summary.Started) {
		return before, nil, nil
	}
	totals, err := passes.Totals(ctx, before)
	return before, totals, err
}
