package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/plural"
	"rotator/internal/printable"
	"rotator/internal/rotate"
)

// earlyFlags are the flags that stop a command early.
type earlyFlags struct {
	most     string // --max-failures
	failFast bool   // --fail-fast
}

func (f *earlyFlags) ofWriters(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.most, "max-failures", "",
		"stop if more slots fail than this number, or than this share, such as 2%, once "+
			"1,000 slots were tried (default: no limit)")
}

func (f *earlyFlags) ofReaders(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.failFast, "fail-fast", false,
		"stop if the first slots of a target or of an entry of slots all fail or are foreign "+
			"for the same reason, which an error in the job file can cause (stop_after)")
}

// failures parses --max-failures. It is nil without the flag.
func (f *earlyFlags) failures() (*rotate.Failures, error) {
	if f.most == "" {
		return nil, nil
	}
	if text, ok := strings.CutSuffix(f.most, "%"); ok {
		percent, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(percent) || percent < 0 || percent > 100 {
			return nil, usagef("--max-failures %s: a percentage must be 0%% to 100%%", f.most)
		}
		return &rotate.Failures{Share: percent / 100, Percent: true}, nil
	}
	slots, err := strconv.ParseInt(f.most, 10, 64)
	if err != nil || slots < 0 {
		return nil, usagef("--max-failures %s: give a number of slots, or a percentage such as 2%%",
			f.most)
	}
	return &rotate.Failures{Slots: slots}, nil
}

// early returns the conditions under which an engine of this command stops early.
func (s *session) early(engine func() *rotate.Rotator, recorded map[string]string) rotate.Early {
	e := s.stopsEarly
	covers := newTally(s.job, s.wiring.keys, s.wiring.under, func(token string) string {
		return cmp.Or(engine().KeyOfToken(token), recorded[token])
	})
	if covers != nil {
		e.Accepted = func(x checkpoint.LedgerEntry) bool { return covers.Covers(x, time.Now()) }
	}
	return e
}

// passesBack is the maximum number of passes that are read to find the last complete one.
const passesBack = 20

// provenBefore returns a function that reports whether a rule had a success in the last
// complete pass with the same fingerprint before number. It reads the passes once. A pass
// that cannot be read is skipped.
func (s *session) provenBefore(
	ctx context.Context, passes func() *checkpoint.Passes, number func() int,
) func(target, rule string) bool {
	totals := sync.OnceValue(func() map[string]checkpoint.Counts {
		store := passes()
		if store == nil {
			return nil
		}
		last := number()
		for n := last - 1; n > max(0, last-passesBack); n-- {
			pass, err := store.Pass(ctx, n)
			if err != nil || pass.Status != checkpoint.Finished {
				continue
			}
			if same, err := s.job.HasFingerprint(pass.Fingerprint); err != nil || !same {
				continue
			}
			totals, err := store.Totals(ctx, pass)
			if err == nil {
				return totals
			}
		}
		return nil
	})
	return func(target, rule string) bool {
		counts := totals()[target]
		return counts.Rules[rule].Good > 0 || !rotate.Accounted(counts)
	}
}

// earlier returns the passes in the checkpoint of the job for a read-only pass, or nil if
// there are none, and the number after the last of them.
func (s *session) earlier(ctx context.Context) (passes func() *checkpoint.Passes, next func() int) {
	after := 0
	return func() *checkpoint.Passes {
		store, err := s.openExisting(ctx, s.job)
		if err != nil {
			return nil
		}
		p := checkpoint.NewPasses(store, s.job.Job)
		last, err := p.Last(ctx)
		if err != nil {
			return nil
		}
		after = last.Number + 1
		return p
	}, func() int { return after }
}

// warnAlike logs that the first slots of a rule all had the same outcome and reason.
func (s *session) warnAlike(e *rotate.AlikeError) {
	s.logger.Warn(s.alikeText(e))
}

