// Package markdown writes a report as Markdown, for tickets and pull requests. Names and messages
// from outside are escaped, so that they have no effect on the form of the text.
package markdown

import (
	"fmt"
	"io"
	"strings"
	"time"

	"rotator/internal/copies"
	"rotator/internal/printable"
	"rotator/internal/report"
	"rotator/internal/report/document"
	"rotator/internal/verdict"
)

// maxRows is the maximum number of rows of a table.
const maxRows = 50

// Write writes a document as Markdown. The text depends on nothing else.
func Write(w io.Writer, d *document.Document) error {
	m := &writer{}
	m.verdicts(d)
	m.line("| | |")
	m.line("|---|---|")
	for _, row := range [][2]string{
		{"job", d.Job},
		{"result of", d.Command + ", " + d.Status},
		{"account", d.Account},
		{"caller", d.Caller},
		{"as of", moment(d.AsOf)},
		{"destination", d.DestinationKey},
		{"converged", d.Convergence},
	} {
		if row[1] != "" {
			m.line("| %s | %s |", row[0], escape(row[1]))
		}
	}
	m.inventory(d)
	m.targets(d)
	m.exceptions(d)
	m.copies(d)
	m.keyUse(d)
	m.passes(d)
	m.known(d)
	m.list("Content digests", report.ContentSentences(d.Targets))
	m.list("Not covered", d.Scope.NotLookedAt)
	m.list("Could not be read", d.Scope.CannotSee)
	m.list("Notes", d.Notes)
	_, err := io.WriteString(w, m.b.String())
	return err
}

type writer struct{ b strings.Builder }

// line writes a line. The arguments must have been escaped.
func (m *writer) line(format string, args ...any) {
	_, _ = fmt.Fprintf(&m.b, format+"\n", args...)
}

func (m *writer) head(title string) { m.line("\n## %s\n", title) }

// more states how many rows are left out.
func (m *writer) more(n int) {
	if n > 0 {
		m.line("\n%d more rows are left out. The JSON form has all of them.", n)
	}
}

func (m *writer) verdicts(d *document.Document) {
	if len(d.Verdicts) == 0 {
		m.line("# No verdict\n\nNo source key is known.\n")
	}
	for i, v := range d.Verdicts {
		first, rest := v.Sentence, ""
		if at := strings.Index(first, ". "); at >= 0 {
			first, rest = first[:at+1], first[at+2:]
		}
		m.line("%s %s\n", strings.Repeat("#", min(i+1, 2)), escape(first))
		m.line("%s\n", escape(strings.Join(append([]string{rest}, v.Why...), " ")))
		m.steps(v)
		m.line("%s\n", escape(v.Delete.Sentence))
		m.line("Key: %s. Verdict: %s (%s), exit code %d.\n", escape(v.Key), escape(string(v.Code)),
			escape(v.Reason), v.Exit)
	}
}

func (m *writer) steps(v verdict.Verdict) {
	for i, s := range v.NextSteps {
		m.line("%d. %s", i+1, escape(s.Do))
		if s.Command != "" {
			m.line("\n       %s\n", printable.Text(s.Command))
		}
	}
	if len(v.NextSteps) > 0 {
		m.line("")
	}
}

func (m *writer) inventory(d *document.Document) {
	m.head("Inventory")
	m.line("| target | key | role | before | after | by header |")
	m.line("|---|---|---|---:|---:|---:|")
	for _, h := range d.Inventory[:min(len(d.Inventory), maxRows)] {
		key, before := h.Key, "not known"
		if key == "" {
			key = "not known"
		}
		if h.Alias != "" {
			key = h.Alias + ", " + key
		}
		if h.Before != nil {
			before = fmt.Sprint(*h.Before)
		}
		m.line("| %s | %s | %s | %s | %d | %d |", escape(h.Target), escape(key), h.Role, before,
			h.After, h.ByHeader)
	}
	m.line("| **all** | | | | **%d** | |", d.Slots.Seen)
	m.more(len(d.Inventory) - maxRows)
}

func (m *writer) targets(d *document.Document) {
	m.head("Places")
	m.line("| target | place | items | slots | rotated | current | remaining | foreign | " +
		"failed | conflict | gone |")
	m.line("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, t := range d.Targets[:min(len(d.Targets), maxRows)] {
		where := "not recorded"
		if t.Location != nil {
			where = report.PlaceText(*t.Location)
		}
		m.outcomes(escape(t.Name), escape(where), t.Items.Seen, t.Slots)
	}
	m.outcomes("**all**", "", d.Items.Seen, d.Slots)
	m.more(len(d.Targets) - maxRows)
}

func (m *writer) outcomes(name, where string, items int64, s report.Slots) {
	m.line("| %s | %s | %d | %d | %d | %d | %d | %d | %d | %d | %d |", name, where, items, s.Seen,
		s.Rotated, s.Current, s.Remaining, s.Foreign, s.Failed, s.Conflict, s.Gone)
}

