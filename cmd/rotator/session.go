package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"rotator/internal/accept"
	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/plural"
	"rotator/internal/redact"
	"rotator/internal/reencrypt"
	"rotator/internal/report"
	"rotator/internal/retry"
	"rotator/internal/rotate"
	"rotator/internal/version"
)

// settle is the time for which a run waits for an unusable key to become usable before it
// stops. A change of the state of a key takes effect in all of KMS within tens of seconds.
const settle = 30 * time.Second

// session is one command that works on one job.
type session struct {
	*jobFlags
	job     *config.Job
	wiring  *wiring
	summary *report.Summary
	headers headers
	// versions are the counts of old versions that a read-only pass read, by target.
	versions map[string]checkpoint.Counts
	tally    *accept.Tally     // of exceptions, for the accept rules; nil without rules
	engines  []*rotate.Rotator // that have worked
	// recordedTokens maps header tokens to keys, as learned by earlier runs of the
	// pass or earlier passes of the job.
	recordedTokens map[string]string
	found          *exceptions  // of a read-only pass; nil for others
	keeper         *readKeeper  // of a read-only pass; nil if it is not stored
	contents       *contents    // of a read-only pass; nil without a content digest
	asked          verdictFlags // of a read-only pass: what AWS states about keys and copies
	disagreed      string       // how headers disagreed with KMS in a first, discarded read
	// stopsEarly holds the conditions under which an engine stops early, except those that
	// need the engine.
	stopsEarly rotate.Early
	alike      bool // a run stopped because the job file seems wrong
	// shares is rotate.Config.Shares of a command that works on no pass but divides the
	// rate with the runs of the job.
	shares func(use func(checkpoint.Share))
}

// headers is what a run has found out about ciphertext headers.
type headers struct {
	agree bool   // KMS confirmed the random sample
	wrong string // how headers disagreed with KMS; "" if they did not
	// sample describes the sample of the last engine.
	sample checkpoint.Sample
}

// shutdownGrace is the maximum time from a stop signal to the end of the command, even if a
// service does not respond. It is one second longer than that of the engine, so that the
// result can be saved.
const shutdownGrace = 9 * time.Second

// shutdownContext returns a context for saving the result of a command. It ends shutdownGrace
// after ctx is canceled, or when release is called.
func shutdownContext(ctx context.Context) (longer context.Context, release func()) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(shutdownGrace, cancel) })
	return longer, func() {
		stop()
		cancel()
	}
}

// open checks the job against its services and returns a session. command is its name in the
// result.
func open(ctx context.Context, c *jobFlags, job *config.Job, command string) (*session, error) {
	w, err := wire(ctx, c, job, command)
	if err != nil {
		return nil, err
	}
	s := &session{jobFlags: c, job: job, wiring: w, summary: &report.Summary{
		Job:                 job.Job,
		Command:             command,
		Mode:                report.Mode(job.Mode),
		DestinationMaterial: w.keys.Destination.Material,
		Started:             time.Now().UTC(),
		DestinationKey:      w.keys.Destination.ARN,
		Account:             w.account,
		Caller:              w.caller,
		Version:             version.String(),
		Keys:                []report.Key{},
		Reasons:             []report.Reason{},
		Targets:             []report.Target{},
		Notes:               redacted(c.secrets, w.notes),
	}}
	s.summary.SetSources(s.sources(), w.keys.Any)
	return s, nil
}

// targets returns the targets of the job for the engine. If write is false, they have no
// writer, so the engine cannot change them.
func (s *session) targets(write bool) []rotate.Target {
	var targets []rotate.Target
	for i, p := range s.wiring.targets {
		t := rotate.Target{
			Name:      p.name,
			Lister:    p.source,
			Format:    p.format,
			Batch:     p.source.Batch(),
			Location:  p.where,
			Own:       p.own.recognise,
			Partial:   p.partial,
			StopAfter: s.job.StopAfters(i),
		}
		if write {
			t.Writer = p.source
			if files, ok := p.source.(interface{ Sweep() }); ok {
				files.Sweep()
			}
		}
		targets = append(targets, t)
	}
	return targets
}

// rotator returns the engine for one pass. begin is rotate.Config.BeginHeaders.
func (s *session) rotator(
	targets []rotate.Target,
	pass checkpoint.Pass,
	recorder rotate.Recorder,
	begin func(context.Context) (bool, error),
) *rotate.Rotator {
	var engine *rotate.Rotator
	config := s.engineConfig(targets, pass, recorder)
	config.BeginHeaders, config.Exceptions = begin, s.excepted
	if s.contents != nil {
		config.Contents = s.contents
	}
	config.Early = s.early(func() *rotate.Rotator { return engine }, pass.TokenKeys)
	engine = rotate.New(config)
	s.tally = newTally(s.job, s.wiring.keys, s.wiring.under, func(token string) string {
		return cmp.Or(engine.KeyOfToken(token), pass.TokenKeys[token])
	})
	return engine
}

