package ciphertext

import (
	"bytes"
	"regexp"
	"strconv"
)

// partOfText refuses body[start:end], the group of a pattern, if it is not the whole
// encoded text: if padding follows it, or if a character of its alphabet precedes or
// follows it. Readers would otherwise decode the new blob together with this padding or
// these characters. Escaped characters are recognised in URLs, JSON, XML, shells and
// programming languages. due is the number of missing padding characters, or 0 if the text
// needs no more padding.
func partOfText(format string, body []byte, start, end, due int) *Refused {
	text := body[start:end]
	start += len(text) - len(bytes.TrimLeft(text, " \t\r\n"))
	end -= len(text) - len(bytes.TrimRight(text, " \t\r\n"))
	after := charAfter(body[end:])
	before := charBefore(format, body[:start])
	switch {
	case format != formatHex && (after == '=' || due > 0 && paddingNear(body[end:], due) ||
		paddingOnNextLine.Match(firstBytes(body[end:]))):
		return partRefused("base64 padding follows the group; include it in the group, " +
			"such as ([A-Za-z0-9+/]+={0,2})")
	case inAlphabet(format, after):
		return partRefused("a character of the " + format + " alphabet follows the group; " +
			"extend the group to the whole encoded text")
	case inAlphabet(format, before):
		return partRefused("a character of the " + format + " alphabet precedes the group; " +
			"extend the group to the whole encoded text")
	}
	return nil
}

func partRefused(detail string) *Refused {
	return &Refused{Reason: "part-of-text", Detail: detail}
}

// inAlphabet reports whether c is in the alphabet of a format.
func inAlphabet(format string, c rune) bool {
	digit := '0' <= c && c <= '9'
	letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
	switch format {
	case formatHex:
		return digit || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
	case formatBase64URL:
		return digit || letter || c == '-' || c == '_'
	}
	return digit || letter || c == '+' || c == '/'
}

// spelled matches an escaped character. A % or & that was escaped again is %25 or &amp;. The
// groups hold the code of the character in base 16, 10 and 8, its name, or the character
// itself after a backslash.
const spelled = `(?:%(?:25)*([0-9A-Fa-f]{2})` +
	`|\\+u00([0-9A-Fa-f]{2})` +
	`|\\+U000000([0-9A-Fa-f]{2})` +
	`|\\+[ux]\{0*([0-9A-Fa-f]{2})\}` +
	`|\\+x([0-9A-Fa-f]{2})` +
	`|&(?:amp;)*#[xX]0*([0-9A-Fa-f]{2});?` +
	`|%(?:25)*u00([0-9A-Fa-f]{2})` +
	`|\\+'?0{0,4}(2[bBdDfF]|3[dD]|5[fF])` + // LDAP, CSS and RTF
	`|&(?:amp;)*#0*([0-9]{2,3});?` +
	`|&(?:amp;)*(equals|plus|sol|lowbar|UnderBar|hyphen|dash);` +
	`|\\+([=+/_-])` +
	`|\\+0?(53|55|57|75|137))` // octal

// decimalGroup is the number of the group of spelled that holds a decimal code. The groups
// before it hold hexadecimal codes. The three groups after it hold a name, the character
// and an octal code.
const decimalGroup = 9

// maxSpelled is the maximum number of bytes that are examined for one character.
const maxSpelled = 32

var (
	spelledAfter  = regexp.MustCompile(`^` + spelled)
	spelledBefore = regexp.MustCompile(spelled + `$`)
	// controlBefore matches an escape such as \n, whose letter is not part of an encoded text.
	controlBefore = regexp.MustCompile(`\\[abefnrtv0]$`)
	controlAfter  = regexp.MustCompile(`^\\+[abefnrtv]`)
	// paddingOnNextLine matches the end of a text whose padding is on a separate line.
	paddingOnNextLine = regexp.MustCompile(
		`^[ \t]*(?:\\?\r?\n|\\+r|\\+n)+[ \t]*={1,2}[ \t"',;]*(?:[\r\n\\]|$)`)
)

func firstBytes(b []byte) []byte { return b[:min(len(b), maxSpelled)] }

// charAfter returns the character at the beginning of b, escaped or not. It returns 0 if b
// is empty.
func charAfter(b []byte) rune {
	b = firstBytes(b)
	if len(b) == 0 {
		return 0
	}
	if groups := spelledAfter.FindSubmatch(b); groups != nil {
		return charOf(groups)
	}
	return rune(b[0])
}

// paddingNear reports whether b contains exactly the missing padding before any letter or
// digit. This finds the padding of a text that is split over several strings or lines.
func paddingNear(b []byte, due int) bool {
	b = firstBytes(b)
	found := 0
	for len(b) > 0 {
		if control := controlAfter.Find(b); control != nil && found == 0 {
			b = b[len(control):]
			continue
		}
		c, size := rune(b[0]), 1
		if groups := spelledAfter.FindSubmatch(b); groups != nil {
			c, size = charOf(groups), len(groups[0])
		}
		switch {
		case c == '=':
			found++
		case c == '+', c == '/':
		case inAlphabet(formatBase64, c):
			return found == due
		}
		b = b[size:]
	}
	return found == due
}

// charBefore returns the character at the end of b, escaped or not. Before a hexadecimal
// text, it does not decode escapes with a backslash, because their digits cannot be
// distinguished from digits of the text.
func charBefore(format string, b []byte) rune {
	b = b[max(0, len(b)-maxSpelled):]
	if len(b) == 0 {
		return 0
	}
	if format != formatHex && controlBefore.Match(b) {
		return 0
	}
	groups := spelledBefore.FindSubmatch(b)
	if groups != nil && !(format == formatHex && groups[0][0] == '\\') {
		return charOf(groups)
	}
	return rune(b[len(b)-1])
}

// charOf returns the character for a match of spelled.
func charOf(groups [][]byte) rune {
	for i, group := range groups[1:] {
		if group == nil {
			continue
		}
		text, base := string(group), 16
		switch number := i + 1; {
		case number == decimalGroup:
			base = 10
		case number == decimalGroup+1:
			return charNamed(text)
		case number == decimalGroup+2:
			return rune(text[0])
		case number == decimalGroup+3:
			base = 8
		}
		code, _ := strconv.ParseUint(text, base, 16) // the pattern matches only digits
		return rune(code)
	}
	return 0
}

// charNamed returns the character with an HTML entity name.
func charNamed(name string) rune {
	switch name {
	case "equals":
		return '='
	case "plus":
		return '+'
	case "sol":
		return '/'
	case "lowbar", "UnderBar":
		return '_'
	}
	return '-'
}
