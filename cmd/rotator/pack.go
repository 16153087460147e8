package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"rotator/internal/awserr"
	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/evidence/pack"
	"rotator/internal/printable"
	"rotator/internal/redact"
	"rotator/internal/report"
	"rotator/internal/report/cbom"
	"rotator/internal/report/document"
	"rotator/internal/report/hashrefs"
	"rotator/internal/report/markdown"
	"rotator/internal/report/page"
	"rotator/internal/report/sheet"
	"rotator/internal/retry"
	"rotator/internal/verdict"
	"rotator/internal/version"
)

// packReport is the file of a pack with the report document. htmlReport is made from it.
const (
	packReport = "report.json"
	htmlReport = "report.html"
)

// packContents is what a pack is made from.
type packContents struct {
	job      *config.Job
	document *document.Document
	// exceptions are all exceptions, or those that are stored.
	exceptions iter.Seq2[checkpoint.LedgerEntry, error]
	leftOut    int64            // exceptions that are not stored
	refs       []string         // further addresses of items in texts
	logs       []namedLog       // to export
	hasher     *hashrefs.Hasher // nil without --hash-refs
	signer     pack.Signer      // nil without --sign
}

// writePack writes the evidence pack of a job, and prints what it has written. The error has the
// exit code of the worst verdict.
func (f *packFlags) writePack(ctx context.Context, c *jobFlags, job *config.Job) error {
	contents, err := f.gather(ctx, c, job)
	if err != nil {
		return err
	}
	w, err := pack.Create(f.out)
	if err != nil {
		return f.packError(err)
	}
	defer w.Abort()
	requestID, err := f.fill(ctx, c, w, contents)
	if err != nil {
		return f.packError(err)
	}
	if err := w.Commit(); err != nil {
		return f.packError(err)
	}
	if n := contents.leftOut; n > 0 {
		total := contents.document.Exceptions.Total
		c.logger.Warn(fmt.Sprintf("exceptions.csv lists %d of %d exceptions, because a read-only "+
			"pass stores only some; the flag --exceptions of audit and verify lists all of them",
			total-n, total))
	}
	result := packResult{Out: f.out, Pass: f.pass, ReadPass: f.readPass, RequestID: requestID}
	if contents.signer != nil {
		identity := contents.signer.Identity()
		result.Key, result.Algorithm = identity.Key, identity.Algorithm
	}
	if contents.hasher != nil {
		result.Salt = f.saltPath()
	}
	verdicts := contents.document.Verdicts
	result.Exit = verdict.Worst(verdicts)
	if err := c.printPack(result, result.text); err != nil {
		return err
	}
	return gateError(report.Gate{Exit: result.Exit, Verdicts: verdicts})
}

// packError returns the error of a pack that could not be written. Errors that have an exit code of
// their own keep it.
func (f *packFlags) packError(err error) error {
	if exists := (*pack.ExistsError)(nil); errors.As(err, &exists) {
		return usagef("--out %s: %v", f.out, exists)
	}
	if !errors.As(err, new(*os.PathError)) && !errors.As(err, new(*os.LinkError)) {
		return err
	}
	if errors.As(err, new(*storageError)) {
		return err
	}
	return &hintedError{
		err: &storageError{what: "write the pack", err: err},
		hint: "nothing exists under the name of the pack; free space or make the directory " +
			"writable, and run again",
	}
}

// gather reads everything that the pack needs. Nothing is written, except for a new salt.
func (f *packFlags) gather(
	ctx context.Context, c *jobFlags, job *config.Job,
) (p packContents, err error) {
	p.job = job
	if p.signer, err = f.openSigner(ctx, c, job); err != nil {
		return p, err
	}
	store, err := c.openExisting(ctx, job)
	if err != nil {
		return p, err
	}
	passes := checkpoint.NewPasses(store, job.Job)
	if err := f.choose(ctx, passes, job); err != nil {
		return p, err
	}
	if err := f.result(ctx, c, passes, &p); err != nil {
		return p, err
	}
	if p.signer != nil {
		if key := p.signer.Identity().Key; p.document.RoleOf(key) == document.Source {
			return p, signsWithSource(key)
		}
	}
	if f.hashRefs {
		if err := f.hash(&p); err != nil {
			return p, err
		}
	}
	if err := p.document.Check(); err != nil {
		return p, &outcomeError{code: exitInternal, text: fmt.Sprintf(
			"bug: the pack was not written: %v", err)}
	}
	if !f.noLogs && !f.hashRefs {
		p.logs, err = c.logsForPack(ctx, passes, job, f.pass, &p.document.Notes)
	}
	return p, err
}

