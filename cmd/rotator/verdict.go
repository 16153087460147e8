package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/copies"
	"rotator/internal/report"
	"rotator/internal/verdict"
	"rotator/internal/version"
	"rotator/internal/watch"
)

// defaultMaxAge is how old the proof may be by default.
const defaultMaxAge = 24 * time.Hour

// judge sets the verdicts of the result of a session. h are stored passes, and unread names those
// that cannot be read.
func (s *session) judge(h storedPasses, unread []string) {
	in, own := inputOf(s.job), s.summary.VerdictPass()
	in.Passes, in.Places, in.Unread = append(h.passes(own), own), s.places(), unread
	in.Copies = factsOfCopies(s.asked.found)
	keys := s.keyStates()
	watched, _ := s.asked.watched()
	maps.Copy(keys, watched)
	s.summary.Judge(in, keys)
}

// askAWS asks AWS about the use of the source keys and about copies of old ciphertexts, after a
// complete pass with --watch or --copies. If AWS cannot be asked, it adds a note, because the
// result of the pass must not be lost.
func (s *session) askAWS(ctx context.Context) {
	if s.summary.Status != report.Complete {
		return
	}
	var err error
	if s.asked, err = s.asked.ask(ctx, s.jobFlags, s.job); err != nil {
		s.summary.Notes = append(s.summary.Notes, "AWS could not be asked about the source keys "+
			"or about copies: "+s.secrets.Text(s.headline(err)))
	}
	_, unseen := s.asked.watched()
	s.summary.Notes = append(s.summary.Notes, unseen...)
}

// judgeWritten sets the verdicts of the result of a run or a retry. What earlier passes left in
// targets that the pass did not read counts. If the earlier passes cannot be read, it adds a note.
func (s *session) judgeWritten(ctx context.Context, passes *checkpoint.Passes) {
	known := storedPasses{{summary: s.summary, pass: s.summary.VerdictPass()}}
	h, unread := known, []string(nil)
	if s.summary.Status == report.Complete { // otherwise there is no proof
		var err error
		h, unread, err = withEarlier(ctx, passes, s.job, nil, known)
		if err != nil {
			h = known
			s.summary.Notes = append(s.summary.Notes, "the verdict rests on this pass only, "+
				"because earlier passes cannot be read: "+s.secrets.Text(s.headline(err)))
		}
	}
	s.judge(h, unread)
}

// judgeRecorded sets the verdicts of the result of a stored pass, without other passes.
func judgeRecorded(job *config.Job, s *report.Summary, fingerprint string) error {
	same, err := job.HasFingerprint(fingerprint)
	if err != nil {
		return err
	}
	in, own := inputOf(job), s.VerdictPass()
	own.OtherJob = !same
	in.Passes = []verdict.Pass{own}
	s.Judge(in, nil)
	return nil
}

// judgeStored sets the verdicts of the result of a stored pass. If the user chose the pass, no
// other pass is the proof, but what later passes found counts.
func (f verdictFlags) judgeStored(
	ctx context.Context, c *jobFlags, passes *checkpoint.Passes, job *config.Job,
	s *report.Summary, chosen bool,
) error {
	waivers, err := readWaivers(f.waivers)
	if err != nil {
		return err
	}
	keys, _ := f.watched()
	h, unread, err := readHistory(ctx, passes, job, waivers)
	if err == nil {
		err = h.check()
	}
	if err == nil {
		s.Newer = h.newer(s, job)
		if chosen {
			h = h.provenBy(s)
		}
		now := time.Now().UTC()
		s.Notes = append(s.Notes, verdict.NotesOn(waivers, h.exceptions(), now)...)
		return c.judgeIdle(ctx, passes, job, s, f.input(job, h, unread, waivers), keys)
	}
	if !unusable(err) {
		return err
	}
	own := s.VerdictPass()
	own.Doubts = append(own.Doubts, "Other passes of the job cannot be read")
	s.Judge(f.input(job, storedPasses{{summary: s, pass: own}}, nil, waivers), keys)
	return nil
}