// engineConfig returns the configuration of an engine that does not stop early and has no record of
// headers and exceptions.
func (s *session) engineConfig(
	targets []rotate.Target, pass checkpoint.Pass, recorder rotate.Recorder,
) rotate.Config {
	s.outages.SetPatience(time.Duration(s.job.MaxOutage))
	return rotate.Config{
		Targets:     targets,
		Keys:        s.wiring.keys,
		KMS:         s.wiring.kms,
		KeyState:    reencrypt.DescribeKeyState(s.wiring.client, s.job.KMS.GrantTokens),
		Rate:        s.wiring.rate,
		Limiter:     s.wiring.limiter,
		Shares:      s.shares,
		Workers:     s.job.Workers,
		MostWorkers: mostWorkers(),
		MaxOutage:   time.Duration(s.job.MaxOutage),
		Settle:      settle,
		Pass:        pass.Number,
		Identity:    pass.Identity(),
		Recorder:    recorder,
		Logger:      s.logger,
		Exact:       s.exact,
		KnownTokens: s.recordedTokens,
	}
}

// excepted receives the exceptions of a pass without a ledger.
func (s *session) excepted(exceptions []checkpoint.LedgerEntry) error {
	if s.tally != nil {
		for _, e := range exceptions {
			s.tally.Add(e)
		}
	}
	if s.found == nil {
		return nil
	}
	return s.found.add(exceptions)
}

func (s *session) plan(targets []rotate.Target) (rotate.Plan, error) {
	print, err := s.job.Fingerprint()
	if err != nil {
		return rotate.Plan{}, err
	}
	before, err := s.job.FingerprintBefore()
	return rotate.Plan{Job: s.job.Job, Fingerprint: print, Before: before, Keys: s.wiring.keys,
		Targets: targets, Account: s.wiring.account, Caller: s.wiring.caller}, err
}

// pass is the pass of a session, with its store and tracker.
type pass struct {
	passes     *checkpoint.Passes
	record     checkpoint.Pass
	partitions []rotate.Partition
	tracker    *checkpoint.Tracker
	atEnd      *checkpoint.Records // nil until they are read
}

// recordsAtEnd returns the records of the partitions. It reads them once, so it must be called
// only when the engine has stopped. Code that changes them later must reset atEnd.
func (p *pass) recordsAtEnd(ctx context.Context) (*checkpoint.Records, error) {
	if p.atEnd != nil {
		return p.atEnd, nil
	}
	records, err := p.passes.Records(ctx, p.record)
	if err != nil {
		return nil, &storageError{what: "read the pass", err: err}
	}
	p.atEnd = records
	return records, nil
}

// openPass resumes or starts a pass in store.
func (s *session) openPass(
	ctx context.Context,
	store checkpoint.Store,
	targets []rotate.Target,
	options checkpoint.TrackOptions,
	restart bool,
) (*pass, error) {
	plan, err := s.plan(targets)
	if err != nil {
		return nil, err
	}
	passes := checkpoint.NewPasses(store, s.job.Job)
	opened, err := rotate.OpenPass(ctx, passes, plan, restart)
	if err != nil {
		return nil, err
	}
	for _, note := range opened.Notes {
		s.logger.Info(note)
	}
	if opened.Pass, err = s.noteOtherPlaces(ctx, passes, opened.Pass); err != nil {
		return nil, err
	}
	tracker, err := passes.Track(ctx, opened.Pass, options)
	if err != nil {
		return nil, &storageError{what: "read the checkpoint", err: err}
	}
	return &pass{
		passes:     passes,
		record:     opened.Pass,
		partitions: opened.Partitions,
		tracker:    tracker,
	}, nil
}

// work runs the engine on the pass, reports progress on stderr, and adds the counts of the
// engine to the summary.
func (s *session) work(ctx context.Context, engine *rotate.Rotator, p *pass) error {
	stop := s.progress(engine, p.tracker)
	err := engine.Run(ctx, p.tracker, p.partitions)
	stop()
	err = s.withKeyState(ctx, err)
	s.summary.Ended = time.Now().UTC()
	s.count(engine)
	s.summary.Status = report.Complete
	if err != nil {
		s.summary.Status = report.Stopped
	}
	return err
}

// count adds the number of requests of an engine, and of those that it avoided.
func (s *session) count(engine *rotate.Rotator) {
	s.engines = append(s.engines, engine)
	sent, throttled, _ := engine.Requests()
	saved := engine.Savings()
	kms := &s.summary.KMS
	kms.Requests, kms.Throttled = kms.Requests+sent, kms.Throttled+throttled
	kms.Header += saved.Header
	kms.Checked += saved.Checked
	kms.Shared += saved.Shared
	s.headers.agree, s.headers.wrong = engine.Headers()
	s.headers.sample = checkpoint.Sample{Population: saved.Decided, Checked: saved.Checked}
	if s.headers.wrong != "" {
		s.headers.sample.Disagreed = 1
	}
}

