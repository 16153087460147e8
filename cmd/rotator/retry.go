package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/report"
	"rotator/internal/rotate"
)

func newRetryCommand(std streams) *cobra.Command {
	var flags earlyFlags
	cmd := kmsCommand(std, "retry", "Try the slots in the ledger of the last pass again",
		`Try the slots in the ledger of the last pass again: those that failed, were foreign, or
kept changing. A slot that is moved leaves the ledger, and the counts of the pass change
accordingly. Retry does not scan the targets.

Exit codes: 0 the ledger is empty, or accept rules cover all its slots; 3 the ledger has
other slots, or a target or slot rule found no ciphertext. For other codes see
docs/exit-codes.md.`,
		func(ctx context.Context, c *jobFlags, job *config.Job) error {
			return retryJob(ctx, c, job, &flags)
		})
	flags.ofWriters(cmd)
	return cmd
}

func retryJob(ctx context.Context, c *jobFlags, job *config.Job, flags *earlyFlags) error {
	most, err := flags.failures()
	if err != nil {
		return err
	}
	last, release := shutdownContext(ctx)
	defer release()
	s, err := open(ctx, c, job, "retry")
	if err != nil {
		return err
	}
	existing, err := c.openExisting(ctx, job)
	if err == nil {
		_, err = lastPass(ctx, checkpoint.NewPasses(existing, job.Job), job)
	}
	if err != nil {
		return err // before a lock and an audit log are created
	}
	state, err := openState(ctx, s.jobFlags, job)
	if err != nil {
		return err
	}
	defer state.close()
	passes := checkpoint.NewPasses(state.store, job.Job)
	record, err := s.lastOfJob(ctx, passes)
	if err != nil {
		return err
	}
	p := &pass{passes: passes, record: record}
	records, err := recordsOf(ctx, passes, record)
	if err != nil {
		return err
	}
	s.checkAuditLogs(state, records.Logs())
	targets, err := s.paddedTargets(ctx, records)
	if err != nil {
		return err
	}
	observer, err := passes.ObservePass(ctx, record.Number, state.worker, state.lease)
	if err != nil {
		return &storageError{what: "join the pass", err: err}
	}
	state.passBegins(job)
	s.summary.Pass = record.Number
	s.stopsEarly.Most = most
	engine := s.rotator(targets, record, state.log, nil)
	s.stop.reached(working, "")
	worked := s.withKeyState(ctx, engine.Retry(ctx, passes, record, observer))
	s.count(engine)
	return s.afterRetry(last, p, state, worked)
}

// afterRetry saves and prints the result of a retry that is complete or was ended by worked, and
// returns the error of the command.
func (s *session) afterRetry(ctx context.Context, p *pass, state *state, worked error) error {
	record := p.record
	s.summary.Ended = time.Now().UTC()
	s.summary.Status = report.Stopped
	if worked == nil && record.Status == checkpoint.Finished {
		s.summary.Status = report.Complete
	}
	s.alike = isAlike(worked)
	err := s.finish(ctx, p, state)
	s.uploadEvidence(ctx, state)
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
	if record.Status == checkpoint.Finished {
		return s.exceptions()
	}
	return &outcomeError{code: exitInterrupted, text: fmt.Sprintf("the slots in the ledger "+
		"were tried again, but pass %d is not finished; rotator run resumes it", record.Number)}
}

// lastOfJob returns the last pass if it matches the job file.
func (s *session) lastOfJob(
	ctx context.Context, passes *checkpoint.Passes,
) (record checkpoint.Pass, err error) {
	if record, err = lastPass(ctx, passes, s.job); err != nil {
		return record, err
	}
	same, err := s.job.HasFingerprint(record.Fingerprint)
	if err != nil {
		return record, err
	}
	if !same {
		return record, problem(s.job, "job", "the targets, slots or keys of the job file differ "+
			"from those of the last pass; rotator run starts a new pass")
	}
	if err := rotate.SameKeys(record, s.wiring.keys); err != nil {
		return record, err
	}
	if record, err = passes.Identify(ctx, record); err != nil {
		return record, &storageError{what: "save the pass", err: err}
	}
	return s.noteOtherPlaces(ctx, passes, record)
}
