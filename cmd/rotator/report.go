package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rotator/internal/checkpoint"
	"rotator/internal/columns"
	"rotator/internal/config"
	"rotator/internal/plural"
	"rotator/internal/printable"
	"rotator/internal/report"
	"rotator/internal/report/document"
	"rotator/internal/report/sheet"
)

func newReportCommand(std streams) *cobra.Command {
	var o reportOptions
	c := &jobFlags{streams: std, forms: formsOf("report")}
	cmd := commandOf(c, "report", "Print the result of the last run, or of an audit or verify",
		`Print the figures of the last pass of rotator run, or of the pass given by --pass. A
result of audit or verify is a read-only pass: --read-pass prints it. If a read-only pass is
newer than the pass, report names it with the command. The verdict takes all stored passes
into account. --history lists all passes and read-only passes. Report reads only the
checkpoint and calls no service other than that of the checkpoint, except with --copies and
--watch: the report then also has the copies of old ciphertexts, and the use of the source
keys.

With --ledger it lists the slots that could not be moved; with -o json, as one JSON object
per line. With --check it also verifies the audit log: every line, the chain of hashes, and
that the log contains every line that the checkpoint has recorded.

With --from it makes the report from a saved one (-o json), in any form. It then needs
neither the job file nor the checkpoint. Several saved reports are merged. With --diff it
compares two saved reports. See docs/report.md.

With --verdict it prints only whether each source key can be disabled, and what to do next.
This takes all stored passes into account. Use it as a gate before a key is disabled or
deleted: the exit code is 0 if every source key can be disabled, 3 if that is not proven, and
4 if a ciphertext or a caller depends on a key. For other codes see docs/exit-codes.md.`,
		func(ctx context.Context, c *jobFlags, job *config.Job) error {
			switch {
			case o.history:
				return reportHistory(ctx, c, job)
			case o.verdict.gate:
				return o.verdict.gateOf(ctx, c, job)
			case o.readPass > 0:
				return reportRead(ctx, c, job, o)
			}
			return reportJob(ctx, c, job, o)
		})
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { return o.validate(cmd.Flags()) }
	o.saved.addTo(cmd, c)
	cmd.Flags().IntVar(&o.pass, "pass", 0,
		"number of a pass of rotator run (default: the last one)")
	cmd.Flags().IntVar(&o.readPass, "read-pass", 0,
		"number of a read-only pass: a result of audit or verify")
	cmd.Flags().BoolVar(&o.history, "history", false, "list all passes and read-only passes")
	cmd.Flags().BoolVar(&o.check, "check", false, "verify the audit log")
	cmd.Flags().BoolVar(&o.ledger, "ledger", false, "list the slots in the ledger")
	o.verdict.addTo(cmd.Flags())
	return cmd
}

// reportOptions are the flags of report.
type reportOptions struct {
	pass          int // 0: the last one
	readPass      int // 0: none
	check, ledger bool
	history       bool
	verdict       verdictFlags
	saved         savedFlags
}

func (o reportOptions) validate(flags *pflag.FlagSet) error {
	read := flags.Changed("read-pass")
	switch {
	case o.check && o.ledger:
		return usagef("--check and --ledger cannot be combined; run report once with each")
	case flags.Changed("pass") && o.pass < 1:
		return usagef("--pass %d: passes are numbered from 1", o.pass)
	case read && o.readPass < 1:
		return usagef("--read-pass %d: read-only passes are numbered from 1", o.readPass)
	case o.history && (read || flags.Changed("pass") || o.check || o.ledger):
		return usagef("--history cannot be combined with --pass, --read-pass, --check or --ledger")
	case read && (flags.Changed("pass") || o.check || o.ledger):
		return usagef("--read-pass cannot be combined with --pass, --check or --ledger: a " +
			"read-only pass has no ledger and no audit log")
	}
	if err := onlyTextAndJSON(flags, "history", "ledger", "verdict"); err != nil {
		return err
	}
	return o.verdict.validate(flags)
}

// reportRead prints the result of a read-only pass.
func reportRead(ctx context.Context, c *jobFlags, job *config.Job, o reportOptions) error {
	store, err := c.openExisting(ctx, job)
	if err != nil {
		return err
	}
	passes := checkpoint.NewPasses(store, job.Job)
	read, err := storedRead(ctx, passes, job, o.readPass)
	if err != nil {
		return err
	}
	summary := readSummary(read, job.Job, "report")
	if o.verdict, err = o.verdict.ask(ctx, c, job); err != nil {
		return err
	}
	if err := o.verdict.judgeStored(ctx, c, passes, job, summary, true); err != nil {
		return err
	}
	return c.printReport(ctx, passes, job, summary, document.Input{
		Exceptions: listedOf(read),
		Copies:     o.verdict.found,
		Use:        o.verdict.use,
	})
}

// storedRead returns the read-only pass with a number.
func storedRead(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job, number int,
) (checkpoint.ReadPass, error) {
	read, err := passes.ReadPass(ctx, number)
	switch {
	case errors.As(err, new(*checkpoint.PrunedError)):
		return read, usagef("--read-pass %d: %v", number, err)
	case errors.Is(err, checkpoint.ErrNotFound):
		return read, noReadPass(ctx, passes, job, number)
	case err != nil:
		return read, &storageError{what: "read the checkpoint", err: err}
	}
	return read, nil
}

