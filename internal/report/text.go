package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"rotator/internal/columns"
	"rotator/internal/plural"
	"rotator/internal/printable"
)

// JSON writes the summary as one indented JSON object.
func (s *Summary) JSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(s)
}

// Text writes the summary as text: the verdicts and what to do next, and then the figures. Lines
// have at most 80 characters, except for commands, names that are longer, and large figures.
func (s *Summary) Text(w io.Writer) error {
	out := &lines{w: tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	s.head(out)
	out.locations(s.Targets)
	s.figures(out)
	out.reasons(s.Reasons)
	out.versions(s.Targets)
	if len(s.Accepted) > 0 {
		out.line("")
		out.line("ACCEPT RULE\tTARGET\tSLOTS\tBECAUSE")
		for _, a := range s.Accepted {
			out.line("accept[%d]\t%s\t%d\t%s", a.Rule-1, a.Target, a.Slots, a.Because)
		}
	}
	out.searched(s.Search)
	out.contents(s.Targets)
	out.line("")
	out.fact("KMS requests", "%d (%d throttled)", s.KMS.Requests, s.KMS.Throttled)
	if saved := s.KMS; saved.Header+saved.Shared > 0 {
		out.fact("slots without a request", "%d by ciphertext header, "+
			"%d with the blob of another slot", saved.Header, saved.Shared)
	}
	if n := s.KMS.Checked; n > 0 {
		out.fact("headers", "%d compared with KMS", n)
	}
	out.fact("converged", "%s", cmp.Or(s.Convergence, s.convergence()))
	for _, note := range s.Notes {
		out.fact("note", "%s", note)
	}
	return out.end()
}

// head writes the sentences about source keys, the unproven targets and rules, and the facts
// about the pass.
func (s *Summary) head(out *lines) {
	if c := s.LogCheck; c != nil {
		out.paragraph(c.sentence())
		out.line("")
	}
	for _, v := range s.Verdicts {
		out.verdict(v)
		out.line("")
	}
	for _, u := range s.NotProven {
		out.paragraph("not proven: " + u.Sentence)
		out.line("")
	}
	out.line("%s of job %s: %s", s.Command, s.Job, s.Status)
	if n := s.Newer; n != nil {
		out.paragraph(fmt.Sprintf("The figures below are those of pass %d. Read-only pass %d is "+
			"newer. To print it:", s.Pass, n.ReadPass))
		out.line("     %s", n.Command)
	}
	out.line("")
	if s.Pass > 0 {
		out.fact("pass", "%d", s.Pass)
	}
	if s.ReadPass > 0 {
		out.fact("read-only pass", "%d", s.ReadPass)
	}
	if s.Mode != ModeMove && s.Mode != "" {
		out.fact("mode", "%s", s.Mode)
	}
	for _, k := range s.SourceKeys {
		out.fact("source", "%s", k.Key)
	}
	out.fact("destination", "%s", s.DestinationKey)
	if s.Account != "" {
		out.fact("account", "%s", s.Account)
	}
	if s.Caller != "" {
		out.fact("caller", "%s", s.Caller)
	}
	if !s.AsOf.IsZero() {
		out.fact("as of", "%s, when reading started", s.AsOf.Format(time.RFC3339))
	}
	if !s.Ended.IsZero() {
		out.fact("took", "%s (ended %s)", s.Ended.Sub(s.Started).Round(time.Millisecond),
			s.Ended.Format(time.RFC3339))
	}
}

// sentence states the result of the check.
func (c LogCheck) sentence() string {
	if !c.Intact {
		return "audit log: nothing to check, because no run of the pass has saved anything yet."
	}
	return fmt.Sprintf("audit log: intact. %s %s all %s lines that the checkpoint has recorded. "+
		"The notes name each log.", plural.Count(int64(c.Logs), "log"),
		plural.Form(int64(c.Logs), "has", "have"), plural.Digits(c.Lines))
}

// figures writes the counts of targets, skipped items and keys.
func (s *Summary) figures(out *lines) {
	out.line("")
	out.line("TARGET\tSLOTS\tROTATED\tCURRENT\tREMAINING\tFOREIGN\tFAILED\tCONFLICT\tGONE")
	for _, t := range s.Targets {
		out.counts(t.Name, t.Slots)
	}
	if len(s.Targets) > 1 {
		out.counts("all", s.Slots)
	}
	out.line("")
	out.line("TARGET\tITEMS\tWITHOUT SLOT")
	for _, t := range s.Targets {
		out.line("%s\t%d\t%d", t.Name, t.Items.Seen, t.Items.WithoutSlot)
	}
	if s.Items.Excluded > 0 {
		out.line("")
		out.line("skipped by include and exclude: %s", plural.Count(s.Items.Excluded, "item"))
	}
	if s.Items.Own > 0 {
		out.line("")
		out.line("skipped files of rotator itself: %s", plural.Count(s.Items.Own, "item"))
	}
	if len(s.Keys) > 0 {
		out.line("")
		out.line("FOUND UNDER KEY, SLOTS, IDENTIFIED BY")
		for _, k := range s.Keys {
			out.line("%s", k.Key)
			out.line("  %d  %s", k.Slots, k.How)
		}
	}
}

// convergence states whether the pass is evidence that the source keys are no longer needed,
// and if not, the reason.
func (s *Summary) convergence() string {
	switch {
	case s.Converged && s.Slots.Exceptions() > 0:
		return fmt.Sprintf("yes, except for %s covered by accept rules, as of %s",
			slots(s.Slots.Exceptions()), s.AsOf.Format(time.RFC3339))
	case s.Converged && s.filtered > 0:
		return fmt.Sprintf("yes, except for %s skipped by include and exclude, as of %s",
			plural.Count(s.filtered, "item"), s.AsOf.Format(time.RFC3339))
	case s.Converged:
		return "yes: " + s.settled() + ", as of " + s.AsOf.Format(time.RFC3339)
	case s.Status != Complete:
		return "no: the pass is not complete"
	case s.Slots.Remaining > 0:
		verb := "are"
		if s.Slots.Remaining == 1 {
			verb = "is"
		}
		return fmt.Sprintf("no: %s %s %s", slots(s.Slots.Remaining), verb, s.Mode.Where())
	case s.OldVersionsLeft() > 0:
		return fmt.Sprintf("no: %s of objects %s under a source key",
			plural.Count(s.OldVersionsLeft(), "old version"),
			plural.Form(s.OldVersionsLeft(), "is", "are"))
	case s.Unaccepted() > 0:
		return fmt.Sprintf("no: the ledger has %s that failed, are foreign, or kept changing",
			slots(s.Unaccepted()))
	case len(s.NotProven) > 0:
		return "not proven: " + targetsOrRules(len(s.NotProven)) + ", listed above"
	case len(s.doubts) > 0:
		return "no: " + s.doubts[0]
	case s.doubtful:
		return "no: some figures depend on ciphertext headers that were not confirmed"
	}
	return "not yet: this pass moved slots; only a later pass that finds no ciphertext to move " +
		"proves it (rotator verify)"
}

// lines writes rows of a table. It escapes all arguments and keeps the first error.
type lines struct {
	w   *tabwriter.Writer
	err error
}

func (l *lines) line(format string, args ...any) {
	if l.err == nil {
		_, l.err = printable.Fprintf(l.w, format+"\n", args...)
	}
}

// width is the width of paragraphs in characters.
const width = columns.Width

// Wrap wraps text at 80 characters and indents all lines after the first. It does not break
// longer words.
func Wrap(text string) string { return columns.WrapAt(text, width) }

// paragraph writes wrapped text.
func (l *lines) paragraph(text string) {
	if l.err == nil {
		_, l.err = fmt.Fprintln(l.w, Wrap(printable.Text(text)))
	}
}

// tables writes tables, each after an empty line.
func (l *lines) tables(tables ...*columns.Table) {
	if l.err == nil {
		l.err = l.w.Flush()
	}
	if l.err == nil {
		l.err = columns.Tables(l.w, tables...)
	}
}

// locations lists the locations of the targets.
func (l *lines) locations(targets []Target) {
	for i, t := range targets {
		if i == 0 {
			l.line("")
			l.fact("TARGET", "LOCATION")
		}
		where := "not recorded by an earlier version"
		if t.Location != nil {
			where = PlaceText(*t.Location)
		}
		l.fact(t.Name, "%s", where)
	}
}

// reasons lists the reasons of exceptions with a few examples.
func (l *lines) reasons(reasons []Reason) {
	left := examplesPrinted
	for i, r := range reasons {
		if i == 0 {
			l.line("")
			l.line("OUTCOME\tREASON\tSLOTS")
		}
		l.line("%s\t%s\t%d", r.Outcome, r.Reason, r.Slots)
	}
	for _, r := range reasons {
		for i, e := range r.Examples {
			if left--; left < 0 {
				return
			}
			if i == 0 {
				l.line("")
				l.line("examples of %s, %s:", r.Outcome, r.Reason)
			}
			l.line("  %s", strings.TrimSuffix(e.Target+"  "+e.Ref+"  "+e.Path, "  "))
		}
	}
}

func (l *lines) counts(name string, s Slots) {
	l.line("%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d", name, s.Seen, s.Rotated, s.Current,
		s.Remaining, s.Foreign, s.Failed, s.Conflict, s.Gone)
}

// labelWidth is the width of the labels of facts.
const labelWidth = 14

// fact writes a label and a text beside it. A word that is longer than the rest of the line gets a
// line of its own.
func (l *lines) fact(label, format string, args ...any) {
	var b strings.Builder
	label = printable.Text(label)
	b.WriteString(label)
	at := utf8.RuneCountInString(label)
	gap := strings.Repeat(" ", max(1, labelWidth+1-at))
	at += len(gap)
	indent := labelWidth + 2
	for _, word := range strings.Fields(printable.Sprintf(format, args...)) {
		n := utf8.RuneCountInString(word)
		switch {
		case at+1+n <= width:
			b.WriteString(gap + " ")
			at += 1 + n
		case n > width-indent:
			b.WriteString("\n  ")
			at = 2 + n
		default:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent + n
		}
		b.WriteString(word)
		gap = ""
	}
	if l.err == nil {
		_, l.err = fmt.Fprintln(l.w, b.String())
	}
}

func (l *lines) end() error {
	if l.err != nil {
		return l.err
	}
	return l.w.Flush()
}
