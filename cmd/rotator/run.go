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
	"rotator/internal/plural"
	"rotator/internal/reencrypt"
	"rotator/internal/report"
	"rotator/internal/retry"
	"rotator/internal/rotate"
)

func newRunCommand(std streams) *cobra.Command {
	var restart bool
	var flags earlyFlags
	cmd := kmsCommand(std, "run",
		"Move every ciphertext under a source key; resume or start a pass",
		`Resume the unfinished pass of the job, or start the next pass. A run can be stopped or
killed at any time; run the same command to resume. If the checkpoint is in a table or a
bucket, any number of runs on any machines share the work of one pass.

Exit codes: 0 complete; 3 complete, but the ledger has slots, or a target or slot rule found
no ciphertext; 75 stopped, run again. For other codes see docs/exit-codes.md.`,
		func(ctx context.Context, c *jobFlags, job *config.Job) error {
			return runJob(ctx, c, job, restart, &flags)
		})
	flags.ofWriters(cmd)
	cmd.Flags().BoolVar(&restart, "restart", false,
		"start a new pass even if the last one is unfinished or cannot be read; "+
			"its records are kept")
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
	s.checkAuditLogs(state, p.tracker.Logs())
	s.stopsEarly = rotate.Early{Most: most, Proven: s.provenBefore(ctx,
		func() *checkpoint.Passes { return p.passes }, func() int { return p.record.Number })}
	engine := s.rotator(targets, p.record, state.log, s.recordHeaderUse(p, state))
	s.stop.reached(working, "")
	worked := s.work(ctx, engine, p)
	if stop := (*retry.StopError)(nil); errors.As(worked, &stop) && stop.Kind == retry.StopFenced {
		s.uploadEvidence(last, state)
		return worked // another run owns the record of the pass
	}
	if worked == nil {
		worked = s.withKeyState(ctx, s.settlePadding(ctx, p, state, targets))
		if worked != nil {
			s.summary.Status = report.Stopped
		}
	}
	s.alike = isAlike(worked)
	err = s.finish(last, p, state)
	s.uploadEvidence(last, state)
	if err != nil {
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

// checkAuditLogs checks the audit logs against the checkpoint before the pass starts, and adds a
// note to the report for each log that lacks lines.
func (s *session) checkAuditLogs(state *state, logs []checkpoint.AuditLog) {
	notes := state.checkAuditLogs(logs)
	for _, note := range notes {
		s.logger.Warn(note)
	}
	s.summary.Notes = append(s.summary.Notes, notes...)
}

// recordHeaderUse returns a function that records in the pass that this run is about to infer
// keys from ciphertext headers. The function returns false if a run of the pass has found that
// the headers disagree with KMS; the run must then not use them.
func (s *session) recordHeaderUse(p *pass, state *state) func(context.Context) (bool, error) {
	disagree := func(h checkpoint.HeaderRun) bool { return h.Wrong != "" }
	return func(ctx context.Context) (may bool, err error) {
		_, err = p.passes.Update(ctx, p.record.Number, func(record *checkpoint.Pass) {
			may = !slices.ContainsFunc(record.Headers, disagree) &&
				record.BeginHeaders(state.worker)
		})
		return may, err
	}
}

// finish saves the end of the run, and completes the summary with the totals of the pass.
func (s *session) finish(ctx context.Context, p *pass, state *state) error {
	if err := state.log.Sync(); err != nil {
		return &storageError{what: "sync the audit log", err: err}
	}
	if err := state.log.Unclosed(); err != nil {
		note := fmt.Sprintf("audit log %s: a segment could not be closed (%v). No line is "+
			"missing; the next run tries again", state.name, err)
		s.logger.Warn(note)
		s.summary.Notes = append(s.summary.Notes, note)
	}
	records, err := p.recordsAtEnd(ctx)
	if err != nil {
		return err
	}
	if err := addLedger(s.tally, records.Ledger(ctx)); err != nil {
		return err
	}
	end := state.runEnd(s.summary.KMS, s.headers)
	end.AcceptKeys, end.TokenKeys = s.wiring.under, s.tokenKeys(p)
	end.Doubts, end.Early = s.keysAtEnd(ctx, p.record), s.alike
	complete := records
	if s.summary.Status != report.Complete {
		complete = nil
	}
	record, err := rotate.ClosePass(ctx, p.passes, p.record, end, complete)
	if err != nil {
		return &storageError{what: "save the pass", err: err}
	}
	p.record = record
	totals, err := records.Totals(ctx)
	if err != nil {
		return &storageError{what: "read the pass", err: err}
	}
	s.summary.AsOf, s.recordedTokens = record.Started, record.TokenKeys
	s.setTargets(ctx, totals)
	if err := addExamples(records.Ledger(ctx), s.summary); err != nil {
		return err
	}
	s.summary.SetHeaders(record.Headers)
	s.summary.SetSamples(samplesOf(record))
	setAccepted(s.summary, s.job, s.tally)
	for _, doubt := range record.Doubts {
		s.summary.Doubt(doubt)
	}
	s.summary.Conclude()
	s.judgeWritten(ctx, p.passes)
	return s.stillWritten(ctx, p.passes, record.Number-1)
}

// stillWritten adds a note for each target in which this pass found more slots under a source
// key than an earlier, complete pass left there. A writer then still uses the old key, and the
// passes do not converge until it stops. The comparison is optional: if the earlier pass cannot
// be read, which is possible after run --restart, stillWritten adds a note and returns nil.
func (s *session) stillWritten(ctx context.Context, passes *checkpoint.Passes, earlier int) error {
	before, totals, err := s.comparable(ctx, passes, earlier)
	switch {
	case checkpoint.IsUnreadable(err):
		s.summary.Notes = append(s.summary.Notes, fmt.Sprintf(
			"could not compare with the previous pass, because the records of pass %d cannot be "+
				"read; writers that still use the old key are not reported", earlier))
		return nil
	case err != nil:
		return &storageError{what: "read the previous pass", err: err}
	}
	if s.rotatedSince(before) {
		return nil
	}
	for _, target := range s.summary.Targets {
		left := totals[target.Name].Slots
		found := target.Slots.Rotated + target.Slots.Remaining
		if _, known := totals[target.Name]; known &&
			found > left.Failed+left.Conflict+left.Remaining {
			s.summary.Notes = append(s.summary.Notes, fmt.Sprintf(
				"target %s: %s %s, more than pass %d (started %s) left there; %s",
				target.Name, plural.Count(found, "slot"), s.summary.Mode.Where(), earlier,
				before.Started.Format(time.RFC3339), s.summary.Mode.Writes()))
		}
	}
	return nil
}

// rotatedSince reports whether the key of a refresh was, or may have been, rotated since an
// earlier pass began. Slots that the pass moved are then on older material again.
func (s *session) rotatedSince(before checkpoint.Pass) bool {
	keys := s.wiring.keys
	return keys.Mode == reencrypt.ModeRefresh &&
		(before.Destination.Material != keys.Destination.Material || len(s.summary.Doubts()) > 0)
}

// comparable returns an earlier pass with its totals. It returns no totals for a pass of
// another job file, and for one that was not complete when this pass began.
func (s *session) comparable(
	ctx context.Context, passes *checkpoint.Passes, earlier int,
) (checkpoint.Pass, map[string]checkpoint.Counts, error) {
	before, err := passes.Pass(ctx, earlier)
	if errors.Is(err, checkpoint.ErrNotFound) {
		return before, nil, nil
	}
	if err != nil {
		return before, nil, err
	}
	same, err := s.job.HasFingerprint(before.Fingerprint)
	if err != nil || before.Status != checkpoint.Finished || !same ||
		before.Ended.After(s.summary.Started) {
		return before, nil, nil
	}
	totals, err := passes.Totals(ctx, before)
	return before, totals, err
}