func (m *writer) exceptions(d *document.Document) {
	m.head("Exceptions")
	if d.Exceptions.Total == 0 {
		m.line("None.")
		return
	}
	m.line("| outcome | reason | slots |")
	m.line("|---|---|---:|")
	for _, r := range d.Reasons[:min(len(d.Reasons), maxRows)] {
		m.line("| %s | %s | %d |", escape(r.Outcome), escape(r.Reason), r.Slots)
	}
	m.line("| **all** | | **%d** |", d.Exceptions.Total)
	m.more(len(d.Reasons) - maxRows)
	listed := d.Exceptions.Listed[:min(len(d.Exceptions.Listed), maxRows)]
	if len(listed) == 0 {
		return
	}
	m.line("\n%d of %d exceptions:\n", len(listed), d.Exceptions.Total)
	m.line("| target | item | slot | reason | SHA-256 of the ciphertext |")
	m.line("|---|---|---|---|---|")
	for _, e := range listed {
		m.line("| %s | %s | %s | %s | %s |", escape(e.Target), escape(e.Ref), escape(e.Path),
			escape(e.Outcome+", "+e.Reason), escape(e.Blob))
	}
}

func (m *writer) copies(d *document.Document) {
	m.head("Copies of old ciphertexts")
	if d.Copies == nil {
		m.line("AWS was not asked (rotator report --copies).")
		return
	}
	m.line("| copy | place | state | count | until | detail |")
	m.line("|---|---|---|---:|---|---|")
	for _, c := range d.Copies[:min(len(d.Copies), maxRows)] {
		m.line("| %s | %s | %s | %d | %s | %s |", escape(c.Kind.Name()), escape(c.Place), c.State,
			c.Count, until(c), escape(c.Detail))
	}
	m.more(len(d.Copies) - maxRows)
}

func until(c copies.Row) string {
	switch {
	case c.State == copies.None:
		return ""
	case c.NoEnd:
		return "no end"
	case c.Until.IsZero():
		return "not known"
	}
	return c.Until.UTC().Format(time.DateOnly)
}

func (m *writer) keyUse(d *document.Document) {
	m.head("Use of the source keys")
	if d.KeyUse == nil {
		m.line("KMS and CloudTrail were not asked (rotator report --watch).")
		return
	}
	for _, k := range d.KeyUse[:min(len(d.KeyUse), maxRows)] {
		m.line("%s\n", escape(k.Sentence))
		m.line("| fact | value |")
		m.line("|---|---|")
		m.line("| asked | %s |", moment(k.Asked))
		facts := k.AllFacts()
		for _, f := range facts[:min(len(facts), maxRows)] {
			m.line("| %s | %s |", escape(f.About), escape(f.Sentence))
		}
		for _, one := range k.Materials[:min(len(k.Materials), maxRows)] {
			m.line("| key material | %s |", escape(one.Sentence()))
		}
		m.callers(k)
		m.line("")
	}
	m.more(len(d.KeyUse) - maxRows)
}

// callers lists the calls of other callers with a key.
func (m *writer) callers(k document.KeyUse) {
	callers := k.Trail.Callers
	if len(callers) == 0 {
		return
	}
	m.line("\n| caller | operation | result | calls | first | last |")
	m.line("|---|---|---|---:|---|---|")
	for _, c := range callers[:min(len(callers), maxRows)] {
		m.line("| %s | %s | %s | %d | %s | %s |", escape(c.Name()), escape(c.Operation),
			escape(document.Result(c)), c.Calls, moment(c.First), moment(c.Last))
	}
	m.more(len(callers) - maxRows)
}

// known states how many headers can be wrong.
func (m *writer) known(d *document.Document) {
	if text := d.BoundSentence(); text != "" {
		m.head("How each figure is known")
		m.line("%s", escape(text))
	}
}

func (m *writer) passes(d *document.Document) {
	m.head("Passes")
	m.line("| pass | command | began | ended | status | seen | moved | left under a source key |")
	m.line("|---|---|---|---|---|---:|---:|---:|")
	more := max(0, len(d.Passes)-maxRows)
	for _, p := range d.Passes[more:] {
		name := fmt.Sprintf("%s %d", p.Kind, p.Number)
		if p.Job != "" {
			name += " of " + p.Job
		}
		m.line("| %s | %s | %s | %s | %s | %d | %d | %d |", escape(name), escape(p.Command),
			moment(p.Began), moment(p.Ended), escape(p.Status), p.Slots.Seen, p.Slots.Rotated,
			p.Left)
	}
	m.more(more)
}

func (m *writer) list(title string, sentences []string) {
	for i, one := range sentences[:min(len(sentences), maxRows)] {
		if i == 0 {
			m.head(title)
		}
		m.line("- %s", escape(one))
	}
	m.more(len(sentences) - maxRows)
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// escape returns a text from outside for Markdown: it cannot begin a link, an image, a table cell
// or HTML.
func escape(text string) string {
	return strings.NewReplacer(
		`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "|", `\|`, "~", `\~`,
		"<", "&lt;", ">", "&gt;", "&", "&amp;", "#", `\#`, "!", `\!`, "://", `:\/\/`,
		"www.", `www\.`, "@", `\@`,
	).Replace(printable.Text(text))
}