// redacted removes secrets from notes that may repeat text of a service. It
// must not be used for notes that name items, because a name can look like a
// secret.
func redacted(secrets *redact.Redactor, notes []string) []string {
	texts := make([]string, len(notes))
	for i, note := range notes {
		texts[i] = secrets.Text(note)
	}
	return texts
}

// noteSources adds the notes of the sources to the summary.
func (s *session) noteSources() {
	for _, p := range s.wiring.targets {
		s.summary.Notes = append(s.summary.Notes, p.source.Notes()...)
		s.summary.Notes = append(s.summary.Notes, p.own.notes(p.name)...)
	}
}

// keyOfToken returns the ARN of the key of a header token, as learned by this
// run or recorded in the pass, or "" if it is unknown.
func (s *session) keyOfToken(token string) string {
	for _, engine := range s.engines {
		if key := engine.KeyOfToken(token); key != "" {
			return key
		}
	}
	return s.recordedTokens[token]
}

// setTargets adds the counts of the targets to the summary, with hints for what
// was not found.
func (s *session) setTargets(ctx context.Context, totals map[string]checkpoint.Counts) {
	s.summary.SetTargets(s.infos(), totals)
	s.summary.SetVersions(s.versions)
	s.summary.ResolveTokens(s.keyOfToken)
	if s.summary.Status == report.Complete {
		s.hint(ctx)
	}
}

// print adds the notes of the sources to the result and writes it to stdout.
func (s *session) print() error {
	s.noteSources()
	return s.write()
}

// write writes the result to stdout. Figures that contradict each other are a bug of this program,
// and are not printed.
func (s *session) write() error {
	if err := s.summary.Check(); err != nil {
		return &outcomeError{code: exitInternal, text: "bug: " + err.Error()}
	}
	return s.printSummary(s.summary)
}

// exceptions returns the error with the exit code of a complete pass that has a
// ledger or a rule that found no ciphertext, or nil.
func (s *session) exceptions() error {
	n := s.summary.Unaccepted()
	if n == 0 {
		return s.unproven()
	}
	text := fmt.Sprintf("complete, with %s in the ledger", plural.Count(n, "slot"))
	list := fmt.Sprintf("rotator retry tries %s again, and rotator report --ledger lists",
		plural.Form(n, "it", "them"))
	return s.toAccept(text, list, n)
}

// toAccept returns the error of a complete pass with n exceptions that no accept rule covers. The
// advice begins with list, the command that lists them.
func (s *session) toAccept(text, list string, n int64) error {
	them := plural.Form(n, "it", "them")
	hint := fmt.Sprintf("%s %s. The exit code is %d until %s corrected, deleted, or covered by a "+
		"rule of accept in the job file (docs/job-file.md#known-exceptions)", list, them,
		exitExceptions, plural.Form(n, "it is", "they are"))
	if len(s.job.Source.Keys) > 0 {
		hint += ". The verdict on the source keys is separate: accept does not change it"
	}
	return &hintedError{err: &outcomeError{code: exitExceptions, text: text}, hint: hint}
}

// withKeyState names the key and its state, if KMS refused a request because of the state
// of a key.
func (s *session) withKeyState(ctx context.Context, err error) error {
	stop := (*retry.StopError)(nil)
	if !errors.As(err, &stop) || stop.Kind != retry.StopAccess ||
		retry.Classify(stop.Err) != retry.KindKeyState {
		return err
	}
	var key *reencrypt.KeyError
	asked := retry.WithRetry(ctx, keysPatience, "KMS", func(ctx context.Context) (err error) {
		key, err = reencrypt.FindUnusable(ctx, s.wiring.client, s.wiring.keys,
			s.job.KMS.GrantTokens)
		return err
	})
	if asked != nil || key == nil {
		return err
	}
	return &causeError{cause: key.Error(), err: err}
}

// withLedger adds the advice for a stop because of a denial, an unusable key or refused
// credentials. It names the slots of the pass that are in the ledger because access was
// denied. It must be called after the summary has its figures.
func (s *session) withLedger(err error) error {
	stop := (*retry.StopError)(nil)
	if !errors.As(err, &stop) || stop.Kind != retry.StopAccess {
		return err
	}
	var denied int64
	for _, r := range s.summary.Reasons {
		if retry.DeniedReason(r.Reason) {
			denied += r.Slots
		}
	}
	hint := "no slot is in the ledger because of this; correct it and run again to continue"
	if denied > 0 {
		hint = fmt.Sprintf("%s of this pass %s in the ledger because access was denied "+
			"(rotator report --ledger); correct this, finish the pass with rotator run, and try "+
			"%s again with rotator retry", plural.Count(denied, "slot"),
			plural.Form(denied, "is", "are"), plural.Form(denied, "it", "them"))
	}
	return &hintedError{err, hint}
}