// keyStates returns the states of the source keys when the command began.
func (s *session) keyStates() map[string]report.KeyFacts {
	keys := map[string]report.KeyFacts{}
	for _, k := range s.wiring.keys.Sources {
		state := cmp.Or(k.Unusable.State, "Enabled")
		keys[k.ARN] = report.KeyFacts{
			Key: verdict.Key{State: state, Deletion: k.Unusable.Deletion},
		}
	}
	return keys
}

// judgeRead sets the verdicts of a read-only pass. Stored passes that cannot be read are left out,
// with a note.
func (s *session) judgeRead(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.checkpointTime(joinTime))
	defer cancel()
	var h storedPasses
	var unread []string
	store, err := s.storeToRead(ctx)
	if err == nil {
		h, unread, err = readHistory(ctx, checkpoint.NewPasses(store, s.job.Job), s.job, nil)
	}
	if err == nil {
		err = h.check()
	}
	if err != nil {
		h, unread = nil, nil
	}
	if err != nil && !absent(err) {
		s.summary.Notes = append(s.summary.Notes, "the verdict rests on this pass only, because "+
			"earlier passes cannot be read: "+s.secrets.Text(s.headline(err)))
	}
	s.judge(h, unread)
}

// verdictFlags are the flags of report that concern verdicts.
type verdictFlags struct {
	gate    bool
	watch   bool
	pages   int // of the event history, for watch
	copies  bool
	maxAge  time.Duration
	waivers string
	found   *copies.Result // of copies; nil if AWS was not asked
	use     *watch.Result  // of watch; nil if AWS was not asked
}

// addTo adds the flags to a command.
func (f *verdictFlags) addTo(flags *pflag.FlagSet) {
	flags.BoolVar(&f.gate, "verdict", false,
		"print only the verdict on each source key, and exit with the code of the worst one")
	f.addQuestions(flags)
	f.addPages(flags)
	flags.DurationVar(&f.maxAge, "max-age", defaultMaxAge,
		"how old the proof for an enabled key may be")
	flags.StringVar(&f.waivers, "waivers", "",
		"CSV file with failed slots that do not block a verdict")
}

// addQuestions adds the flags for what is asked of AWS.
func (f *verdictFlags) addQuestions(flags *pflag.FlagSet) {
	flags.BoolVar(&f.watch, "watch", false,
		"ask KMS and CloudTrail about the source keys, as rotator watch does")
	flags.BoolVar(&f.copies, "copies", false,
		"ask AWS about copies of old ciphertexts, as rotator copies does")
}

// addPages adds the flag for the limit of --watch.
func (f *verdictFlags) addPages(flags *pflag.FlagSet) {
	flags.IntVar(&f.pages, "pages", watchPages,
		"with --watch: maximum number of pages to read from CloudTrail, each with up to 50 events")
}

// validateWatch checks --watch and --pages.
func (f *verdictFlags) validateWatch(flags *pflag.FlagSet) error {
	if flags.Changed("pages") && !f.watch {
		return usagef("--pages needs --watch: it limits what is read from CloudTrail")
	}
	return watchFlags{pages: f.pages}.check()
}

func (f *verdictFlags) validate(flags *pflag.FlagSet) error {
	if err := f.validateWatch(flags); err != nil {
		return err
	}
	if f.maxAge <= 0 {
		return usagef("--max-age %s: must be longer than 0, such as 24h", f.maxAge)
	}
	for _, other := range []string{"ledger", "check", "pass", "read-pass", "history"} {
		if f.gate && flags.Changed(other) {
			return usagef("--verdict and --%s cannot be combined: the verdict takes all stored "+
				"passes into account", other)
		}
	}
	if (flags.Changed("ledger") || flags.Changed("history")) &&
		(flags.Changed("max-age") || flags.Changed("waivers") || f.copies || f.watch) {
		return usagef("--ledger and --history cannot be combined with --max-age, --waivers, " +
			"--copies or --watch")
	}
	return nil
}

