package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/reencrypt"
	"rotator/internal/report"
)

// readKeeper stores the result of an audit or verify in the checkpoint as a read-only
// pass. A failure changes neither the result nor the exit code.
type readKeeper struct {
	flags  []string
	before *checkpoint.LastPass // when reading began; nil if it is unknown
}

// newReadKeeper reads the last pass. It must be called before the targets are read.
func (s *session) newReadKeeper(ctx context.Context, flags *readFlags) *readKeeper {
	k := &readKeeper{flags: flags.set()}
	ctx, cancel := context.WithTimeout(ctx, s.checkpointTime(joinTime))
	defer cancel()
	store, err := s.storeToRead(ctx)
	if absent(err) {
		k.before = &checkpoint.LastPass{}
	}
	if err == nil {
		k.before, _ = checkpoint.NewPasses(store, s.job.Job).LastPass(ctx) // nil after an error
	}
	return k
}

// absent reports whether err means that the checkpoint does not exist.
func absent(err error) bool {
	problems := (*config.Problems)(nil)
	return errors.As(err, &problems) || errors.Is(err, checkpoint.ErrNotFound)
}

// storeToRead opens the checkpoint of the job. The request to a shared checkpoint may take
// joinTime.
func (s *session) storeToRead(ctx context.Context) (checkpoint.Store, error) {
	place := s.job.CheckpointLocation()
	if place.Shared() {
		return s.sharedStore(ctx, s.job, s.checkpointTime(joinTime))
	}
	return checkpoint.OpenFile(place.File)
}

// storeToWrite opens the checkpoint of the job. It creates a file, but neither a table nor
// a bucket.
func (s *session) storeToWrite(ctx context.Context) (checkpoint.Store, error) {
	place := s.job.CheckpointLocation()
	store, err := s.storeToRead(ctx)
	if !place.Shared() && errors.Is(err, checkpoint.ErrNotFound) {
		if err := os.MkdirAll(filepath.Dir(place.File), 0o700); err != nil {
			return nil, err
		}
		return checkpoint.CreateFileIfAbsent(place.File)
	}
	if probed, ok := store.(*checkpoint.S3); ok && err == nil {
		err = probed.CheckConditions(ctx)
	}
	return store, err
}

// keep stores the read-only pass p of a session, and adds its number to the summary. If it
// cannot be stored, keep adds a note. The summary must be complete.
func (k *readKeeper) keep(ctx context.Context, s *session, p *pass) {
	if k == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.checkpointTime(joinTime))
	defer cancel()
	number, err := k.store(ctx, s, p)
	if err != nil {
		note := fmt.Sprintf("this result is not stored as a read-only pass: %s. "+
			"--no-store turns this off", s.secrets.Text(s.headline(err)))
		s.logger.Warn(note)
		s.summary.Notes = append(s.summary.Notes, note)
		return
	}
	s.summary.ReadPass = number
}

func (k *readKeeper) store(ctx context.Context, s *session, p *pass) (number int, err error) {
	store, err := s.storeToWrite(ctx)
	if err != nil {
		return 0, err
	}
	passes := checkpoint.NewPasses(store, s.job.Job)
	read, err := s.readPass(ctx, p)
	if err != nil {
		return 0, err
	}
	read.Flags, read.LastPass = k.flags, k.before
	read.LastPassAtEnd, _ = passes.LastPass(ctx) // nil after an error
	read, err = passes.StoreReadPass(ctx, read)
	return read.Number, err
}

// readPass returns the record of a read-only pass.
func (s *session) readPass(ctx context.Context, p *pass) (checkpoint.ReadPass, error) {
	totals, err := p.passes.Totals(ctx, p.record)
	if err != nil {
		return checkpoint.ReadPass{}, err
	}
	sum := s.summary
	read := checkpoint.ReadPass{
		Command:      sum.Command,
		Caller:       sum.Caller,
		Account:      sum.Account,
		Host:         hostname(),
		Began:        sum.Started,
		Ended:        sum.Ended,
		Status:       checkpoint.Stopped,
		Exact:        s.exact,
		Version:      sum.Version,
		Fingerprint:  p.record.Fingerprint,
		Mode:         p.record.Mode,
		Destination:  p.record.Destination,
		Sources:      s.sources(),
		Any:          p.record.Any,
		KMS:          checkpoint.ReadRequests(sum.KMS),
		Sample:       s.headers.sample,
		HeadersWrong: s.disagreed,
		TokenKeys:    s.tokenKeys(p),
		Examples:     exceptionsToKeep(sum.Reasons, s.found.listed),
		Failed:       s.found.failed.list,
		Doubts:       sum.Doubts(),
		Notes:        sum.Notes,
	}
	read.RequestIDs, read.RequestsFrom = s.requestsToKeep(sum.Started)
	if sum.Status == report.Complete {
		read.Status = checkpoint.Finished
	}
	for _, a := range sum.Accepted {
		read.Accepted = append(read.Accepted, checkpoint.AcceptedSlots(a))
	}
	for _, u := range sum.NotProven {
		if len(u.Near) > 0 {
			near := checkpoint.NearNames{Target: u.Target, Rule: u.Rule, Names: u.Near}
			read.Near = append(read.Near, near)
		}
	}
	for i, info := range s.infos() {
		read.Targets = append(read.Targets, checkpoint.ReadTarget{
			Content:    sum.Targets[i].ContentDigest,
			Name:       info.Name,
			Location:   info.Location,
			MayBeEmpty: info.MayBeEmpty,
			EmptyRules: info.EmptyRules,
			Complete:   info.Complete,
			Counts:     totals[info.Name],
			Versions:   s.versionsOf(info.Name),
		})
	}
	return read, nil
}

