package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/plural"
	"rotator/internal/reencrypt"
	"rotator/internal/report"
	"rotator/internal/retry"
)

// contexts refuses encryption contexts for asymmetric keys, which take none. It
// also refuses a move to such a key that would drop a context without
// confirmation in the job file.
func contexts(job *config.Job, keys reencrypt.Keys) error {
	var found []config.Problem
	check := func(field string, context, destination map[string]string) {
		switch {
		case keys.SourceAlgorithm != reencrypt.Symmetric && len(context) > 0:
			found = append(found, job.Problem(field+".context", "the source keys are asymmetric "+
				"and take no encryption context; use only destination_context"))
		case drops(keys, context) && destination == nil:
			found = append(found, job.Problem(field+".context", "the destination key is "+
				"asymmetric: the ciphertexts lose their encryption context, which binds them to "+
				"their item; write destination_context: {} next to it to confirm this"))
		}
		if !keys.Destination.Symmetric() && len(destination) > 0 {
			found = append(found, job.Problem(field+".destination_context",
				"the destination key is asymmetric, which takes no encryption "+
					"context; write {} here"))
		}
	}
	for i, target := range job.Targets {
		field := fmt.Sprintf("targets[%d]", i)
		check(field, target.Context, target.DestinationContext)
		for j, slot := range target.Slots {
			check(fmt.Sprintf("%s.slots[%d]", field, j), slot.Context, slot.DestinationContext)
		}
	}
	return problems(job, found)
}

// drops reports whether a move between the keys drops an encryption context.
func drops(keys reencrypt.Keys, context map[string]string) bool {
	return keys.SourceAlgorithm == reencrypt.Symmetric && !keys.Destination.Symmetric() &&
		len(context) > 0
}

// droppedContexts counts the slots of the job file whose context is dropped.
func droppedContexts(job *config.Job, keys reencrypt.Keys) (n int) {
	for _, target := range job.Targets {
		for _, slot := range target.Slots {
			if drops(keys, slot.Context) {
				n++
			}
		}
	}
	return n
}

// keysAtEnd compares the keys with their state at the beginning of the pass,
// and returns the reasons why the figures are not evidence. Other changes
// become notes.
func (s *session) keysAtEnd(ctx context.Context, began checkpoint.Pass) (doubts []string) {
	if s.summary.Status != report.Complete {
		return nil
	}
	var changes reencrypt.KeyChanges
	err := retry.WithRetry(ctx, keysPatience, "KMS", func(ctx context.Context) (err error) {
		changes, err = reencrypt.CompareKeys(ctx, s.wiring.client, s.wiring.keys,
			began.Destination.Material, s.job.KMS.GrantTokens)
		return err
	})
	if err != nil {
		changes = reencrypt.KeyChanges{
			Notes: []string{"KMS did not describe its keys at the end of " +
				"the pass, so it is unknown whether they changed during the pass"},
		}
		if s.wiring.keys.Mode == reencrypt.ModeRefresh {
			changes.Doubts, changes.Notes = changes.Notes, nil
		}
	}
	s.summary.Notes = append(s.summary.Notes, changes.Notes...)
	return changes.Doubts
}

// retiredKeys notes the source keys that are not usable, and reads their tokens
// from the record of the last pass. It is called before a read-only pass.
func (s *session) retiredKeys(ctx context.Context) {
	var retired []reencrypt.Key
	for _, key := range s.wiring.keys.Sources {
		if key.Unusable.State != "" {
			retired = append(retired, key)
		}
	}
	if len(retired) == 0 {
		return
	}
	known := "no earlier pass of this job is known here"
	if store, err := s.openExisting(ctx, s.job); err == nil {
		last, err := checkpoint.NewPasses(store, s.job.Job).Last(ctx)
		if err == nil {
			s.recordedTokens = last.TokenKeys
			known = fmt.Sprintf("the record of pass %d has the keys of %s", last.Number,
				plural.Count(len(last.TokenKeys), "token"))
		} else if !errors.Is(err, checkpoint.ErrNotFound) {
			known = "the record of the last pass cannot be read: " +
				s.secrets.Text(err.Error())
		}
	}
	for _, key := range retired {
		s.note(fmt.Sprintf("source key %s cannot be used: %s. KMS does not decrypt ciphertexts "+
			"under it. A slot is remaining if KMS has named this key for its header before, and "+
			"is failed (key-disabled) if its key is unknown; %s", key.ARN, key.Unusable.Why,
			known))
	}
}

// note adds a note to the result and logs it.
func (s *session) note(text string) {
	s.logger.Warn(text)
	s.summary.Notes = append(s.summary.Notes, text)
}

// keysPatience is how long KMS may give no usable answer about the keys at the end.
const keysPatience = 5 * time.Second