// choose sets the pass that the pack is about: the newest one of this job file, unless a flag names
// it.
func (f *packFlags) choose(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job,
) error {
	if f.chosen = f.pass > 0 || f.readPass > 0; f.chosen {
		return nil
	}
	h, _, err := readHistory(ctx, passes, job, nil)
	if err != nil {
		return err
	}
	if len(h) == 0 {
		return problem(job, "job", fmt.Sprintf(
			"the checkpoint has no pass of job %s; rotator verify makes one", job.Job))
	}
	newest := h.newest()
	f.pass, f.readPass = newest.Pass, newest.ReadPass
	return nil
}

// result sets the document and its exceptions.
func (f *packFlags) result(
	ctx context.Context, c *jobFlags, passes *checkpoint.Passes, p *packContents,
) (err error) {
	summary, listed := (*report.Summary)(nil), []checkpoint.LedgerEntry(nil)
	if f.pass > 0 {
		record, err := keptPass(ctx, passes, p.job, f.pass)
		if err != nil {
			return err
		}
		if summary, err = recorded(ctx, passes, record, p.job, "report"); err != nil {
			return err
		}
		if p.exceptions, err = ledgerOf(ctx, passes, record, p.job); err != nil {
			return err
		}
		listing := *c
		listing.output = formJSON // the text alone needs none
		if listed, err = listing.firstExceptions(ctx, passes, record, p.job); err != nil {
			return err
		}
	} else {
		read, err := storedRead(ctx, passes, p.job, f.readPass)
		if err != nil {
			return err
		}
		summary, listed = readSummary(read, p.job.Job, "report"), listedOf(read)
		p.exceptions = func(yield func(checkpoint.LedgerEntry, error) bool) {
			for _, e := range listed {
				if !yield(e, nil) {
					return
				}
			}
		}
		p.leftOut = max(0, summary.Slots.Exceptions()-int64(len(listed)))
	}
	if f.verdict, err = f.verdict.ask(ctx, c, p.job); err != nil {
		return err
	}
	if err := f.verdict.judgeStored(ctx, c, passes, p.job, summary, f.chosen); err != nil {
		return err
	}
	if err := addsUp(summary); err != nil {
		return err
	}
	in := document.Input{Now: time.Now(), Exceptions: listed, Copies: f.verdict.found,
		Use: f.verdict.use}
	in.Passes, in.Unread = c.passesOf(ctx, passes, p.job, summary)
	p.document = document.New(summary, in)
	return nil
}

// hash replaces the addresses of items in the document and in the exceptions.
func (f *packFlags) hash(p *packContents) error {
	salt, err := f.readSalt()
	if err != nil {
		return err
	}
	waivers, err := readWaivers(f.verdict.waivers)
	if err != nil {
		return err
	}
	for _, w := range waivers {
		p.refs = append(p.refs, w.Ref)
	}
	p.hasher = hashrefs.New(salt)
	if p.document, err = p.hasher.Document(p.document, p.refs); err != nil {
		return err
	}
	plain := p.exceptions
	p.exceptions = func(yield func(checkpoint.LedgerEntry, error) bool) {
		for e, err := range plain {
			if !yield(p.hasher.Entry(e), err) {
				return
			}
		}
	}
	return nil
}

// saltPath returns the file of the salt, which is beside the pack unless --salt names another one.
func (f *packFlags) saltPath() string {
	if f.salt != "" {
		return f.salt
	}
	return strings.TrimRight(f.out, "/") + ".salt"
}

// readSalt reads the salt. It makes a new one if there is none.
func (f *packFlags) readSalt() ([]byte, error) {
	const size = 32
	path := f.saltPath()
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		salt := make([]byte, size)
		_, _ = rand.Read(salt) // never fails
		text = []byte(hex.EncodeToString(salt) + "\n")
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			_, err = file.Write(text)
			err = errors.Join(err, file.Sync(), file.Close())
		}
		if err != nil {
			return nil, &storageError{what: "write the salt", err: err}
		}
	} else if err != nil {
		return nil, &storageError{what: "read the salt", err: err}
	}
	salt, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(salt) < size {
		return nil, usagef("--salt %s: the file must have at least %d bytes in hex; remove it, "+
			"and a new salt is made", path, size)
	}
	return salt, nil
}

// fill writes all files. It returns the id of the signing request.
func (f *packFlags) fill(
	ctx context.Context, c *jobFlags, w *pack.Writer, p packContents,
) (requestID string, err error) {
	for _, file := range c.packForms(p) {
		if err := w.Add(file.name, file.write); err != nil {
			return "", err
		}
	}
	logs := headsOf(p.document)
	if len(p.logs) > 0 {
		if logs, err = addLogs(ctx, w, p.logs); err != nil {
			return "", err
		}
	}
	if err := w.AddInstructions(); err != nil {
		return "", err
	}
	statement, err := f.predicate(p, logs)
	if err != nil {
		return "", err
	}
	return w.Seal(ctx, statement, p.signer)
}

// packFile is a file of a pack.
type packFile struct {
	name  string
	write func(io.Writer) error
}

