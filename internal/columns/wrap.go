// Package columns lays out text for terminals with 80 columns.
package columns

import (
	"strings"
	"unicode/utf8"
)

// Width is the largest width of a line in characters.
const Width = 80

// WrapAt wraps text at a width and indents all lines after the first. It does not break longer
// words.
func WrapAt(text string, width int) string {
	at := 0
	var b strings.Builder
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteString("\n  ")
			at = 2
		default:
			b.WriteString(" ")
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}
