package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/columns"
	"rotator/internal/printable"
	"rotator/internal/verdict"
)

// KeyFacts is what is known about a key besides the ciphertexts under it.
type KeyFacts struct {
	Key       verdict.Key // its state and dates; the other fields are ignored
	LastUsage verdict.Usage
	Trail     verdict.Trail
}

// Judge sets the verdict on each source key. in has the passes of the job, and keys what is known
// about a key, by its ARN. Judge must be called after Conclude.
func (s *Summary) Judge(in verdict.Input, keys map[string]KeyFacts) {
	in.Mode, in.Destination = string(s.Mode), s.DestinationKey
	s.Verdicts = []verdict.Verdict{}
	for _, source := range s.sourceKeys() {
		facts := keys[source.ARN]
		in.Key, in.LastUsage, in.Trail = facts.Key, facts.LastUsage, facts.Trail
		in.Key.ARN, in.Key.Given = source.ARN, source.Given
		in.Key.Symmetric = source.Algorithm == symmetricAlgorithm
		s.Verdicts = append(s.Verdicts, verdict.Decide(in))
	}
}

// VerdictPass returns the result as a pass for verdicts. OtherJob and Exceptions are not set. It
// may be called before Conclude.
func (s *Summary) VerdictPass() verdict.Pass {
	p := verdict.Pass{
		Number:   s.Pass,
		Command:  s.Command,
		Started:  s.AsOf,
		Ended:    s.Ended,
		Complete: s.Status == Complete,
		Filtered: s.filtered,
		Doubts:   s.verdictDoubts(),
	}
	if s.Pass == 0 {
		p.Number, p.ReadOnly = s.ReadPass, true
	}
	if !s.any {
		p.Sources = []string{}
		for _, key := range s.sources {
			p.Sources = append(p.Sources, key.ARN)
		}
	}
	for _, u := range s.NotProven {
		if u.Reason != NotCounted {
			p.Empty = append(p.Empty, u.name())
		}
	}
	for _, one := range s.Sample.parts() {
		p.Samples = append(p.Samples, verdict.Part(one))
	}
	for _, t := range s.Targets {
		one := verdictTarget(t.Name, t.counts, t.Versions)
		if t.Location != nil {
			place := PlaceOf(*t.Location)
			place.Complete = t.complete
			setRules(&place, t.counts)
			one.Place = &place
		}
		p.Targets = append(p.Targets, one)
	}
	return p
}

// parts returns the samples of the runs. A pass without samples, and one of an earlier version, has
// one that is empty.
func (s Sample) parts() []checkpoint.Sample {
	if len(s.Parts) > 0 {
		return s.Parts
	}
	return []checkpoint.Sample{s.Sample}
}

// verdictDoubts returns the reasons why the figures are not evidence.
func (s *Summary) verdictDoubts() []string {
	doubts := append([]string{}, s.doubts...)
	if s.doubtful && len(doubts) == 0 {
		doubts = append(doubts, "Slots were counted by ciphertext headers that KMS did not confirm")
	}
	for _, u := range s.NotProven {
		if u.Reason == NotCounted {
			doubts = append(doubts, u.Sentence)
		}
	}
	return doubts
}

// name returns the target, and the rule with its place.
func (u Unproven) name() string {
	name := u.Target
	if u.Rule != "" {
		name += ", " + u.Rule
	}
	if u.Place != "" {
		name += " (" + u.Place + ")"
	}
	return name
}

func verdictTarget(name string, c checkpoint.Counts, v *Versions) verdict.Target {
	t := verdict.Target{
		Name:       name,
		Slots:      verdict.Slots(slotsOf(c)),
		Keys:       map[string]verdict.KeySlots{},
		Origins:    map[string]int64{},
		RowsInPart: c.Search.Partial,
		Bodies:     c.Search.Bodies,
	}
	for arn, n := range c.Keys {
		t.Keys[arn] = verdict.KeySlots{
			Slots:      n.Slots,
			Moved:      n.Rotated,
			Unreadable: n.Unreadable,
			ByHeader:   n.ByHeader(),
		}
	}
	for origin, n := range c.Origins {
		t.Origins[string(origin)] = n
	}
	if v != nil {
		t.Versions, t.VersionOrigins = map[string]int64{}, map[string]int64{}
		for arn, n := range v.counts.Keys {
			t.Versions[arn] = n.Slots - n.Unreadable
		}
		for origin, n := range v.counts.Origins {
			t.VersionOrigins[string(origin)] = n
		}
	}
	return t
}

// verdict writes a verdict with what to do next.
func (l *lines) verdict(v verdict.Verdict) {
	l.paragraph(strings.Join(append([]string{v.Sentence}, v.Why...), " "))
	for i, step := range v.NextSteps {
		if i == 0 {
			l.line("")
			l.line("next steps:")
		}
		l.item(fmt.Sprintf("%d. ", i+1), step.Do)
		if step.Command != "" {
			l.line("     %s", step.Command)
		}
	}
	l.line("")
	l.paragraph(v.Delete.Sentence)
}

// item writes wrapped text as an item of a list.
func (l *lines) item(mark, text string) {
	wrapped := columns.WrapAt(printable.Text(text), width-2-len(mark))
	for i, one := range strings.Split(wrapped, "\n") {
		if i > 0 {
			mark = strings.Repeat(" ", len(mark))
		}
		l.line("  %s%s", mark, strings.TrimSpace(one))
	}
}

// Gate is the result of report --verdict. The names of its JSON fields are part of the public
// interface (docs/json.md).
type Gate struct {
	Job       string            `json:"job"`
	Generated time.Time         `json:"generated"`
	MaxAge    string            `json:"max_age"`
	Version   string            `json:"version"`
	Exit      int               `json:"exit"` // of the worst verdict
	Verdicts  []verdict.Verdict `json:"verdicts"`
	Notes     []string          `json:"notes"`
}

// JSON writes the gate as one indented JSON object.
func (g Gate) JSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(g)
}

// Text writes the gate as text.
func (g Gate) Text(w io.Writer) error {
	out := &lines{w: tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	for i, v := range g.Verdicts {
		if i > 0 {
			out.line("")
		}
		out.verdict(v)
		for _, why := range v.Delete.BlockedBy {
			out.item("- ", why)
		}
	}
	if len(g.Notes) > 0 {
		out.line("")
	}
	for _, note := range g.Notes {
		out.paragraph("note: " + note)
	}
	return out.end()
}
