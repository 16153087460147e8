package copies

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"rotator/internal/plural"
	"rotator/internal/printable"
)

// width is the width of the text in characters.
const width = 80

// conclude sets the end and the sentence of the result.
func (r *Result) conclude() {
	open, hidden, skipped := 0, 0, 0
	for _, row := range r.Rows {
		switch {
		case row.State == CannotSee:
			hidden++
		case row.State == NotLookedAt:
			skipped++
		case row.State == None:
		case row.Until.IsZero():
			open++
		case row.Until.After(r.Until):
			r.Until = row.Until
		}
	}
	var parts []string
	add := func(n int, one, many string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", plural.Count(n, "row"),
				plural.Form(n, one, many)))
		}
	}
	add(open, "has no known end", "have no known end")
	add(hidden, "cannot be seen", "cannot be seen")
	add(skipped, "was not checked", "were not checked")
	r.Sentence = "No copy with a known end exists."
	if !r.Until.IsZero() {
		r.Sentence = "Counted copies exist until " + day(r.Until) + "."
	}
	if len(parts) > 0 {
		r.Sentence += " " + strings.Join(parts, ", ") + "."
	}
}

func day(t time.Time) string { return t.Format(time.DateOnly) }

// JSON writes the result as one indented JSON object.
func (r *Result) JSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// Text writes the result for people.
func (r *Result) Text(w io.Writer) error {
	var b strings.Builder
	_, _ = printable.Fprintf(&b, "job %s: copies of old ciphertexts, asked at %s\n", r.Job,
		r.Asked.Format(time.RFC3339))
	moved := "No move of a ciphertext is recorded, so all copies count, and their ends count " +
		"from now."
	if !r.LastMove.IsZero() {
		moved = fmt.Sprintf("The last ciphertext was moved before %s. Only copies that were made "+
			"before then are counted.", r.LastMove.Format(time.RFC3339))
	}
	paragraph(&b, "", moved)
	target := "\x00"
	for _, row := range r.Rows {
		if row.Target != target {
			target = row.Target
			b.WriteString("\n")
			if target != "" {
				_, _ = printable.Fprintf(&b, "target %s\n", target)
			}
		}
		row.text(&b)
	}
	b.WriteString("\n")
	paragraph(&b, "", r.Sentence)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Row) text(b *strings.Builder) {
	name := r.Kind.Name()
	_, _ = printable.Fprintf(b, "  %-30s  %s\n", name, r.status())
	detail := r.Detail
	if r.Place != "" && r.Kind == Replicated && r.State == NotLookedAt {
		detail = r.Place + ": " + detail
	}
	paragraph(b, "      ", detail)
}

// status returns the state, the count and the end in words.
func (r *Row) status() string {
	switch r.State {
	case None:
		return "none"
	case NotLookedAt:
		return "not checked"
	case CannotSee:
		return "cannot see"
	case Counted:
	}
	text := fmt.Sprint(r.Count)
	if r.Bytes > 0 {
		text += fmt.Sprintf(" (%s)", plural.Count(r.Bytes, "byte"))
	}
	switch {
	case r.NoEnd:
		return text + ", no end"
	case r.Until.IsZero():
		return text + ", end not known"
	}
	return text + ", until " + day(r.Until)
}

// paragraph writes wrapped text after an indent. It does not break longer words.
func paragraph(b *strings.Builder, indent, text string) {
	at := 0
	for _, word := range strings.Fields(printable.Text(text)) {
		n := utf8.RuneCountInString(word)
		switch {
		case at == 0:
			b.WriteString(indent)
			at = len(indent)
		case at+1+n > width:
			b.WriteString("\n" + indent)
			at = len(indent)
		default:
			b.WriteString(" ")
			at++
		}
		b.WriteString(word)
		at += n
	}
	if at > 0 {
		b.WriteString("\n")
	}
}
