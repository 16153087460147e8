// Package sheet writes the tables of a report as CSV, for spreadsheets: RFC 4180, UTF-8 without a
// byte order mark, CRLF at the end of each row. A cell that a spreadsheet would read as a formula
// begins with an apostrophe. Characters that must not be printed are escaped.
package sheet

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/printable"
	"rotator/internal/report/document"
)

// The tables.
const (
	Inventory  = "inventory"
	Exceptions = "exceptions"
	Copies     = "copies"
	Passes     = "passes"
	Keys       = "keys"
	Callers    = "callers"
)

// Tables returns the names of the tables.
func Tables() []string {
	return []string{Inventory, Exceptions, Copies, Passes, Keys, Callers}
}

// Head returns the names of the columns of a table, or nil if there is no such table.
func Head(table string) []string {
	switch table {
	case Inventory:
		return []string{"job", "key_arn", "alias", "role", "target", "place", "kind", "format",
			"slots_before", "slots_after", "by_kms", "by_header"}
	case Exceptions:
		return []string{"target", "ref", "path", "outcome", "reason", "header_key", "key",
			"blob_sha256", "attempts", "at", "detail", "accepted_by_rule"}
	case Copies:
		return []string{"kind", "target", "place", "state", "count", "bytes", "until", "no_end",
			"api", "missing_permission", "detail"}
	case Passes:
		return []string{"job", "kind", "number", "command", "status", "began", "ended", "caller",
			"version", "seen", "rotated", "current", "remaining", "foreign", "failed", "conflict",
			"gone", "under_source_before", "under_source_after", "kms_requests", "reported"}
	case Keys:
		return []string{"job", "key_arn", "given", "asked", "since", "status", "state",
			"nist_state", "nist_rule", "spec", "created", "not_usable_since", "deletion",
			"last_use", "last_use_operation", "last_use_by", "last_use_caller",
			"last_use_request_id", "refused_calls", "grants", "grantees", "aliases", "materials",
			"material_in_use", "material_from", "material_age_days", "cannot_see", "sentence"}
	case Callers:
		return []string{"job", "key_arn", "caller", "via", "operation", "result", "refused",
			"calls", "first", "last"}
	}
	return nil
}

// Write writes a table of a document with a head.
func Write(w io.Writer, d *document.Document, table string) error {
	switch table {
	case Inventory:
		return inventory(w, d)
	case Exceptions:
		return WriteExceptions(w, func(yield func(checkpoint.LedgerEntry, error) bool) {
			for _, e := range d.Exceptions.Listed {
				if !yield(e, nil) {
					return
				}
			}
		})
	case Copies:
		return copyRows(w, d)
	case Passes:
		return passes(w, d)
	case Keys:
		return keys(w, d)
	case Callers:
		return callers(w, d)
	}
	return fmt.Errorf("there is no table %q", table)
}

// rows writes CSV and keeps the first error.
type rows struct{ w *csv.Writer }

// newRows writes the head of a table.
func newRows(w io.Writer, table string) rows {
	r := rows{csv.NewWriter(w)}
	r.w.UseCRLF = true
	r.row(Head(table)...)
	return r
}

// row writes one row. The error is kept by the csv.Writer and returned by end.
func (r rows) row(cells ...string) {
	for i, text := range cells {
		cells[i] = safe(text)
	}
	_ = r.w.Write(cells)
}

func (r rows) end() error {
	r.w.Flush()
	return r.w.Error()
}

// safe returns a text as a cell. A text that a spreadsheet would read as a formula gets an
// apostrophe.
func safe(text string) string {
	text = printable.Text(text)
	if text != "" && strings.ContainsRune("=+-@", rune(text[0])) {
		return "'" + text
	}
	return text
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// moment returns a time in RFC 3339, or "" if it is not known.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func inventory(w io.Writer, d *document.Document) error {
	r := newRows(w, Inventory)
	for _, h := range d.Inventory {
		before := ""
		if h.Before != nil {
			before = number(*h.Before)
		}
		r.row(jobOf(h.Job, d), h.Key, h.Alias, string(h.Role), h.Target, h.Place, h.Kind, h.Format,
			before, number(h.After), number(h.ByKMS()), number(h.ByHeader))
	}
	return r.end()
}

