package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/columns"
	"rotator/internal/config"
	"rotator/internal/report"
)

// history is the result of report --history.
type history struct {
	Job     string         `json:"job"`
	Entries []historyEntry `json:"history"`
}

// historyEntry is one pass or one read-only pass. Unreadable is the error if its records cannot
// be read; Slots, Converged and SourceKeys are then unknown.
type historyEntry struct {
	Kind       string             `json:"kind"`
	Number     int                `json:"number"`
	Command    string             `json:"command,omitempty"`
	Status     string             `json:"status,omitempty"`
	Began      time.Time          `json:"began,omitzero"`
	Ended      time.Time          `json:"ended,omitzero"`
	Caller     string             `json:"caller,omitempty"`
	Account    string             `json:"account,omitempty"`
	Hosts      []string           `json:"hosts,omitempty"`
	Version    string             `json:"version,omitempty"`
	Exact      bool               `json:"exact,omitempty"`
	Flags      []string           `json:"flags,omitempty"`
	Slots      report.Slots       `json:"slots"`
	Sample     report.Sample      `json:"sample"`
	Converged  bool               `json:"converged"`
	SourceKeys []report.SourceKey `json:"source_keys,omitempty"`
	// ContentDigests are those of a read-only pass, by target.
	ContentDigests map[string]*checkpoint.ContentDigest `json:"content_digests,omitempty"`
	// LastPass is the number of the last pass when a read-only pass began.
	LastPass   *int   `json:"last_pass,omitempty"`
	Unreadable string `json:"unreadable,omitempty"`
	// Pruned is set if rotator checkpoint prune has deleted the records.
	Pruned *checkpoint.Pruned `json:"pruned,omitempty"`
}

// reportHistory prints all passes and read-only passes of the job.
func reportHistory(ctx context.Context, c *jobFlags, job *config.Job) error {
	store, err := c.openExisting(ctx, job)
	if err != nil {
		return err
	}
	passes := checkpoint.NewPasses(store, job.Job)
	h := history{Job: job.Job}
	if h.Entries, err = c.passHistory(ctx, passes, job); err != nil {
		return err
	}
	reads, err := c.readHistory(ctx, passes, job)
	if err != nil {
		return err
	}
	h.Entries = append(h.Entries, reads...)
	slices.SortStableFunc(h.Entries, func(a, b historyEntry) int {
		return cmp.Or(a.Began.Compare(b.Began), cmp.Compare(a.Number, b.Number))
	})
	return c.printHistory(h)
}

// passHistory returns the passes of the job, from the first to the last.
func (c *jobFlags) passHistory(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job,
) (list []historyEntry, err error) {
	last, err := passes.LastNumber(ctx)
	if err != nil {
		return nil, &storageError{what: "read the checkpoint", err: err}
	}
	for number := 1; number <= last; number++ {
		e, err := passEntry(ctx, passes, job, number)
		pruned := (*checkpoint.PrunedError)(nil)
		switch {
		case errors.As(err, &pruned):
			e = prunedEntry(pruned)
		case errors.Is(err, checkpoint.ErrNotFound):
			continue
		case unusable(err):
			e = historyEntry{Unreadable: c.secrets.Text(c.headline(err))}
		case err != nil:
			return nil, err
		}
		e.Kind, e.Number = checkpoint.KindPass, number
		list = append(list, e)
	}
	return list, nil
}

func passEntry(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job, number int,
) (historyEntry, error) {
	record, err := passes.Pass(ctx, number)
	if err != nil {
		return historyEntry{}, &storageError{what: "read the checkpoint", err: err}
	}
	summary, err := recorded(ctx, passes, record, job, "run")
	if err == nil {
		err = addsUp(summary)
	}
	if err != nil {
		return historyEntry{}, err
	}
	e := entryOf(summary)
	for _, log := range record.Logs {
		if !slices.Contains(e.Hosts, log.Host) {
			e.Hosts = append(e.Hosts, log.Host)
		}
	}
	e.Version = "" // the runs of a pass can have different versions
	return e, nil
}

// prunedEntry returns the entry of a pass or a read-only pass whose records were deleted.
func prunedEntry(e *checkpoint.PrunedError) historyEntry {
	return historyEntry{
		Kind:   e.Kind,
		Number: e.Number,
		Status: string(e.Status),
		Began:  e.Began,
		Ended:  e.Ended,
		Pruned: &e.Pruned,
	}
}

// readHistory returns the read-only passes of the job, and those whose records were deleted.
func (c *jobFlags) readHistory(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job,
) (list []historyEntry, err error) {
	for read, err := range passes.ReadPasses(ctx) {
		if err != nil && (read.Number == 0 || !checkpoint.IsUnreadable(err)) {
			return nil, &storageError{what: "read the checkpoint", err: err}
		}
		var e historyEntry
		if err == nil {
			e, err = readEntry(read, job)
		}
		if err != nil {
			e = historyEntry{Unreadable: c.secrets.Text(c.headline(err))}
		}
		e.Kind, e.Number = checkpoint.KindReadPass, read.Number
		list = append(list, e)
	}
	deleted, err := prunedReads(ctx, passes, list)
	return append(list, deleted...), err
}

