package watch

import (
	"encoding/json"
	"io"
	"strings"
	"text/tabwriter"

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
	_, _ = printable.Fprintf(&b, "job %s, source keys watched at %s, since %s\n", r.Job,
		at(r.Asked), at(r.Since))
	for i := range r.Keys {
		r.Keys[i].text(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (k *Key) text(b *strings.Builder) {
	_, _ = printable.Fprintf(b, "\n%s\n", k.Sentence)
	table := tabwriter.NewWriter(b, 0, 8, 2, ' ', 0)
	if k.ARN != "" {
		_, _ = printable.Fprintf(table, "  %s\t%s\n", "key", k.ARN)
	}
	for _, f := range k.Facts {
		_, _ = printable.Fprintf(table, "  %s\t%s\n", f.About, f.Sentence)
	}
	for _, u := range k.CannotSee {
		_, _ = printable.Fprintf(table, "  %s\t%s: %s\n", "cannot see", u.What, u.Sentence)
	}
	_ = table.Flush()
	if len(k.Trail.Callers) == 0 {
		return
	}
	b.WriteString("\n")
	_, _ = printable.Fprintf(table, "  CALLER\tOPERATION\tRESULT\tCALLS\tFIRST\tLAST\n")
	for _, c := range k.Trail.Callers {
		result := c.Result
		if result == "" {
			result = "success"
		}
		_, _ = printable.Fprintf(table, "  %s\t%s\t%s\t%d\t%s\t%s\n", c.Name(), c.Operation, result,
			c.Calls, at(c.First), at(c.Last))
	}
	_ = table.Flush()
}
