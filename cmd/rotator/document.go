package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/redact"
	"rotator/internal/report"
	"rotator/internal/report/document"
	"rotator/internal/report/markdown"
	"rotator/internal/report/page"
	"rotator/internal/report/sheet"
)

// The forms of a result, which are the values of -o.
const (
	formText     = "text"
	formJSON     = "json"
	formHTML     = "html"
	formCSV      = "csv"
	formMarkdown = "md"
)

// formsOf returns the forms of the result of a command.
func formsOf(command string) []string {
	if slices.Contains([]string{"audit", "verify", "report"}, command) {
		return []string{formText, formJSON, formHTML, formCSV, formMarkdown}
	}
	return []string{formText, formJSON}
}

// listForms returns names as a list in words.
func listForms(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// addTable adds the flag --table to a command that has the form csv.
func (c *jobFlags) addTable(flags *pflag.FlagSet) {
	if slices.Contains(c.forms, formCSV) {
		flags.StringVar(&c.table, "table", "", "with -o csv: "+listForms(sheet.Tables()))
	}
}

// validateForm checks -o and --table.
func (c *jobFlags) validateForm() error {
	switch {
	case !slices.Contains(c.forms, c.output):
		return usagef("-o %s: the formats are %s", c.output, listForms(c.forms))
	case c.output == formCSV && c.table == "":
		return usagef("-o csv needs --table %s", listForms(sheet.Tables()))
	case c.output != formCSV && c.table != "":
		return usagef("--table needs -o csv")
	case c.table != "" && !slices.Contains(sheet.Tables(), c.table):
		return usagef("--table %s: the tables are %s", c.table, listForms(sheet.Tables()))
	}
	return nil
}

// onlyTextAndJSON refuses other forms together with the given flags.
func onlyTextAndJSON(flags *pflag.FlagSet, names ...string) error {
	form, err := flags.GetString("output")
	if err != nil || form == formText || form == formJSON {
		return err
	}
	for _, name := range names {
		switch {
		case !flags.Changed(name):
		case name == "ledger" && form == formCSV:
			return usagef("--ledger -o csv: for the ledger as CSV, run rotator report -o csv "+
				"--table %s; --ledger itself has the formats text and json", sheet.Exceptions)
		default:
			return usagef("--%s -o %s: the formats are text and json", name, form)
		}
	}
	return nil
}

// printDocument writes a document in the form of -o. If figures contradict each other, it
// returns an error, except in text, which shows the figures as they are.
func (c *jobFlags) printDocument(d *document.Document) error {
	if c.output == formText {
		return d.Text(c.out)
	}
	if err := d.Check(); err != nil {
		return &outcomeError{code: exitInternal, text: fmt.Sprintf(
			"bug: the report was not written: %v", err)}
	}
	switch c.output {
	case formHTML:
		return page.Write(c.out, d)
	case formMarkdown:
		return markdown.Write(c.out, d)
	case formCSV:
		if n := d.Exceptions.LeftOut; c.table == sheet.Exceptions && n > 0 {
			c.logger.Warn(fmt.Sprintf("the report lists %d of %d exceptions; rotator report "+
				"--ledger and the flag --exceptions of audit and verify list all of them",
				len(d.Exceptions.Listed), d.Exceptions.Total))
		}
		if c.table == sheet.Copies && d.Copies == nil {
			c.logger.Warn("the table of copies is empty, because AWS was not asked about them; " +
				"rotator report --copies asks it")
		}
		if (c.table == sheet.Keys || c.table == sheet.Callers) && d.KeyUse == nil {
			c.logger.Warn(fmt.Sprintf("the table of %s is empty, because AWS was not asked about "+
				"the source keys; rotator report --watch asks it", c.table))
		}
		return sheet.Write(c.sheetOutput(), d, c.table)
	}
	return d.JSON(c.out)
}

// sheetOutput returns the output of CSV. The cells are escaped already, and the escaping of c.out
// would change the ends of the rows.
func (c *jobFlags) sheetOutput() io.Writer { return redact.NewWriter(c.secrets, c.result) }

// printReport writes the document of a stored result, if its figures add up. in has its
// exceptions and copies.
func (c *jobFlags) printReport(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job, s *report.Summary,
	in document.Input,
) error {
	if err := addsUp(s); err != nil {
		return err
	}
	if c.output != formText {
		in.Passes, in.Unread = c.passesOf(ctx, passes, job, s)
	}
	in.Now = time.Now()
	return c.printDocument(document.New(s, in))
}

// writeDocument prints the result of a read-only pass. Stored passes that cannot be read are left
// out.
func (s *session) writeDocument(ctx context.Context) error {
	if err := s.summary.Check(); err != nil {
		return &outcomeError{code: exitInternal, text: "bug: " + err.Error()}
	}
	in := document.Input{
		Now:        time.Now(),
		Exceptions: s.found.listed,
		Copies:     s.asked.found,
		Use:        s.asked.use,
	}
	if s.output == formText {
		return s.printDocument(document.New(s.summary, in))
	}
	reading, cancel := context.WithTimeout(ctx, s.checkpointTime(joinTime))
	defer cancel()
	in.Passes = []document.Stored{{Summary: s.summary, Reported: true}}
	store, err := s.storeToRead(reading)
	switch {
	case err == nil:
		passes := checkpoint.NewPasses(store, s.job.Job)
		in.Passes, in.Unread = s.passesOf(reading, passes, s.job, s.summary)
	case !absent(err):
		in.Unread = []string{"earlier passes: " + s.secrets.Text(s.headline(err))}
	}
	return s.printDocument(document.New(s.summary, in))
}

// passesOf returns the stored passes of the job in the order of time, and marks the one of s. It
// adds s itself if it is not stored. unread names the passes that cannot be read.
func (c *jobFlags) passesOf(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job, s *report.Summary,
) (list []document.Stored, unread []string) {
	cannot := func(name string, err error) {
		if !errors.As(err, new(*checkpoint.PrunedError)) &&
			!errors.Is(err, checkpoint.ErrNotFound) {
			unread = append(unread, name+": "+c.secrets.Text(c.headline(err)))
		}
	}
	last, err := passes.LastNumber(ctx)
	if err != nil {
		cannot("passes", err)
	}
	for number := max(1, last-maxHistory+1); number <= last; number++ {
		one, err := writingPass(ctx, passes, job, number)
		if err != nil {
			cannot(fmt.Sprintf("pass %d", number), err)
			continue
		}
		list = append(list, one)
	}
	read := 0
	for one, err := range passes.ReadPasses(ctx) {
		if read++; read > maxHistory {
			break
		}
		if err != nil {
			cannot(fmt.Sprintf("read-only pass %d", one.Number), err)
			continue
		}
		list = append(list, readingPass(one, job))
	}
	slices.SortStableFunc(list, func(a, b document.Stored) int {
		return a.Summary.AsOf.Compare(b.Summary.AsOf)
	})
	at := slices.IndexFunc(list, func(p document.Stored) bool {
		return p.Summary.Pass == s.Pass && p.Summary.ReadPass == s.ReadPass
	})
	if at < 0 {
		return append(list, document.Stored{Summary: s, Reported: true}), unread
	}
	list[at].Reported = true
	return list, unread
}

// writingPass returns the figures of a pass of runs.
func writingPass(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job, number int,
) (document.Stored, error) {
	record, err := passes.Pass(ctx, number)
	if err != nil {
		return document.Stored{}, err
	}
	records, err := recordsOf(ctx, passes, record)
	if err != nil {
		return document.Stored{}, err
	}
	s, err := figuresOf(ctx, records, record, job, "run")
	if err != nil {
		return document.Stored{}, err
	}
	same, err := job.HasFingerprint(record.Fingerprint)
	if err != nil {
		return document.Stored{}, err
	}
	one := document.Stored{Summary: s, OtherJob: !same, Logs: record.Logs}
	for _, log := range record.Logs {
		if !slices.Contains(one.Hosts, log.Host) {
			one.Hosts = append(one.Hosts, log.Host)
		}
	}
	return one, nil
}

// readingPass returns the figures of a read-only pass.
func readingPass(read checkpoint.ReadPass, job *config.Job) document.Stored {
	same, err := job.HasFingerprint(read.Fingerprint)
	return document.Stored{
		Summary:  readSummary(read, job.Job, read.Command),
		Hosts:    []string{read.Host},
		Version:  read.Version,
		Exact:    read.Exact,
		OtherJob: err != nil || !same,
	}
}

// ledgerOf iterates over the exceptions in the ledger of a pass. It holds one chunk of the ledger
// in memory. An error ends the iteration.
func ledgerOf(
	ctx context.Context, passes *checkpoint.Passes, record checkpoint.Pass, job *config.Job,
) (iter.Seq2[checkpoint.LedgerEntry, error], error) {
	accepts, err := acceptedBy(ctx, passes, record, job)
	if err != nil {
		return nil, err
	}
	return func(yield func(checkpoint.LedgerEntry, error) bool) {
		for chunk, err := range passes.Ledger(ctx, record) {
			if err != nil {
				err = &storageError{what: "read the ledger", err: err}
				yield(checkpoint.LedgerEntry{}, err)
				return
			}
			for _, e := range chunk.Entries {
				e.Accepted, e.HeaderKey = accepts(e), headerKey(e, record.TokenKeys)
				if !yield(e, nil) {
					return
				}
			}
		}
	}, nil
}

// firstExceptions returns the first exceptions in the ledger of a pass. Text needs none.
func (c *jobFlags) firstExceptions(
	ctx context.Context, passes *checkpoint.Passes, record checkpoint.Pass, job *config.Job,
) (list []checkpoint.LedgerEntry, err error) {
	if c.output == formText {
		return nil, nil
	}
	entries, err := ledgerOf(ctx, passes, record, job)
	if err != nil {
		return nil, err
	}
	for e, err := range entries {
		if err != nil {
			return nil, err
		}
		list = append(list, e)
		if len(list) == document.MaxListed {
			break
		}
	}
	return list, nil
}

// printLedgerSheet writes all exceptions of a pass as CSV.
func (c *jobFlags) printLedgerSheet(
	ctx context.Context, passes *checkpoint.Passes, record checkpoint.Pass, job *config.Job,
) error {
	entries, err := ledgerOf(ctx, passes, record, job)
	if err != nil {
		return err
	}
	return sheet.WriteExceptions(c.sheetOutput(), entries)
}

// listedOf returns the exceptions that a read-only pass has stored, without duplicates.
func listedOf(read checkpoint.ReadPass) (list []checkpoint.LedgerEntry) {
	type slot struct{ target, ref, path string }
	known := map[slot]bool{}
	for _, e := range slices.Concat(read.Failed, read.Examples) {
		at := slot{e.Target, e.Ref, e.Path}
		if !known[at] {
			known[at] = true
			e.HeaderKey = headerKey(e, read.TokenKeys)
			list = append(list, e)
		}
	}
	return list
}
