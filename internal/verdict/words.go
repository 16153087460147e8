package verdict

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"rotator/internal/plural"
)

// count returns a number with its noun in singular or plural.
func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if first, second, two := strings.Cut(noun, " or "); two {
		return plural.Digits(n) + " " + first + "s or " + second + "s"
	}
	return plural.Digits(n) + " " + noun + "s"
}

// have returns "1 call has been" or "14 calls have been".
func have(n int64, noun string) string {
	return count(n, noun) + " " + plural.Form(n, "has", "have") + " been"
}

// where lists the targets with a number greater than 0.
func where(list []placed) string {
	var parts []string
	for _, p := range list {
		if p.n > 0 {
			parts = append(parts, plural.Digits(p.n)+" in "+p.target)
		}
	}
	return listed(parts)
}

// maxListed is the maximum number of names in a sentence.
const maxListed = 5

// listed joins names with commas. It leaves out the names after the first few.
func listed(names []string) string {
	if more := len(names) - maxListed; more > 0 {
		return fmt.Sprintf("%s, and %d more", strings.Join(names[:maxListed], ", "), more)
	}
	return strings.Join(names, ", ")
}

// stamp returns a time to the second, in UTC.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// day returns the date of a time, in UTC.
func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// onDate returns " on DATE", or "" if the date is not known.
func onDate(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " on " + day(t)
}

// span returns a duration in the unit in which it is between 2 and about 50.
func span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return count(int64(max(d, 0)/time.Second), "second")
	case d < 2*time.Hour:
		return count(int64(d/time.Minute), "minute")
	case d < 48*time.Hour:
		return count(int64(d/time.Hour), "hour")
	}
	return count(int64(d/(24*time.Hour)), "day")
}

// upper returns text with an upper-case first letter.
func upper(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:]
}

// sentence returns text as a sentence: with an upper-case first letter and a full stop.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return upper(strings.TrimSuffix(text, ".")) + "."
}
