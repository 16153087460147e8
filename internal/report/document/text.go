package document

import (
	"fmt"
	"io"
	"time"

	"rotator/internal/copies"
	"rotator/internal/printable"
	"rotator/internal/report"
)

// Text writes the document as text: the verdicts, what to do next, and then the figures.
func (d *Document) Text(w io.Writer) error {
	if err := d.Summary.Text(w); err != nil {
		return err
	}
	if err := d.partsText(w); err != nil {
		return err
	}
	if err := d.keyUseText(w); err != nil {
		return err
	}
	return d.copiesText(w)
}

// partsText lists the reports of a merged report.
func (d *Document) partsText(w io.Writer) error {
	for i, p := range d.Parts {
		if i == 0 {
			if _, err := fmt.Fprintln(w, "\nmerged from:"); err != nil {
				return err
			}
		}
		if _, err := printable.Fprintf(w, "  %s  %s of %s, as of %s\n", p.File, p.Command, p.Job,
			p.AsOf.UTC().Format(time.RFC3339)); err != nil {
			return err
		}
	}
	text := d.BoundSentence()
	if len(d.Parts) == 0 || text == "" {
		return nil
	}
	_, err := fmt.Fprintf(w, "\n%s\n", report.Wrap("All samples together: "+text))
	return err
}

// copiesText lists the copies, if AWS was asked.
func (d *Document) copiesText(w io.Writer) error {
	if d.Copies == nil {
		return nil
	}
	if _, err := fmt.Fprintf(w, "\n%s\n", report.Wrap(fmt.Sprintf(
		"Copies that passes do not read, asked at %s:",
		d.CopiesAsked.UTC().Format(time.RFC3339)))); err != nil {
		return err
	}
	for _, c := range d.Copies {
		name := c.Kind.Name()
		if c.Place != "" {
			name += " of " + c.Place
		}
		row := report.Wrap(printable.Text(name + ": " + stateOf(c)))
		if _, err := fmt.Fprintln(w, row); err != nil {
			return err
		}
	}
	return nil
}

// stateOf returns the state of a row of copies in words.
func stateOf(c copies.Row) string {
	switch c.State {
	case copies.None:
		return "none"
	case copies.NotLookedAt:
		return "not checked"
	case copies.CannotSee:
		if c.MissingPermission != "" {
			return "cannot be seen without " + c.MissingPermission
		}
		return "cannot be seen"
	case copies.Counted:
	}
	switch {
	case c.NoEnd:
		return fmt.Sprintf("%d, no end", c.Count)
	case c.Until.IsZero():
		return fmt.Sprintf("%d, end not known", c.Count)
	}
	return fmt.Sprintf("%d, until %s", c.Count, c.Until.UTC().Format(time.DateOnly))
}
