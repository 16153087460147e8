package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/plural"
	"rotator/internal/reencrypt"
	"rotator/internal/retry"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

func newAuditCommand(std streams) *cobra.Command {
	var strict bool
	var flags readFlags
	cmd := kmsCommand(std, "audit", "Report which key each ciphertext depends on; change nothing",
		`Scan all targets and report which KMS key each ciphertext depends on. Audit never writes
to a target. It stores its result in the checkpoint as a read-only pass (rotator report
--read-pass), unless --no-store is set. In a shared checkpoint, it writes an entry for the
time of the audit, so that the rate is divided with runs. To identify the key of a
ciphertext, it calls ReEncrypt and discards the result. Once KMS has named the key of a
ciphertext, others with the same key token in their header need no request, except for a
random sample. With --exact, audit calls KMS for every ciphertext (docs/results.md).

With --content-digest, audit computes a digest of everything except the slots. If no other
program writes to the targets, equal digests before and after a run prove that the run
changed nothing else. Audit then reads all attributes and bodies, the tags and ACLs of
objects, and tables with strongly consistent reads, which consume twice the read capacity
(docs/content-digest.md).

Exit codes: 0 done. With --fail-on-remaining: 4 if slots under a source key remain; 3 if
none remain, but slots failed or are under the destination key with another context, or a
target or slot rule found no ciphertext. For other codes see docs/exit-codes.md.`,
		func(ctx context.Context, c *jobFlags, job *config.Job) error {
			s, err := readOnlyPass(ctx, c, job, "audit", &flags)
			if err != nil || !strict {
				return err
			}
			if err := s.remaining(); err != nil {
				return err
			}
			if n := s.summary.UnacceptedMisfits(); n > 0 {
				text := fmt.Sprintf("not proven: %s failed, or %s under the destination key with "+
					"another context", plural.Count(n, "slot"), plural.Form(n, "is", "are"))
				return s.toAccept(text, "rotator audit --exceptions FILE lists", n)
			}
			if err := s.unproven(); err != nil {
				return err
			}
			return s.doubts()
		})
	cmd.Flags().BoolVar(&strict, "fail-on-remaining", false,
		"exit with 4 if slots under a source key remain, or with 3 if it is not "+
			"proven that none remain")
	flags.addTo(cmd)
	return cmd
}

func newVerifyCommand(std streams) *cobra.Command {
	var flags readFlags
	cmd := kmsCommand(std, "verify",
		"Check that no ciphertext depends on a source key; change nothing",
		`Scan all targets in a new, read-only pass. The pass has converged if it is complete, every
target and slot rule found a ciphertext, no slot is under a source key, and no slot failed
or is foreign. Tables are read with strongly consistent reads, which consume twice the read
capacity. The result is stored in the checkpoint as a read-only pass (rotator report
--read-pass), unless --no-store is set. With --content-digest, verify also compares
everything except the slots with an earlier pass (docs/content-digest.md).

Exit codes: 0 converged; 4 slots under a source key remain; 3 none remain, but slots failed
or are foreign, or a target or slot rule found no ciphertext. For other codes see
docs/exit-codes.md.`,
		func(ctx context.Context, c *jobFlags, job *config.Job) error {
			s, err := readOnlyPass(ctx, c, job, "verify", &flags)
			if err != nil {
				return err
			}
			if err := s.remaining(); err != nil {
				return err
			}
			if n := s.summary.Unaccepted(); n > 0 {
				text := fmt.Sprintf("not converged: %s failed or %s foreign",
					plural.Count(n, "slot"), plural.Form(n, "is", "are"))
				return s.toAccept(text, "rotator verify --exceptions FILE lists", n)
			}
			if err := s.unproven(); err != nil {
				return err
			}
			return s.doubts()
		})
	flags.addTo(cmd)
	return cmd
}

// doubts returns an *outcomeError if the counts of the pass are not evidence, or nil.
func (s *session) doubts() error {
	if doubts := s.summary.Doubts(); len(doubts) > 0 {
		return &outcomeError{code: exitExceptions, text: "not proven: " + doubts[0]}
	}
	return nil
}

// readFlags are the flags of audit and verify.
type readFlags struct {
	earlyFlags
	digestFlags
	exceptions string // file of --exceptions, or ""
	noStore    bool
	asked      verdictFlags // watch and copies
	command    *cobra.Command
}

