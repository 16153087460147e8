package report

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"rotator/internal/printable"
)

// JSON writes the summary as one object, indented.
func (s *Summary) JSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(s)
}

// Text writes the summary for people.
func (s *Summary) Text(w io.Writer) error {
	out := &lines{w: tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	out.line("%s of job %s: %s", s.Command, s.Job, s.Status)
	if s.Pass > 0 {
		out.line("pass\t%d", s.Pass)
	}
	out.line("destination\t%s", s.DestinationKey)
	if !s.Ended.IsZero() {
		out.line("took\t%s (ended %s)", s.Ended.Sub(s.Started).Round(time.Millisecond), s.Ended.Format(time.RFC3339))
	}
	out.line("")
	out.line("TARGET\tSLOTS\tROTATED\tCURRENT\tREMAINING\tFOREIGN\tFAILED\tCONFLICT\tGONE\tITEMS\tWITHOUT SLOT")
	for _, t := range s.Targets {
		out.counts(t.Name, t.Slots, t.Items)
	}
	if len(s.Targets) > 1 {
		out.counts("all", s.Slots, s.Items)
	}
	if s.Items.Excluded > 0 {
		out.line("")
		out.line("left out by include and exclude: %d items", s.Items.Excluded)
	}
	if len(s.Keys) > 0 {
		out.line("")
		out.line("FOUND UNDER KEY\tSLOTS\tTOLD BY")
		for _, k := range s.Keys {
			out.line("%s\t%d\t%s", k.Key, k.Slots, k.How)
		}
	}
	if len(s.Reasons) > 0 {
		out.line("")
		out.line("OUTCOME\tREASON\tSLOTS")
		for _, r := range s.Reasons {
			out.line("%s\t%s\t%d", r.Outcome, r.Reason, r.Slots)
		}
	}
	if len(s.Accepted) > 0 {
		out.line("")
		out.line("ACCEPT RULE\tTARGET\tSLOTS\tBECAUSE")
		for _, a := range s.Accepted {
			out.line("accept[%d]\t%s\t%d\t%s", a.Rule-1, a.Target, a.Slots, a.Because)
		}
	}
	out.line("")
	out.line("KMS requests\t%d (%d throttled)", s.KMS.Requests, s.KMS.Throttled)
	if saved := s.KMS; saved.Header+saved.Shared > 0 {
		out.line("without a request\t%d by their header (%d checked), %d with the same blob as another", saved.Header, saved.Checked, saved.Shared)
	}
	out.line("converged\t%s", s.convergence())
	for _, note := range s.Notes {
		out.line("note\t%s", note)
	}
	return out.end()
}

// convergence says whether, and if not why not, the pass is evidence that the
// source keys are no longer needed.
func (s *Summary) convergence() string {
	switch {
	case s.Converged && s.Slots.Exceptions() > 0:
		return fmt.Sprintf("yes, but for %d slots that accept rules take, of which nothing is said, as of %s",
			s.Slots.Exceptions(), s.Ended.Format(time.RFC3339))
	case s.Converged:
		return "yes: nothing depends on a source key, as of " + s.Ended.Format(time.RFC3339)
	case s.Status != Complete:
		return "no: the pass is not complete"
	case s.Slots.Seen == 0:
		return "no: no slot was found"
	case s.Slots.Remaining > 0:
		return fmt.Sprintf("no: %d slots are under a source key", s.Slots.Remaining)
	case s.Unaccepted() > 0:
		return fmt.Sprintf("no: %d slots are in the ledger", s.Unaccepted())
	case s.doubtful:
		return "no: some figures rest on headers of ciphertexts that are not to be relied on"
	}
	return "not yet: this pass moved slots; only a later one that finds nothing to move is the proof (rotator verify)"
}

// lines writes table rows with every argument escaped, and keeps the first error.
type lines struct {
	w   *tabwriter.Writer
	err error
}

func (l *lines) line(format string, args ...any) {
	if l.err == nil {
		_, l.err = printable.Fprintf(l.w, format+"\n", args...)
	}
}

func (l *lines) counts(name string, s Slots, i Items) {
	l.line("%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d", name, s.Seen, s.Rotated, s.Current, s.Remaining,
		s.Foreign, s.Failed, s.Conflict, s.Gone, i.Seen, i.WithoutSlot)
}

func (l *lines) end() error {
	if l.err != nil {
		return l.err
	}
	return l.w.Flush()
}