// noReadPass returns the error for a number without a read-only pass.
func noReadPass(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job, number int,
) error {
	last, err := passes.LastReadPass(ctx)
	switch {
	case err != nil:
		return &storageError{what: "read the checkpoint", err: err}
	case last == 0:
		return usagef("--read-pass %d: the checkpoint has no read-only pass of job %s; rotator "+
			"audit and rotator verify store one", number, job.Job)
	}
	return usagef("--read-pass %d: the checkpoint has no such read-only pass of job %s; the last "+
		"number is %d", number, job.Job, last)
}

// addsUp returns an error with the exit code 73 if the figures of stored records contradict each
// other.
func addsUp(summary *report.Summary) error {
	if err := summary.Check(); err != nil {
		pass := summary.VerdictPass()
		return &storageError{what: "read the figures of " + pass.Name(), err: err}
	}
	return nil
}

// printSummary writes a result to stdout.
func (c *jobFlags) printSummary(summary *report.Summary) error {
	if c.output == "json" {
		return summary.JSON(c.out)
	}
	return summary.Text(c.out)
}

func reportJob(ctx context.Context, c *jobFlags, job *config.Job, o reportOptions) error {
	store, err := c.openExisting(ctx, job)
	if err != nil {
		return err
	}
	passes := checkpoint.NewPasses(store, job.Job)
	record, err := keptPass(ctx, passes, job, o.pass)
	if err != nil {
		return err
	}
	switch {
	case o.ledger:
		return c.printLedger(ctx, passes, record, job)
	case c.table == sheet.Exceptions:
		return c.printLedgerSheet(ctx, passes, record, job)
	}
	summary, err := recorded(ctx, passes, record, job, "report")
	if err != nil {
		return err
	}
	if o.check {
		checked, err := c.checkLogs(ctx, passes, job, record)
		if err != nil {
			return err
		}
		checked.addTo(summary)
	}
	if o.verdict, err = o.verdict.ask(ctx, c, job); err != nil {
		return err
	}
	err = o.verdict.judgeStored(ctx, c, passes, job, summary, o.pass > 0)
	if err != nil {
		return err
	}
	listed, err := c.firstExceptions(ctx, passes, record, job)
	if err != nil {
		return err
	}
	return c.printReport(ctx, passes, job, summary, document.Input{
		Exceptions: listed,
		Copies:     o.verdict.found,
		Use:        o.verdict.use,
	})
}

// logFile names an audit log of a pass.
type logFile struct{ host, name string }

// path returns the path at which the log is expected. Logs of other machines
// must be copied to a directory next to the log of the job.
func (f logFile) path(job *config.Job) string {
	if f.host != hostname() {
		return filepath.Join(filepath.Dir(job.AuditLog), f.host, f.name)
	}
	return filepath.Join(filepath.Dir(job.AuditLog), f.name)
}

// keptPass returns the pass with the given number, or the last pass if number
// is 0. A pass can be read even if the record of a later pass is damaged.
func keptPass(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job, number int,
) (checkpoint.Pass, error) {
	last, lastErr := lastPass(ctx, passes, job)
	if number == 0 || lastErr == nil && number == last.Number {
		return last, lastErr
	}
	record, err := passes.Pass(ctx, number)
	switch {
	case errors.As(err, new(*checkpoint.PrunedError)):
		return record, usagef("--pass %d: %v", number, err)
	case errors.Is(err, checkpoint.ErrNotFound) && lastErr != nil:
		return record, lastErr
	case errors.Is(err, checkpoint.ErrNotFound),
		err == nil && lastErr == nil && number > last.Number:
		return record, usagef(
			"--pass %d: the checkpoint has no such pass of job %s; the last one is %d",
			number, job.Job, last.Number)
	case err != nil:
		return record, &storageError{what: "read the checkpoint", err: err}
	}
	return record, nil
}

// headerKey returns the key that the header of an exception names. The key of its token may have
// become known after the entry was stored.
func headerKey(e checkpoint.LedgerEntry, tokens map[string]string) string {
	if token, ok := e.Origin.Token(); ok && e.HeaderKey == checkpoint.HeaderUnknown {
		return cmp.Or(tokens[token], e.HeaderKey)
	}
	return e.HeaderKey
}

// printLedger lists the exceptions of a pass, each with the accept rule that
// covers it.
func (c *jobFlags) printLedger(
	ctx context.Context, passes *checkpoint.Passes, record checkpoint.Pass, job *config.Job,
) error {
	entries, err := ledgerOf(ctx, passes, record, job)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(c.out)
	for e, err := range entries {
		switch {
		case err != nil:
			return err
		case c.output == formJSON:
			err = encoder.Encode(e)
		default:
			err = printEntry(c.out, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// printEntry writes an exception as text: its address, and below it what is known about it.
func printEntry(w io.Writer, e checkpoint.LedgerEntry) error {
	line := func(text string) string {
		text = columns.WrapAt(printable.Text(text), columns.Width-2)
		return "  " + strings.ReplaceAll(text, "\n", "\n  ") + "\n"
	}
	state := fmt.Sprintf("%s, %s, %s", e.Outcome, e.Reason,
		plural.Count(int64(e.Attempts), "attempt"))
	if e.Accepted > 0 {
		state += fmt.Sprintf(", accepted by accept[%d]", e.Accepted-1)
	}
	text := printable.Text(strings.TrimSuffix(e.Target+"  "+e.Ref+"  "+e.Path, "  ")) + "\n" +
		line(state)
	if e.Key != "" {
		text += line("under " + e.Key)
	}
	if e.Detail != "" {
		text += line(e.Detail)
	}
	_, err := io.WriteString(w, text)
	return err
}
