package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/report"
	"rotator/internal/verdict"
)

// storedPass is a stored pass of a job, with its figures as Decide needs them.
type storedPass struct {
	summary *report.Summary
	pass    verdict.Pass
	proves  bool // the pass can be the proof
}

// provesFor sets whether the pass can be the proof of a job.
func (k *storedPass) provesFor(job *config.Job) {
	k.proves = k.pass.Complete && !k.pass.OtherJob && k.pass.HasVersions(job.VersionsOf())
}

// storedPasses holds the passes that can affect a verdict: the newest complete pass, all passes
// that began later, and earlier ones that read other targets. They are sorted, the newest first.
type storedPasses []storedPass

// maxHistory is the maximum number of passes of each kind that are read.
const maxHistory = 200

// readHistory reads the stored passes of a job. waivers are those whose slots are looked up in the
// ledgers. unread names earlier passes that cannot be read.
func readHistory(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job, waivers []verdict.Waiver,
) (all storedPasses, unread []string, err error) {
	writing, err := writingPasses(ctx, passes, job, waivers)
	if err != nil {
		return nil, nil, err
	}
	reading, err := readingPasses(ctx, passes, job, waivers)
	if err != nil {
		return nil, nil, err
	}
	newest := append(writing, reading...)
	all, unread, err = withEarlier(ctx, passes, job, waivers, newest)
	slices.SortStableFunc(all, func(a, b storedPass) int {
		return b.pass.Started.Compare(a.pass.Started)
	})
	return all, unread, err
}

// enough reports whether earlier passes cannot affect a verdict: the newest complete pass is known,
// and p ended before it began.
func (h storedPasses) enough(p verdict.Pass) bool {
	for _, k := range h {
		if k.proves && !p.Ended.IsZero() && p.Ended.Before(k.pass.Started) {
			return true
		}
	}
	return len(h) >= maxHistory
}

// writingPasses reads the passes of runs, the last one first.
func writingPasses(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job, waivers []verdict.Waiver,
) (list storedPasses, err error) {
	record, err := passes.Last(ctx)
	last := record.Number
	for number := last; last-number < maxHistory; number-- {
		if number != last {
			record, err = passes.Pass(ctx, number)
		}
		switch {
		case errors.As(err, new(*checkpoint.PrunedError)):
			continue // prune keeps the newest complete pass
		case errors.Is(err, checkpoint.ErrNotFound):
			return list, nil
		case err != nil:
			return nil, &storageError{what: "read the checkpoint", err: err}
		}
		k, err := keptPassOf(ctx, passes, record, job, waivers)
		if err != nil {
			return nil, err
		}
		if list.enough(k.pass) {
			return list, nil
		}
		list = append(list, k)
	}
	return list, nil
}

// keptPassOf reads the figures of the pass of runs.
func keptPassOf(
	ctx context.Context, passes *checkpoint.Passes, record checkpoint.Pass, job *config.Job,
	waivers []verdict.Waiver,
) (k storedPass, err error) {
	records, err := recordsOf(ctx, passes, record)
	if err != nil {
		return k, err
	}
	if k.summary, err = figuresOf(ctx, records, record, job, "report"); err != nil {
		return k, err
	}
	k.pass = k.summary.VerdictPass()
	same, err := job.HasFingerprint(record.Fingerprint)
	if err != nil {
		return k, err
	}
	k.pass.OtherJob = !same
	k.provesFor(job)
	if record.Status != checkpoint.Finished {
		if k.pass.Ended, err = lastSaved(ctx, passes, record); err != nil {
			return k, err
		}
	}
	if len(waivers) == 0 {
		return k, nil
	}
	for chunk, err := range records.Ledger(ctx) {
		if err != nil {
			return k, &storageError{what: "read the ledger", err: err}
		}
		k.pass.Exceptions = append(k.pass.Exceptions,
			waivable(chunk.Entries, record.TokenKeys, waivers)...)
	}
	return k, nil
}

// lastSaved returns when a pass that is not finished was saved last. Nothing worked on it later,
// except for writes that were not saved, and these remove ciphertexts from the source keys.
func lastSaved(
	ctx context.Context, passes *checkpoint.Passes, record checkpoint.Pass,
) (last time.Time, err error) {
	last = record.Started
	for t, target := range record.Targets {
		for i := range target.Partitions {
			progress, err := passes.Progress(ctx, record.Number, t, i)
			if err != nil {
				return last, &storageError{what: "read the checkpoint", err: err}
			}
			if progress.Saved.After(last) {
				last = progress.Saved
			}
		}
	}
	return last, nil
}

