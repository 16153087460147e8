package page

import (
	"fmt"
	"html/template"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"rotator/internal/printable"
)

// date returns a date as 2 January 2006, in UTC.
func date(t time.Time) string { return t.UTC().Format("2 January 2006") }

// stamp returns a time to the minute, in UTC.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "not known"
	}
	return t.UTC().Format("2 January 2006, 15:04 UTC")
}

// moment returns a time to the second, in UTC.
func moment(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// took returns the time between two times.
func took(from, to time.Time) string {
	if to.IsZero() || to.Before(from) {
		return "not ended"
	}
	d := to.Sub(from)
	switch {
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}

// maxCell is the maximum number of runes of a text from outside.
const maxCell = 160

// cell returns a text from outside for a cell: without characters that must not be printed, and
// not longer than maxCell.
func cell(text string) string { return elide(text, maxCell) }

// maxDetail is the maximum number of runes of the detail of an exception.
const maxDetail = 320

// detail returns the detail of an exception.
func detail(text string) string { return elide(text, maxDetail) }

// maxSentence is the maximum number of runes of a sentence.
const maxSentence = 700

// moments matches times in RFC 3339.
var moments = regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

// sentence returns a sentence, which can contain names from outside, as HTML. A line does not break
// within a time.
func sentence(text string) template.HTML {
	escaped := template.HTMLEscapeString(elide(text, maxSentence))
	return template.HTML(moments.ReplaceAllString(escaped, `<span class="time">$0</span>`))
}

// maxSentences is the maximum number of sentences of a list.
const maxSentences = 40

// some returns the first sentences of a list, and how many are left out.
func some(list []string) []string {
	n := len(list) - maxSentences
	if n <= 0 {
		return list
	}
	return append(slices.Clone(list[:maxSentences]), fmt.Sprintf(
		"%d more are not shown here. The JSON form has all of them.", n))
}

// elide returns a text from outside with at most n runes. It escapes characters that must not be
// printed.
func elide(text string, n int) string {
	if len(text) > 8*n { // escaping makes a text longer, never shorter
		text = strings.ToValidUTF8(text[:8*n], "")
	}
	text = printable.Text(text)
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	runes := []rune(text)
	return string(runes[:n-1]) + "…"
}

// shortKey returns the last part of the ARN of a key, without its end.
func shortKey(arn string) string {
	if i := strings.LastIndexByte(arn, '/'); i >= 0 && len(arn) > i+9 {
		return "…" + arn[i:i+9]
	}
	return arn
}

// halves divides a sentence after its first full stop.
func halves(text string) (first, rest string) {
	if i := strings.Index(text, ". "); i >= 0 {
		return text[:i+1], text[i+2:]
	}
	return text, ""
}