func (f *readFlags) addTo(cmd *cobra.Command) {
	f.command = cmd
	f.ofReaders(cmd)
	f.digestFlags.addTo(cmd)
	cmd.Flags().StringVar(&f.exceptions, "exceptions", "",
		"write every failed or foreign slot to this file, one JSON object per line")
	cmd.Flags().BoolVar(&f.noStore, "no-store", false,
		"do not store the result in the checkpoint")
	f.asked.pages = watchPages
	f.asked.addQuestions(cmd.Flags())
}

// set returns the names of the flags that the user set.
func (f *readFlags) set() (names []string) {
	f.command.Flags().Visit(func(flag *pflag.Flag) { names = append(names, "--"+flag.Name) })
	return names
}

// readOnlyPass runs a read-only pass over all targets.
func readOnlyPass(
	ctx context.Context, c *jobFlags, job *config.Job, command string, flags *readFlags,
) (*session, error) {
	last, release := shutdownContext(ctx)
	defer release()
	found := &exceptions{}
	if list := flags.exceptions; list != "" {
		if err := c.notOutput("--exceptions", list); err != nil {
			return nil, err
		}
		file, err := openExceptions(list, tablesOf(job), c.secrets)
		if err != nil {
			return nil, err
		}
		defer file.close()
		found.file = file
	}
	digests, err := flags.newContents(c, job, command)
	if err != nil {
		return nil, err
	}
	defer digests.close()
	c.whole = digests != nil
	s, err := open(ctx, c, job, command)
	if err != nil {
		return nil, err
	}
	s.contents, s.asked = digests, flags.asked
	if err := c.checkEvidence(ctx, job); err != nil {
		c.logger.Warn("rotator run would stop: " + c.secrets.Text(c.headline(err)))
	}
	if command == "audit" {
		s.noteUnprobed()
	}
	s.found = found
	found.failed.asymmetric = s.wiring.keys.SourceAlgorithm != reencrypt.Symmetric
	earlier, next := s.earlier(ctx)
	s.stopsEarly.Proven = s.provenBefore(ctx, earlier, next)
	if !flags.failFast {
		s.stopsEarly.Warn = s.warnAlike
	}
	if !flags.noStore {
		s.keeper = s.newReadKeeper(ctx, flags)
	}
	s.retiredKeys(ctx)
	p, worked, err := s.walkThrough(ctx)
	if err != nil {
		return nil, err
	}
	if worked == nil {
		worked = s.countOldVersions(ctx)
	}
	if err := s.concludeReadOnly(last, p); err != nil {
		return nil, errors.Join(worked, err)
	}
	return s, s.stoppedEarly(worked)
}

// walkThrough reads all targets, and then the old versions of targets with versions: report. It
// shares the rate with the runs of the job.
func (s *session) walkThrough(ctx context.Context) (p *pass, worked, err error) {
	ctx, leave := s.shareRate(ctx)
	defer leave()
	if p, worked, err = s.walkChecked(ctx); err == nil && worked == nil {
		worked, err = s.readVersions(ctx)
	}
	return p, worked, err
}

// walkChecked calls walk. If headers of ciphertexts are wrong, it calls walk again.
func (s *session) walkChecked(ctx context.Context) (p *pass, worked, err error) {
	p, worked, err = s.walk(ctx)
	wrong := (*reencrypt.HeaderError)(nil)
	if err != nil || !errors.As(worked, &wrong) {
		return p, worked, err
	}
	// The counts so far can be wrong, and were cheap. Count again.
	s.exact, s.disagreed = true, wrong.What
	s.summary.Notes = append(s.summary.Notes,
		"ciphertext headers disagree with KMS; the pass was repeated with one KMS request per "+
			"slot: "+wrong.What)
	if err := s.found.restart(); err != nil {
		return nil, nil, err
	}
	if s.contents != nil {
		if err := s.contents.Restart(); err != nil {
			return nil, nil, &storageError{what: "write the content digests", err: err}
		}
	}
	return s.walk(ctx)
}

// tablesOf returns the names of the targets that are tables.
func tablesOf(job *config.Job) map[string]bool {
	tables := map[string]bool{}
	for _, target := range job.Targets {
		tables[target.Name] = target.DynamoDB != nil
	}
	return tables
}

