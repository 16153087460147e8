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

	"rotator/internal/plural"
	"rotator/internal/printable"
)

// JSON writes the summary as one indented JSON object.
func (s *Summary) JSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(s)
}

// Text writes the summary as text.
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
	out.line("KMS requests\t%d (%d throttled)", s.KMS.Requests, s.KMS.Throttled)
	if saved := s.KMS; saved.Header+saved.Shared > 0 {
		out.line("slots without a request\t%d by ciphertext header (%d checked), "+
			"%d with the blob of another slot", saved.Header, saved.Checked, saved.Shared)
	}
	out.line("converged\t%s", cmp.Or(s.Convergence, s.convergence()))
	for _, note := range s.Notes {
		out.line("note\t%s", note)
	}
	return out.end()
}

// head writes the sentences about source keys, the unproven targets and rules, and the facts
// about the pass.
func (s *Summary) head(out *lines) {
	out.line("%s of job %s: %s", s.Command, s.Job, s.Status)
	out.line("")
	for _, v := range s.Verdicts {
		out.verdict(v)
		out.line("")
	}
	for _, u := range s.NotProven {
		out.paragraph("not proven: " + u.Sentence)
		out.line("")
	}
	if s.Pass > 0 {
		out.line("pass\t%d", s.Pass)
	}
	if s.ReadPass > 0 {
		out.line("read-only pass\t%d", s.ReadPass)
	}
	if s.Mode != ModeMove && s.Mode != "" {
		out.line("mode\t%s", s.Mode)
	}
	for _, k := range s.SourceKeys {
		out.line("source\t%s", k.Key)
	}
	out.line("destination\t%s", s.DestinationKey)
	if s.Account != "" {
		out.line("account\t%s", s.Account)
	}
	if s.Caller != "" {
		out.line("caller\t%s", s.Caller)
	}
	if !s.AsOf.IsZero() {
		out.line("as of\t%s, when reading started", s.AsOf.Format(time.RFC3339))
	}
	if !s.Ended.IsZero() {
		out.line("took\t%s (ended %s)", s.Ended.Sub(s.Started).Round(time.Millisecond),
			s.Ended.Format(time.RFC3339))
	}
}

// figures writes the counts of targets, skipped items and keys.
func (s *Summary) figures(out *lines) {
	out.line("")
	out.line("TARGET\tSLOTS\tROTATED\tCURRENT\tREMAINING\tFOREIGN\tFAILED\tCONFLICT\tGONE\t" +
		"ITEMS\tWITHOUT SLOT")
	for _, t := range s.Targets {
		out.counts(t.Name, t.Slots, t.Items)
	}
	if len(s.Targets) > 1 {
		out.counts("all", s.Slots, s.Items)
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
		out.line("FOUND UNDER KEY\tSLOTS\tIDENTIFIED BY")
		for _, k := range s.Keys {
			out.line("%s\t%d\t%s", k.Key, k.Slots, k.How)
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
const width = 80

// Wrap wraps text at 80 characters and indents all lines after the first. It does not break
// longer words.
func Wrap(text string) string {
	at := 0
	var b strings.Builder
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteString("\n  ")
			at = 2
		default:
			b.WriteString(" ")
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}

// paragraph writes wrapped text.
func (l *lines) paragraph(text string) {
	if l.err == nil {
		_, l.err = fmt.Fprintln(l.w, Wrap(printable.Text(text)))
	}
}

// locations lists the locations of the targets.
func (l *lines) locations(targets []Target) {
	for i, t := range targets {
		if i == 0 {
			l.line("")
			l.line("TARGET\tLOCATION")
		}
		where := "not recorded by an earlier version"
		if t.Location != nil {
			where = PlaceText(*t.Location)
		}
		l.line("%s\t%s", t.Name, where)
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

func (l *lines) counts(name string, s Slots, i Items) {
	l.line("%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d", name, s.Seen, s.Rotated, s.Current,
		s.Remaining, s.Foreign, s.Failed, s.Conflict, s.Gone, i.Seen, i.WithoutSlot)
}

func (l *lines) end() error {
	if l.err != nil {
		return l.err
	}
	return l.w.Flush()
}