// readingPasses reads the read-only passes, the last one first.
func readingPasses(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job, waivers []verdict.Waiver,
) (list storedPasses, err error) {
	for read, err := range passes.ReadPasses(ctx) {
		if err != nil {
			return nil, &storageError{what: "read the checkpoint", err: err}
		}
		k, err := readPassOf(read, job, waivers)
		if err != nil {
			return nil, err
		}
		if list.enough(k.pass) {
			break
		}
		list = append(list, k)
	}
	return list, nil
}

// readPassOf returns the figures of a read-only pass.
func readPassOf(
	read checkpoint.ReadPass, job *config.Job, waivers []verdict.Waiver,
) (k storedPass, err error) {
	same, err := job.HasFingerprint(read.Fingerprint)
	if err != nil {
		return k, err
	}
	k.summary = readSummary(read, job.Job, "report")
	k.pass = k.summary.VerdictPass()
	k.pass.OtherJob = !same
	k.provesFor(job)
	k.pass.Exceptions = waivable(read.Failed, read.TokenKeys, waivers)
	return k, nil
}

// waivable returns the failed slots that waivers name. A slot that kept changing, or for which a
// service failed, cannot be waived: it must be tried again.
func waivable(
	entries []checkpoint.LedgerEntry, tokens map[string]string, waivers []verdict.Waiver,
) (list []verdict.Exception) {
	for _, e := range entries {
		if e.Outcome != "failed" || e.Reason == "service-error" {
			continue
		}
		names := func(w verdict.Waiver) bool {
			return w.Target == e.Target && w.Ref == e.Ref && w.Path == e.Path
		}
		if !slices.ContainsFunc(waivers, names) {
			continue
		}
		origin := string(e.Origin)
		if token, ok := e.Origin.Token(); ok {
			origin = cmp.Or(tokens[token], origin)
		}
		list = append(list, verdict.Exception{
			Target: e.Target,
			Ref:    e.Ref,
			Path:   e.Path,
			Blob:   e.Blob,
			Origin: origin,
		})
	}
	return list
}

// passes returns the passes for Decide, without the one that own is.
func (h storedPasses) passes(own verdict.Pass) (list []verdict.Pass) {
	for _, k := range h {
		p := k.pass
		if own.Number > 0 && p.Number == own.Number && p.ReadOnly == own.ReadOnly {
			continue
		}
		list = append(list, p)
	}
	return list
}

// provenBy returns stored passes of which only that of s can be the proof.
func (h storedPasses) provenBy(s *report.Summary) storedPasses {
	own := storedPass{summary: s, pass: s.VerdictPass()}
	list := storedPasses{}
	for _, k := range h {
		if k.pass.Number == own.pass.Number && k.pass.ReadOnly == own.pass.ReadOnly {
			own.pass.Exceptions, own.pass.OtherJob = k.pass.Exceptions, k.pass.OtherJob
			continue
		}
		k.pass.Barred = true
		list = append(list, k)
	}
	return append(storedPasses{own}, list...)
}

// exceptions returns the failed slots that waivers name, of the newest complete pass and of later
// ones, and of targets that these did not read.
func (h storedPasses) exceptions() (list []verdict.Exception) {
	read, proven := map[string]bool{}, false
	for _, k := range h {
		for _, e := range k.pass.Exceptions {
			if !proven || !read[e.Target] {
				list = append(list, e)
			}
		}
		proven = proven || k.proves
		for _, t := range k.summary.Targets {
			read[t.Name] = true
		}
	}
	return list
}

// newest returns the summary of the newest pass of this job file, or of the newest pass.
func (h storedPasses) newest() *report.Summary {
	for _, k := range h {
		if !k.pass.OtherJob {
			return k.summary
		}
	}
	return h[0].summary
}

// newer returns the newest read-only pass of this job file, if it began later than the pass of s.
func (h storedPasses) newer(s *report.Summary, job *config.Job) *report.Newer {
	for _, k := range h {
		switch {
		case s.Pass == 0 || !k.pass.Started.After(s.Started):
			return nil
		case k.pass.ReadOnly && !k.pass.OtherJob && k.pass.Number > 0:
			return &report.Newer{ReadPass: k.pass.Number, Command: readPassCommand(job,
				k.pass.Number)}
		}
	}
	return nil
}

// readPassCommand returns the command line that prints a read-only pass.
func readPassCommand(job *config.Job, number int) string {
	return fmt.Sprintf("rotator report -f %s --read-pass %d", shellWord(job.File()), number)
}

// check refuses figures that contradict each other.
func (h storedPasses) check() error {
	for _, k := range h {
		if err := addsUp(k.summary); err != nil {
			return err
		}
	}
	return nil
}