// WriteExceptions writes the table of exceptions. It holds one entry in memory at a time.
func WriteExceptions(w io.Writer, entries iter.Seq2[checkpoint.LedgerEntry, error]) error {
	r := newRows(w, Exceptions)
	for e, err := range entries {
		if err != nil {
			return err
		}
		accepted := ""
		if e.Accepted > 0 {
			accepted = number(int64(e.Accepted))
		}
		r.row(e.Target, e.Ref, e.Path, e.Outcome, e.Reason, e.HeaderKey, e.Key, e.Blob,
			number(int64(e.Attempts)), moment(e.At), e.Detail, accepted)
	}
	return r.end()
}

func copyRows(w io.Writer, d *document.Document) error {
	r := newRows(w, Copies)
	for _, c := range d.Copies {
		r.row(string(c.Kind), c.Target, c.Place, string(c.State), number(c.Count), number(c.Bytes),
			moment(c.Until), strconv.FormatBool(c.NoEnd), c.API, c.MissingPermission, c.Detail)
	}
	return r.end()
}

func passes(w io.Writer, d *document.Document) error {
	r := newRows(w, Passes)
	for _, p := range d.Passes {
		s := p.Slots
		r.row(jobOf(p.Job, d), p.Kind, number(int64(p.Number)), p.Command, p.Status,
			moment(p.Began), moment(p.Ended), p.Caller, p.Version, number(s.Seen),
			number(s.Rotated), number(s.Current), number(s.Remaining), number(s.Foreign),
			number(s.Failed), number(s.Conflict), number(s.Gone), number(p.Found), number(p.Left),
			number(p.KMS.Requests), strconv.FormatBool(p.Reported))
	}
	return r.end()
}

// keys writes what AWS stated about the source keys, one row for each key.
func keys(w io.Writer, d *document.Document) error {
	r := newRows(w, Keys)
	for _, k := range d.KeyUse {
		u := k.LastUsage
		grants, grantees := "", []string{}
		if k.Grants != nil {
			grants = number(int64(len(k.Grants)))
		}
		for _, g := range k.Grants {
			grantees = append(grantees, g.Grantee)
		}
		refused, current, unseen := "", document.Material{}, []string{}
		if k.Refused != nil {
			refused = number(*k.Refused)
		}
		for _, m := range k.Materials {
			if m.State == "CURRENT" {
				current = m
			}
		}
		for _, one := range k.CannotSee {
			unseen = append(unseen, one.What+" ("+one.Permission+")")
		}
		age := ""
		if !current.From.IsZero() {
			age = number(int64(current.AgeDays))
		}
		r.row(jobOf(k.Job, d), k.ARN, k.Given, moment(k.Asked), moment(k.Since), string(k.Status),
			k.State, string(k.NIST), k.Rule, k.Spec, moment(k.Created), moment(k.Disabled),
			moment(k.Deletion), moment(u.At), u.Operation, string(u.By), u.Caller, u.RequestID,
			refused, grants, strings.Join(grantees, "; "), strings.Join(k.Aliases, "; "),
			number(int64(len(k.Materials))), current.ID, moment(current.From), age,
			strings.Join(unseen, "; "), k.Sentence)
	}
	return r.end()
}

// callers writes the calls of other callers with the source keys.
func callers(w io.Writer, d *document.Document) error {
	r := newRows(w, Callers)
	for _, k := range d.KeyUse {
		for _, c := range k.Trail.Callers {
			r.row(jobOf(k.Job, d), k.ARN, c.ARN, c.Via, c.Operation, document.Result(c),
				strconv.FormatBool(c.Refused), number(c.Calls), moment(c.First), moment(c.Last))
		}
	}
	return r.end()
}

// jobOf returns the job of a row of a merged report, or the job of the report.
func jobOf(job string, d *document.Document) string { return cmp.Or(job, d.Job) }