// concludeReadOnly completes the summary of a read-only pass and prints it.
func (s *session) concludeReadOnly(ctx context.Context, p *pass) error {
	totals, err := p.passes.Totals(ctx, p.record)
	if err != nil {
		return err
	}
	s.summary.AsOf = s.summary.Started
	s.summary.SetSamples([]checkpoint.Sample{s.headers.sample})
	s.setTargets(ctx, totals)
	s.summary.SetExamples(&s.found.examples)
	setAccepted(s.summary, s.job, s.tally)
	for _, doubt := range s.keysAtEnd(ctx, p.record) {
		s.summary.Doubt(doubt)
	}
	s.summary.Conclude()
	if err := s.compareWithLastPass(ctx); err != nil {
		s.summary.Notes = append(s.summary.Notes,
			"could not compare with the previous pass: "+s.secrets.Text(s.headline(err)))
	}
	if s.found.file != nil {
		if err := s.found.file.keep(); err != nil {
			return err
		}
	}
	if err := s.concludeContent(ctx, p); err != nil {
		return err
	}
	s.noteSources()
	s.keeper.keep(ctx, s, p)
	s.askAWS(ctx)
	s.judgeRead(ctx)
	return s.writeDocument(ctx)
}

// walk runs one pass over all targets with a checkpoint in memory. worked is the error that
// ended the pass, or nil if it is complete.
func (s *session) walk(ctx context.Context) (p *pass, worked, err error) {
	targets := s.targets(false)
	p, err = s.openPass(
		ctx, checkpoint.NewMemory(), targets, checkpoint.TrackOptions{}, false)
	if err != nil {
		return nil, nil, err
	}
	s.stop.reached(working, "")
	engine := s.rotator(targets, checkpoint.Pass{}, readOnlyRecorder{}, nil)
	return p, s.work(ctx, engine, p), nil
}

// noteUnprobed makes the sources note the server capabilities that they cannot
// test without a write. It must be called before anything is read.
func (s *session) noteUnprobed() {
	for _, p := range s.wiring.targets {
		if unprobed, ok := p.source.(interface{ NoteUnprobed() }); ok {
			unprobed.NoteUnprobed()
		}
	}
}

// countOldVersions makes the sources with versions count the old ones, and add a note with the
// number. If access is denied, it adds a note and returns nil.
func (s *session) countOldVersions(ctx context.Context) error {
	for i, p := range s.wiring.targets {
		if s.job.Targets[i].ReadsVersions() {
			continue // they were read
		}
		keeper, ok := p.source.(interface{ CountOldVersions(context.Context) error })
		if !ok {
			continue
		}
		err := retry.WithRetry(ctx, time.Duration(s.job.MaxOutage), p.name, keeper.CountOldVersions)
		if retry.Classify(err) == retry.KindDenied {
			s.summary.Notes = append(s.summary.Notes, fmt.Sprintf(
				"target %s: old versions were not counted, because s3:ListBucketVersions is denied",
				p.name))
		} else if err != nil {
			return err
		}
	}
	return nil
}

// compareWithLastPass compares the result with the last pass of a run, if there is one.
func (s *session) compareWithLastPass(ctx context.Context) error {
	store, err := s.openExisting(ctx, s.job)
	if problems := (*config.Problems)(nil); errors.As(err, &problems) {
		return nil // there is none
	}
	if err != nil {
		return err
	}
	passes := checkpoint.NewPasses(store, s.job.Job)
	last, err := passes.Last(ctx)
	if errors.Is(err, checkpoint.ErrNotFound) {
		return nil
	}
	if err != nil {
		return &storageError{what: "read the last pass", err: err}
	}
	return s.stillWritten(ctx, passes, last.Number)
}

// remaining returns an *outcomeError if the pass found slots under a source key, or nil.
func (s *session) remaining() error {
	n := s.summary.Slots.Remaining
	if n == 0 {
		return s.oldVersionsLeft()
	}
	how := "rotator run moves " + plural.Form(n, "it", "them")
	for _, key := range s.wiring.keys.Sources {
		if key.Unusable.State != "" {
			how = fmt.Sprintf("rotator run can move %s only while the key is usable: key %s: "+
				"%s; %s", plural.Form(n, "it", "them"), key.Given, key.Unusable.Why,
				key.Unusable.Remedy)
			break
		}
	}
	return &outcomeError{code: exitRemaining, text: fmt.Sprintf(
		"%s %s %s; %s", plural.Count(n, "slot"), s.summary.Mode.Where(),
		plural.Form(n, "remains", "remain"), how)}
}

// readOnlyRecorder is the audit log of a read-only pass. It returns an error for each record.
type readOnlyRecorder struct{}

var _ rotate.Recorder = readOnlyRecorder{}

func (readOnlyRecorder) Record([]rotate.Record) error {
	return errors.New("a read-only pass tried to record a change")
}

func (n readOnlyRecorder) Intend(records []rotate.Record) error { return n.Record(records) }

func (readOnlyRecorder) Find(string, scan.Ref, string) (rotate.Trace, bool) {
	return rotate.Trace{}, false
}

func (readOnlyRecorder) Sync() error { return nil }