// alikeText describes slots that all had the same outcome and reason, and the probable cause.
func (s *session) alikeText(e *rotate.AlikeError) string {
	entry := e.Target
	if i := s.targetIndex(e.Target); i >= 0 && len(s.job.Targets[i].Slots) > 0 {
		entry = fmt.Sprintf("%s, slots[%d]", e.Target, e.Entry)
	}
	example := string(e.Ref)
	if e.Path != "" {
		example += ", " + e.Path
	}
	return printable.Sprintf("%s: the first %s %s %s/%s: %s (for example %s)",
		entry, plural.Count(e.Slots, "slot"), plural.Form(e.Slots, "is", "are all"),
		e.Outcome, e.Reason, cause(e), example)
}

// cause returns the probable cause of a reason, and what to correct.
func cause(e *rotate.AlikeError) string {
	switch e.Reason {
	case "missing-context":
		return cmp.Or(e.Detail, "the item lacks an attribute that context names") + ". Name a " +
			"value that each item has, or write a constant without ${}"
	case "source-other-context":
		return "context is probably wrong. Write each pair that the application passes to " +
			"Encrypt, and no other; KMS does not report which pair differs"
	case "destination-other-context":
		return "they are under the destination key; destination_context, or context without " +
			"one, is probably wrong"
	case "other-context":
		return "they are under the destination key with the source context; mode: context " +
			"moves them to destination_context"
	case "foreign-key":
		if e.Key != "" {
			return "they are under " + e.Key + ", which source.keys does not name"
		}
		return "they are under a key that source.keys does not name"
	case "plaintext-too-long":
		return "the destination key, which is asymmetric, probably cannot encrypt plaintexts of " +
			"this length"
	case "invalid-ciphertext":
		return "context, path or format is probably wrong, or the values were never encrypted"
	case "wrong-type":
		return "the path leads to values of another type; path or format is probably wrong"
	case "key-pattern":
		return "the keys of the items do not match key_pattern"
	}
	return "format or path is probably wrong"
}

// fieldOf returns the field of the job file that probably causes a reason.
func (s *session) fieldOf(e *rotate.AlikeError) string {
	i := s.targetIndex(e.Target)
	if i < 0 {
		return "targets"
	}
	target := fmt.Sprintf("targets[%d]", i)
	slot := target
	if len(s.job.Targets[i].Slots) > 0 {
		slot = fmt.Sprintf("%s.slots[%d]", target, e.Entry)
	}
	switch e.Reason {
	case "source-other-context", "missing-context":
		return slot + ".context"
	case "destination-other-context", "other-context":
		return slot + ".destination_context"
	case "foreign-key":
		return "source.keys"
	case "plaintext-too-long":
		return "destination.key"
	case "key-pattern":
		return target
	}
	return slot
}

// targetIndex returns the index of a target in the job file, or -1.
func (s *session) targetIndex(name string) int {
	for i, target := range s.job.Targets {
		if target.Name == name {
			return i
		}
	}
	return -1
}

// stoppedEarly replaces the error of a run that stopped because the job file seems wrong with
// one that names its line and states how to continue. It must be called after the summary
// has its figures.
func (s *session) stoppedEarly(worked error) error {
	alike, failures := (*rotate.AlikeError)(nil), (*rotate.FailuresError)(nil)
	switch {
	case errors.As(worked, &alike):
		return &hintedError{
			err: &config.Problems{File: s.job.File(), List: []config.Problem{
				s.job.Problem(s.fieldOf(alike), s.alikeText(alike))}},
			hint: s.alikeHint(),
		}
	case errors.As(worked, &failures):
		return &hintedError{err: worked, hint: "correct the cause. rotator report --ledger " +
			"lists the failed slots that were saved, and rotator retry tries them again. " +
			"rotator run then continues the pass"}
	}
	return worked
}

func (s *session) alikeHint() string {
	if s.found != nil {
		return fmt.Sprintf("correct the job file and run rotator %s again; if the job file is "+
			"right, run it without --fail-fast", s.summary.Command)
	}
	how := "rotator run begins a new pass with it"
	if s.summary.Slots.Rotated > 0 {
		how = "rotator run --restart begins a new pass with it, which counts the slots that " +
			"were moved as current"
	}
	return "correct the job file: " + how + ". If the job file is right, set stop_after: 0 " +
		"there: rotator run continues this pass"
}

// isAlike reports whether a run stopped because the job file seems wrong.
func isAlike(worked error) bool {
	alike := (*rotate.AlikeError)(nil)
	return errors.As(worked, &alike)
}
