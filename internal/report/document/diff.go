package document

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"rotator/internal/columns"
	"rotator/internal/plural"
	"rotator/internal/printable"
	"rotator/internal/report"
)

// Diff compares two reports of the same places. The names of its JSON members are part of the
// public interface (docs/json.md).
type Diff struct {
	Kind     string    `json:"kind"` // "rotator.diff"
	Old      DiffPart  `json:"old"`
	New      DiffPart  `json:"new"`
	Sentence string    `json:"sentence"`
	Grew     bool      `json:"grew"` // more ciphertexts are under a source key
	Keys     []Change  `json:"keys"`
	Reasons  []Changed `json:"reasons"`
}

// DiffPart is one of the two reports.
type DiffPart struct {
	File    string    `json:"file"`
	Job     string    `json:"job"`
	Command string    `json:"command"`
	AsOf    time.Time `json:"as_of"`
	Slots   int64     `json:"slots"`
}

// Change is the number of slots of one target under one key, in both reports.
type Change struct {
	Target string `json:"target"`
	Key    string `json:"key"` // "" if it is not known
	Alias  string `json:"alias,omitempty"`
	Role   Role   `json:"role"` // in the new report
	Before int64  `json:"before"`
	After  int64  `json:"after"`
	Change int64  `json:"change"`
}

// Changed is the number of exceptions with one reason, in both reports.
type Changed struct {
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`
	Before  int64  `json:"before"`
	After   int64  `json:"after"`
	Change  int64  `json:"change"`
}

// KindDiff is the value of Diff.Kind.
const KindDiff = "rotator.diff"

// Compare compares two reports. A source key of either report is one for the comparison. The files
// are the names from which they were read.
func Compare(oldFile string, before *Document, newFile string, after *Document) Diff {
	d := Diff{
		Kind:    KindDiff,
		Old:     partOf(oldFile, before),
		New:     partOf(newFile, after),
		Keys:    []Change{},
		Reasons: changedReasons(before.Reasons, after.Reasons),
	}
	type cell struct{ target, key string }
	at := map[cell]int{}
	change := func(of *Document, h Holding) *Change {
		if h.Job != "" { // of a merged report, as in its targets
			h.Target = h.Job + ": " + h.Target
		}
		i, known := at[cell{h.Target, h.Key}]
		if !known {
			i = len(d.Keys)
			at[cell{h.Target, h.Key}] = i
			d.Keys = append(d.Keys, Change{Target: h.Target, Key: h.Key, Alias: of.AliasOf(h.Key),
				Role: h.Role})
		}
		if h.Role == Source {
			d.Keys[i].Role = Source
		}
		return &d.Keys[i]
	}
	for _, h := range after.Inventory {
		change(after, h).After += h.After
	}
	for _, h := range before.Inventory {
		change(before, h).Before += h.After
	}
	grown := int64(0)
	for i := range d.Keys {
		c := &d.Keys[i]
		c.Change = c.After - c.Before
		if c.Role == Source && c.Change > 0 {
			grown += c.Change
		}
	}
	d.Grew = grown > 0
	d.Sentence = d.sentence(grown) + unread(before, after)
	return d
}

// unread states which targets of the old report the new one did not read to the end, or returns "".
func unread(before, after *Document) (text string) {
	if after.Status == report.Stopped {
		text = " The pass of the new report was stopped, so it did not read everything."
	}
	for _, t := range before.Targets {
		same := func(other report.Target) bool { return other.Name == t.Name }
		if !slices.ContainsFunc(after.Targets, same) {
			text += fmt.Sprintf(" The new report does not contain the target %s.", t.Name)
		}
	}
	return text
}

func partOf(file string, d *Document) DiffPart {
	return DiffPart{File: file, Job: d.Job, Command: d.Command, AsOf: d.AsOf, Slots: d.Slots.Seen}
}

// sentence states how the number of slots under source keys changed.
func (d *Diff) sentence(grown int64) string {
	var before, after int64
	for _, c := range d.Keys {
		if c.Role == Source {
			before += c.Before
			after += c.After
		}
	}
	under := func(n int64) string {
		return fmt.Sprintf("%s %s under a source key", plural.Count(n, "ciphertext"),
			plural.Form(n, "is", "are"))
	}
	switch {
	case grown > 0 && after <= before:
		return fmt.Sprintf("In some places a source key has %s more, although the total went from "+
			"%d to %d. A writer still uses a source key.", plural.Count(grown, "ciphertext"),
			before, after)
	case grown > 0:
		return fmt.Sprintf("%s, %d more than before. A writer still uses a source key.",
			under(after), after-before)
	case after < before:
		return fmt.Sprintf("%s, %d fewer than before.", under(after), before-after)
	}
	return fmt.Sprintf("%s, as before.", under(after))
}

func changedReasons(before, after []report.Reason) []Changed {
	list := []Changed{}
	at := map[[2]string]int{}
	change := func(r report.Reason) *Changed {
		key := [2]string{r.Outcome, r.Reason}
		i, known := at[key]
		if !known {
			i = len(list)
			at[key] = i
			list = append(list, Changed{Outcome: r.Outcome, Reason: r.Reason})
		}
		return &list[i]
	}
	for _, r := range after {
		change(r).After += r.Slots
	}
	for _, r := range before {
		change(r).Before += r.Slots
	}
	for i := range list {
		list[i].Change = list[i].After - list[i].Before
	}
	slices.SortStableFunc(list, func(a, b Changed) int {
		return cmp.Or(cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Reason, b.Reason))
	})
	return list
}

// JSON writes the comparison as one indented JSON object.
func (d Diff) JSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(d)
}

// Text writes the comparison as text.
func (d Diff) Text(w io.Writer) error {
	if _, err := fmt.Fprintln(w, report.Wrap(printable.Text(d.Sentence))); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		DiffPart
	}{{"old", d.Old}, {"new", d.New}} {
		if _, err := fmt.Fprintln(w, report.Wrap(printable.Sprintf("%s  %s  %s of %s, as of %s",
			part.name, part.File, part.Command, part.Job,
			part.AsOf.UTC().Format(time.RFC3339)))); err != nil {
			return err
		}
	}
	keys := columns.NewTable("TARGET", "KEY", "ROLE", "BEFORE", "AFTER", "CHANGE")
	for _, c := range d.Keys {
		keys.Row(c.Target, cmp.Or(c.Alias, c.Key, "not known"), c.Role, c.Before, c.After,
			fmt.Sprintf("%+d", c.Change))
	}
	reasons := columns.NewTable("OUTCOME", "REASON", "BEFORE", "AFTER", "CHANGE")
	for _, r := range d.Reasons {
		reasons.Row(r.Outcome, r.Reason, r.Before, r.After, fmt.Sprintf("%+d", r.Change))
	}
	return columns.Tables(w, keys, reasons)
}