// packForms returns the report in all forms.
func (c *jobFlags) packForms(p packContents) []packFile {
	d := p.document
	redacted := func(write func(io.Writer) error) func(io.Writer) error {
		return func(w io.Writer) error { return write(redact.NewWriter(c.secrets, w)) }
	}
	text := func(write func(io.Writer) error) func(io.Writer) error {
		return redacted(func(w io.Writer) error { return write(printable.NewWriter(w)) })
	}
	table := func(name string) func(io.Writer) error {
		return redacted(func(w io.Writer) error {
			if name == sheet.Exceptions {
				return sheet.WriteExceptions(w, p.exceptions)
			}
			return sheet.Write(w, d, name)
		})
	}
	files := []packFile{
		{packReport, text(d.JSON)},
		{htmlReport, text(func(w io.Writer) error { return page.Write(w, d) })},
		{"report.md", text(func(w io.Writer) error { return markdown.Write(w, d) })},
		{"report.txt", text(d.Text)},
		{"cbom.json", text(func(w io.Writer) error { return cbom.Write(w, d) })},
	}
	for _, name := range sheet.Tables() {
		files = append(files, packFile{name + ".csv", table(name)})
	}
	return files
}

// predicate returns what the signer states.
func (f *packFlags) predicate(p packContents, logs []pack.Log) (pack.Predicate, error) {
	d := p.document
	text, err := os.ReadFile(p.job.File())
	if err != nil {
		return pack.Predicate{}, &storageError{what: "read the job file", err: err}
	}
	sum := sha256.Sum256(text)
	statement := pack.Predicate{
		Job:       d.Job,
		JobSHA256: hex.EncodeToString(sum[:]),
		Created:   d.Generated,
		Version:   version.String(),
		Verdicts:  []pack.Verdict{},
		Logs:      logs,
		Exceptions: &pack.Exceptions{
			Total:  d.Exceptions.Total,
			Listed: d.Exceptions.Total - p.leftOut,
		},
		RefsHashed: p.hasher != nil,
	}
	for _, v := range d.Verdicts {
		statement.Verdicts = append(statement.Verdicts, pack.Verdict{
			Key:      v.Key,
			Code:     string(v.Code),
			Reason:   v.Reason,
			Sentence: v.Sentence,
		})
	}
	return statement, nil
}

// retryingSigner is a pack.Signer whose requests are retried.
type retryingSigner struct {
	*pack.KMSSigner
	patience time.Duration
}

// Sign implements pack.Signer.
func (s *retryingSigner) Sign(
	ctx context.Context, digest []byte,
) (signed []byte, requestID string, err error) {
	err = retry.WithRetry(ctx, s.patience, kms.ServiceID, func(ctx context.Context) error {
		signed, requestID, err = s.KMSSigner.Sign(ctx, digest)
		return err
	})
	return signed, requestID, err
}

// openSigner returns the signer of --sign, or nil without the flag. It reads the public key, so
// that a key that cannot sign is known before anything is written.
func (f *packFlags) openSigner(
	ctx context.Context, c *jobFlags, job *config.Job,
) (pack.Signer, error) {
	if f.sign == "" {
		return nil, nil
	}
	if slices.Contains(job.Source.Keys, f.sign) {
		return nil, signsWithSource(f.sign)
	}
	base, err := c.loadAWS(ctx, job.Workers, keyTimeout)
	if err != nil {
		return nil, err
	}
	settings := job.KMS
	region := settings.Region
	if parts := strings.SplitN(f.sign, ":", 5); len(parts) == 5 && parts[0] == "arn" {
		region = parts[3]
	}
	cfg := withTarget(base, region, settings.Endpoint, settings.RoleARN)
	if cfg.Region == "" {
		return nil, problem(job, "kms.region",
			"no AWS Region is set; set it here, or set AWS_REGION")
	}
	s := &retryingSigner{patience: min(watchPatience, time.Duration(job.MaxOutage))}
	c.outages.SetPatience(s.patience)
	client := kms.NewFromConfig(cfg)
	err = retry.WithRetry(ctx, s.patience, kms.ServiceID, func(ctx context.Context) (err error) {
		s.KMSSigner, err = pack.NewKMSSigner(ctx, client, f.sign)
		return err
	})
	if wrong := (*pack.KeyError)(nil); errors.As(err, &wrong) {
		return nil, &outcomeError{code: exitJob, text: "--sign: " + wrong.Error()}
	}
	if awserr.Code(err) == "NotFoundException" {
		return nil, &outcomeError{code: exitJob, text: fmt.Sprintf("--sign %s: KMS has no such "+
			"key: its alias or id is wrong for this account and Region, or it has been deleted",
			f.sign)}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// signsWithSource returns the error of a signing key that is a source key.
func signsWithSource(key string) error {
	return &outcomeError{code: exitJob, text: fmt.Sprintf("--sign %s: it is a source key of the "+
		"job, which is to be disabled; sign with another key", key)}
}
