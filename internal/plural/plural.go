// Package plural writes numbers in messages, and makes the words of a message agree with them.
package plural

import (
	"fmt"
	"strconv"
	"strings"
)

// Count returns a number with its noun, such as "1 slot" or "2 slots". The plural of the noun must
// end in s.
func Count[N int | int64](n N, noun string) string {
	return fmt.Sprintf("%d %s", n, Form(n, noun, noun+"s"))
}

// Form returns one if n is 1, and many otherwise.
func Form[N int | int64](n N, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// Digits writes a number with a comma after each thousand.
func Digits(n int64) string {
	text := strconv.FormatInt(n, 10)
	first := strings.IndexAny(text, "0123456789")
	for i := len(text) - 3; i > first; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
