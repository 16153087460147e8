package main

import (
	"context"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/reencrypt"
	"rotator/internal/rotate"
)

// withPadding sets the padding of the formats of targets from the totals of a
// pass: whether the texts of each rule are padded. It returns the names of the
// targets whose formats changed. It must be called only after all items have
// been counted. The result then depends neither on the order in which items are
// read nor on the number of processes.
func withPadding(targets []rotate.Target, totals map[string]checkpoint.Counts) map[string]bool {
	changed := map[string]bool{}
	for i := range targets {
		t := &targets[i]
		format, ok := t.Format.(*ciphertext.Compiled)
		if !ok {
			continue
		}
		seen := ciphertext.PaddingSeen{}
		for number, rule := range format.Rules() {
			n := totals[t.Name].Rules[rule.Name]
			seen[number] = ciphertext.PaddingCount{Padded: n.Padded, Unpadded: n.Unpadded}
		}
		if padded := format.WithPadding(seen); padded != format {
			t.Format, changed[t.Name] = padded, true
		}
	}
	return changed
}

// paddedTargets returns the targets with the padding that a pass has counted.
func (s *session) paddedTargets(
	ctx context.Context, records *checkpoint.Records,
) ([]rotate.Target, error) {
	totals, err := records.Totals(ctx)
	if err != nil {
		return nil, &storageError{what: "read the pass", err: err}
	}
	targets := s.targets(true)
	withPadding(targets, totals)
	return targets, nil
}

// settlePadding moves, at the end of a pass, the ciphertexts that could not be
// written because the padding of their writer was unknown. They are in the
// ledger, so a run that resumes the pass moves them too.
func (s *session) settlePadding(
	ctx context.Context, p *pass, state *state, targets []rotate.Target,
) error {
	records, err := p.recordsAtEnd(ctx)
	if err != nil {
		return err
	}
	totals, err := records.Totals(ctx)
	if err != nil {
		return &storageError{what: "read the pass", err: err}
	}
	unwritten := map[string]bool{}
	for name := range withPadding(targets, totals) {
		reason := string(reencrypt.Failed) + "/" + ciphertext.ReasonCannotSplice
		unwritten[name] = totals[name].Reasons[reason] > 0
	}
	which := func(e checkpoint.LedgerEntry) bool {
		return unwritten[e.Target] && e.Reason == ciphertext.ReasonCannotSplice
	}
	if !anyTrue(unwritten) {
		return nil
	}
	observer, err := p.passes.ObservePass(ctx, p.record.Number, state.worker, state.lease)
	if err != nil {
		return &storageError{what: "join the pass", err: err}
	}
	p.atEnd = nil
	engine := s.rotator(targets, p.record, state.log, nil)
	err = engine.RetryWhere(ctx, p.passes, p.record, observer, which)
	headers := s.headers // of the run; a retry does not use headers
	s.count(engine)
	s.headers, s.summary.Ended = headers, time.Now().UTC()
	return err
}

func anyTrue(set map[string]bool) bool {
	for _, is := range set {
		if is {
			return true
		}
	}
	return false
}