// gateOf prints the verdict on each source key of a job. Its error has the exit code of the worst
// one.
func (f verdictFlags) gateOf(ctx context.Context, c *jobFlags, job *config.Job) error {
	waivers, err := readWaivers(f.waivers)
	if err != nil {
		return err
	}
	store, err := c.openExisting(ctx, job)
	if err != nil {
		return err
	}
	passes := checkpoint.NewPasses(store, job.Job)
	h, unread, err := readHistory(ctx, passes, job, waivers)
	if err != nil {
		return err
	}
	if len(h) == 0 {
		return problem(job, "job", fmt.Sprintf(
			"the checkpoint has no pass of job %s; rotator verify makes one", job.Job))
	}
	if err := h.check(); err != nil {
		return err
	}
	newest := h.newest()
	if f, err = f.ask(ctx, c, job); err != nil {
		return err
	}
	keys, unseen := f.watched()
	input := f.input(job, h, unread, waivers)
	now := input.Now
	if err := c.judgeIdle(ctx, passes, job, newest, input, keys); err != nil {
		return err
	}
	g := report.Gate{
		Job:       job.Job,
		Generated: now,
		MaxAge:    f.maxAge.String(),
		Version:   version.String(),
		Exit:      verdict.Worst(newest.Verdicts),
		Verdicts:  newest.Verdicts,
		Notes:     append(unseen, verdict.NotesOn(waivers, h.exceptions(), now)...),
	}
	write := g.Text
	if c.output == "json" {
		write = g.JSON
	}
	if err := write(c.out); err != nil {
		return err
	}
	return gateError(g)
}

// judgeIdle sets the verdicts of a result. If all source keys could be disabled, it checks that no
// run or retry is working on the job, because the records do not contain its unsaved work.
func (c *jobFlags) judgeIdle(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job, s *report.Summary,
	in verdict.Input, keys map[string]report.KeyFacts,
) error {
	s.Judge(in, keys)
	if verdict.Worst(s.Verdicts) != exitDone {
		return nil
	}
	var err error
	if in.Working, err = c.working(ctx, passes, job); err != nil {
		return &storageError{what: "find the runs that are working on the job", err: err}
	}
	if in.Working {
		s.Judge(in, keys)
	}
	return nil
}

// working reports whether a run or a retry is working on the job.
func (c *jobFlags) working(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job,
) (bool, error) {
	place, lease := job.CheckpointLocation(), time.Duration(job.Lease)
	if !place.Shared() {
		return checkpoint.Locked(place.File)
	}
	pass, err := passes.Working(ctx, lease, func() {
		c.logger.Info(fmt.Sprintf("the checkpoint lists a run as working on the job; waiting for "+
			"it to renew its entry, at most %s", lease))
	})
	return pass > 0, err
}

func (f verdictFlags) input(
	job *config.Job, h storedPasses, unread []string, waivers []verdict.Waiver,
) verdict.Input {
	in := inputOf(job)
	in.MaxAge, in.Copies, in.Waivers = f.maxAge, factsOfCopies(f.found), waivers
	in.Passes, in.Unread = h.passes(verdict.Pass{}), unread
	return in
}

// ask returns f with what AWS states about the source keys, if --watch is set, and about the copies
// of old ciphertexts, if --copies is set.
func (f verdictFlags) ask(
	ctx context.Context, c *jobFlags, job *config.Job,
) (_ verdictFlags, err error) {
	if f.watch && len(job.Source.Keys) > 0 {
		if f.use, err = watchOnce(ctx, c, job, f.pages); err != nil {
			return f, err
		}
	}
	if f.copies {
		f.found, err = findCopies(ctx, c, job)
	}
	return f, err
}

// watchOnce asks KMS and CloudTrail once about the source keys. It reads at most the given number
// of pages of the event history.
func watchOnce(
	ctx context.Context, c *jobFlags, job *config.Job, pages int,
) (*watch.Result, error) {
	watcher, records, err := newWatcher(ctx, c, job, watchFlags{pages: pages})
	if err != nil {
		return nil, err
	}
	result, err := watcher.Round(ctx, records.own(ctx))
	if err != nil {
		return nil, watchError(job, err)
	}
	for i := range result.Keys {
		for j := range result.Keys[i].CannotSee {
			u := &result.Keys[i].CannotSee[j]
			u.Sentence = c.secrets.Text(u.Sentence)
		}
	}
	return result, nil
}