// prunedReads returns the read-only passes that are not in list because their records were
// deleted.
func prunedReads(
	ctx context.Context, passes *checkpoint.Passes, list []historyEntry,
) (deleted []historyEntry, err error) {
	last, err := passes.LastReadPass(ctx)
	if err != nil {
		return nil, &storageError{what: "read the checkpoint", err: err}
	}
	for number := 1; number <= last; number++ {
		if slices.ContainsFunc(list, func(e historyEntry) bool { return e.Number == number }) {
			continue
		}
		_, err := passes.ReadPass(ctx, number)
		if pruned := (*checkpoint.PrunedError)(nil); errors.As(err, &pruned) {
			deleted = append(deleted, prunedEntry(pruned))
		}
	}
	return deleted, nil
}

func readEntry(read checkpoint.ReadPass, job *config.Job) (historyEntry, error) {
	summary := readSummary(read, job.Job, read.Command)
	if err := addsUp(summary); err != nil {
		return historyEntry{}, err
	}
	e := entryOf(summary)
	e.Hosts, e.Exact, e.Flags = []string{read.Host}, read.Exact, read.Flags
	e.ContentDigests = read.ContentDigests()
	if read.LastPass != nil {
		e.LastPass = &read.LastPass.Number
	}
	return e, nil
}

// unusable reports whether err means that records exist and cannot be read, or that their figures
// contradict each other.
func unusable(err error) bool {
	return checkpoint.IsUnreadable(err) || errors.As(err, new(*report.SumError))
}

func entryOf(s *report.Summary) historyEntry {
	return historyEntry{
		Command:    s.Command,
		Status:     s.Status,
		Began:      s.AsOf,
		Ended:      s.Ended,
		Caller:     s.Caller,
		Account:    s.Account,
		Version:    s.Version,
		Slots:      s.Slots,
		Sample:     s.Sample,
		Converged:  s.Converged,
		SourceKeys: s.SourceKeys,
	}
}

func (c *jobFlags) printHistory(h history) error {
	if c.output == "json" {
		encoder := json.NewEncoder(c.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(h)
	}
	passes := columns.NewTable("PASS", "COMMAND", "BEGAN", "ENDED", "STATUS", "SLOTS", "ROTATED",
		"REMAINING", "EXCEPTIONS", "RESULT", "CALLER")
	digests := columns.NewTable("PASS", "TARGET", "CONTENT DIGEST", "ITEMS", "NOT COVERED",
		"COMPARISON")
	for _, e := range h.Entries {
		e.addTo(passes)
		e.addDigests(digests)
	}
	if err := passes.Text(c.out); err != nil {
		return err
	}
	return columns.Tables(c.out, digests)
}

// name returns the name of the pass in a table.
func (e historyEntry) name() string {
	if e.Kind == checkpoint.KindReadPass {
		return fmt.Sprintf("read-only %d", e.Number)
	}
	return fmt.Sprint(e.Number)
}

// addTo adds the pass to the table of passes.
func (e historyEntry) addTo(table *columns.Table) {
	switch {
	case e.Unreadable != "":
		table.Row(e.name(), "-", "-", "-", "unreadable", "-", "-", "-", "-", e.Unreadable, "-")
	case e.Pruned != nil:
		table.Row(e.name(), "-", e.Began.Format(time.RFC3339), timeOrDash(e.Ended), e.Status, "-",
			"-", "-", "-", "deleted "+e.Pruned.At.Format(time.RFC3339), e.Pruned.By)
	default:
		table.Row(e.name(), e.Command, e.Began.Format(time.RFC3339), timeOrDash(e.Ended), e.Status,
			e.Slots.Seen, e.Slots.Rotated, e.Slots.Remaining, e.Slots.Exceptions(), e.result(),
			cmp.Or(e.Caller, e.Account, "-"))
	}
}

// addDigests adds the content digests of a read-only pass to a table.
func (e historyEntry) addDigests(table *columns.Table) {
	for _, target := range slices.Sorted(maps.Keys(e.ContentDigests)) {
		d := e.ContentDigests[target]
		table.Row(e.name(), target, d.Digest, d.Items, d.Uncovered(), comparison(d.Compared))
	}
}

// comparison names the result of a comparison and the pass or file it was made with.
func comparison(c *checkpoint.ContentComparison) string {
	switch {
	case c == nil:
		return "-"
	case c.File != "":
		return c.Result + " (" + c.File + ")"
	}
	return fmt.Sprintf("%s (read-only %d)", c.Result, c.ReadPass)
}

func timeOrDash(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.RFC3339)
}

// result returns the reasons of the sentences about the source keys.
func (e historyEntry) result() string {
	var parts []string
	for _, k := range e.SourceKeys {
		part := k.Reason
		if len(e.SourceKeys) > 1 {
			part = cmp.Or(k.Given, k.Key) + ": " + k.Reason
		}
		parts = append(parts, part)
	}
	return cmp.Or(strings.Join(parts, ", "), "-")
}