// keptRequestIDs is the maximum size in bytes of the request ids in a stored read-only pass: 787
// ids as KMS writes them.
const keptRequestIDs = 30 << 10

// requestsToKeep returns the ids of the last requests that used a source key, the newest first, and
// the time since which they are all. began is when the pass began.
func (s *session) requestsToKeep(began time.Time) (ids []string, from time.Time) {
	var sent []reencrypt.SentRequest
	more := false
	for _, engine := range s.engines {
		recent := engine.RecentRequests()
		more = more || len(recent) == reencrypt.RecentRequests
		sent = append(sent, recent...)
	}
	return newestIDs(sent, more, began)
}

// newestIDs implements requestsToKeep. more is true if sent may lack earlier requests.
func newestIDs(
	sent []reencrypt.SentRequest, more bool, began time.Time,
) (ids []string, from time.Time) {
	slices.SortStableFunc(sent, func(a, b reencrypt.SentRequest) int { return b.At.Compare(a.At) })
	left := keptRequestIDs
	for i, r := range sent {
		left -= len(r.ID) + len(`"",`)
		if left < 0 || i == reencrypt.RecentRequests {
			more = true
			break
		}
		ids = append(ids, r.ID)
	}
	if more && len(ids) > 0 {
		return ids, sent[len(ids)-1].At.UTC()
	}
	return ids, began
}

// keptExamples is the maximum size in bytes of the exceptions in a stored read-only pass, without
// those for waivers.
const keptExamples = 30 << 10

// exceptionsToKeep returns the exceptions for the record of a read-only pass: the examples of the
// reasons, and then as many of the listed ones as fit.
func exceptionsToKeep(
	reasons []report.Reason, listed []checkpoint.LedgerEntry,
) (list []checkpoint.LedgerEntry) {
	type slot struct{ target, ref, path string }
	whole := map[slot]checkpoint.LedgerEntry{}
	for _, e := range listed {
		whole[slot{e.Target, e.Ref, e.Path}] = e
	}
	left, kept := keptExamples, map[slot]bool{}
	keep := func(e checkpoint.LedgerEntry) {
		at, size := slot{e.Target, e.Ref, e.Path}, sizeOf(e)
		if kept[at] || size > left {
			return
		}
		kept[at] = true
		left -= size
		list = append(list, e)
	}
	for _, r := range reasons {
		for _, e := range r.Examples {
			entry, known := whole[slot{e.Target, e.Ref, e.Path}]
			if !known {
				entry = checkpoint.LedgerEntry{
					Target:  e.Target,
					Ref:     e.Ref,
					Path:    e.Path,
					Outcome: r.Outcome,
					Reason:  r.Reason,
					Detail:  e.Detail,
					Key:     e.Key,
				}
			}
			keep(entry)
		}
	}
	for _, e := range listed {
		keep(e)
	}
	return list
}

// readSummary returns the summary of a stored read-only pass. It depends only on the
// record, not on the current job file.
func readSummary(read checkpoint.ReadPass, job, command string) *report.Summary {
	s := &report.Summary{
		Job:                 job,
		Command:             command,
		Mode:                report.Mode(read.Mode),
		ReadPass:            read.Number,
		Status:              report.Stopped,
		KMS:                 report.KMS(read.KMS),
		Account:             read.Account,
		Caller:              read.Caller,
		AsOf:                read.Began,
		Started:             read.Began,
		Ended:               read.Ended,
		DestinationKey:      read.Destination.ARN,
		DestinationMaterial: read.Destination.Material,
		Version:             read.Version,
	}
	if read.Status == checkpoint.Finished {
		s.Status = report.Complete
	}
	s.SetSources(read.Sources, read.Any)
	s.SetTargets(readInfos(read), read.Totals())
	s.SetContentDigests(read.ContentDigests())
	s.SetVersions(read.Versions())
	s.ResolveTokens(func(token string) string { return read.TokenKeys[token] })
	var examples report.Examples
	for _, e := range read.Examples {
		examples.Add(e)
	}
	s.SetExamples(&examples)
	var accepted []report.Accepted
	for _, a := range read.Accepted {
		accepted = append(accepted, report.Accepted(a))
	}
	s.SetAccepted(accepted)
	s.SetNear(read.Near)
	s.SetSamples([]checkpoint.Sample{read.Sample})
	for _, doubt := range read.Doubts {
		s.Doubt(doubt)
	}
	s.Conclude()
	s.Notes = read.Notes // instead of those that the calls above added again
	return s
}

func readInfos(read checkpoint.ReadPass) (infos []report.TargetInfo) {
	for _, t := range read.Targets {
		infos = append(infos, report.TargetInfo{
			Name:       t.Name,
			Location:   t.Location,
			MayBeEmpty: t.MayBeEmpty,
			EmptyRules: t.EmptyRules,
			Complete:   t.Complete,
		})
	}
	return infos
}