// watched returns what --watch found about the source keys. unseen has a note for each fact that
// could not be read.
func (f verdictFlags) watched() (keys map[string]report.KeyFacts, unseen []string) {
	keys, unseen = map[string]report.KeyFacts{}, []string{}
	if f.use == nil {
		return keys, unseen
	}
	for _, k := range f.use.Keys {
		keys[k.ARN] = factsOfKey(k)
		for _, u := range k.CannotSee {
			unseen = append(unseen, fmt.Sprintf("%s: cannot see %s: %s", k.Given, u.What,
				u.Sentence))
		}
		if k.Trail.Partial {
			unseen = append(unseen, fmt.Sprintf("%s: not all events of CloudTrail were read. %s",
				k.Given, k.Trail.Sentence()))
		}
	}
	return keys, unseen
}

// factsOfKey returns what watch found about a key. Calls that failed, but were not refused, do not
// need the key.
func factsOfKey(k watch.Key) report.KeyFacts {
	facts := report.KeyFacts{
		Key: verdict.Key{State: k.State, Disabled: k.Disabled, Deletion: k.Deletion},
		LastUsage: verdict.Usage{
			Asked:     k.LastUsage.Asked,
			At:        k.LastUsage.At,
			Operation: k.LastUsage.Operation,
			Caller:    k.LastUsage.Caller,
			ByRotator: k.LastUsage.By == watch.ByRotator,
			Unclear:   k.LastUsage.By == watch.ByUnknown,
			Early:     k.LastUsage.Early,
		},
		Trail: verdict.Trail{
			Asked:   k.Trail.Asked,
			From:    k.Trail.From,
			Partial: k.Trail.Partial,
		},
	}
	for _, caller := range k.Trail.Callers {
		if caller.Refused || caller.Result == "" {
			facts.Trail.Callers = append(facts.Trail.Callers, verdict.Caller{
				ARN:       caller.ARN,
				Operation: caller.Operation,
				Refused:   caller.Refused,
				Calls:     caller.Calls,
				Last:      caller.Last,
			})
		}
	}
	return facts
}

// gateError returns the error with the exit code of the gate, or nil.
func gateError(g report.Gate) error {
	if g.Exit == exitDone {
		return nil
	}
	text := "no source key is known, so there is no verdict"
	var worst []string
	for _, v := range g.Verdicts {
		if v.Exit == g.Exit {
			worst = append(worst, fmt.Sprintf("%s: %s (%s)", cmp.Or(v.Alias, v.Key), v.Code,
				v.Reason))
		}
	}
	if len(worst) > 0 {
		text = strings.Join(worst, "; ")
	}
	return &outcomeError{code: g.Exit, text: text}
}

// readWaivers reads a file of waivers. It returns none if path is "".
func readWaivers(path string) ([]verdict.Waiver, error) {
	if path == "" {
		return nil, nil
	}
	problems := &config.Problems{File: path}
	file, err := os.Open(path)
	if err != nil {
		problems.List = []config.Problem{{Detail: fmt.Sprintf("cannot read the waivers: %v",
			errors.Unwrap(err))}}
		return nil, problems
	}
	defer func() { _ = file.Close() }()
	waivers, err := verdict.ReadWaivers(file)
	for _, one := range eachOf(err) {
		problem := config.Problem{Detail: one.Error()}
		if at := (*verdict.LineError)(nil); errors.As(one, &at) {
			problem = config.Problem{Detail: at.Detail, Line: at.Line, Column: 1}
		}
		problems.List = append(problems.List, problem)
	}
	if len(problems.List) > 0 {
		return nil, problems
	}
	return waivers, nil
}

// eachOf returns the errors that err joins, or err itself; none for nil.
func eachOf(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}
