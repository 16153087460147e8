package watch

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"rotator/internal/columns"
	"rotator/internal/printable"
)

// JSON writes the result as one JSON object. If compact is true, it has one line.
func (r *Result) JSON(w io.Writer, compact bool) error {
	encoder := json.NewEncoder(w)
	if !compact {
		encoder.SetIndent("", "  ")
	}
	return encoder.Encode(r)
}

// Text writes the result for people.
func (r *Result) Text(w io.Writer) error {
	var b strings.Builder
	b.WriteString(wrap(fmt.Sprintf("job %s, source keys watched at %s, since %s", r.Job,
		at(r.Asked), at(r.Since))) + "\n")
	for i := range r.Keys {
		if err := r.Keys[i].text(&b); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (k *Key) text(b *strings.Builder) error {
	b.WriteString("\n" + wrap(k.Sentence) + "\n")
	if k.ARN != "" {
		b.WriteString(fact("key", k.ARN))
	}
	for _, f := range k.Facts {
		b.WriteString(fact(f.About, f.Sentence))
	}
	for _, u := range k.CannotSee {
		b.WriteString(fact("cannot see", u.What+": "+u.Sentence))
	}
	if len(k.Trail.Callers) == 0 {
		return nil
	}
	b.WriteString("\n")
	table := columns.NewTable("CALLER", "OPERATION", "RESULT", "CALLS", "FIRST", "LAST")
	for _, c := range k.Trail.Callers {
		table.Row(c.Name(), c.Operation, cmp.Or(c.Result, "success"), c.Calls, at(c.First),
			at(c.Last))
	}
	return table.Text(b)
}

// wrap escapes and wraps text.
func wrap(text string) string { return columns.WrapAt(printable.Text(text), columns.Width) }

// fact returns a label and a text beside it.
func fact(label, text string) string {
	const indent = 14 // of the texts
	lines := columns.WrapAt(printable.Text(text), columns.Width-indent)
	gap := strings.Repeat(" ", indent)
	return (gap[:2] + label + gap)[:indent] + strings.ReplaceAll(lines, "\n  ", "\n"+gap) + "\n"
}
