// Package plural makes the words of a message agree with a number in it.
package plural

import "fmt"

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
