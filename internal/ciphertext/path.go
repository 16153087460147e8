package ciphertext

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Path is a document path: profile.docs[2].key. A name with characters other than
// letters, digits, "_" and "-" is written as a JSON string in brackets: tags["a.b"].
// [*] matches all elements of a list, and .* all members of a map.
type Path []Step

// Step is one step of a Path.
type Step struct {
	Name  string // of a map member; empty for a list element
	Index int    // of a list element
	// Every is true for [*] and .*. List is true for [*] and elements of a list.
	Every, List bool
}

// maxSteps is the maximum length of a path. DynamoDB allows 32 levels of nesting
// (Service, account, and table quotas in Amazon DynamoDB).
const maxSteps = 64

// ParsePath parses a path. Errors contain the position in bytes, from 1.
func ParsePath(text string) (Path, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("path %q is not UTF-8", text)
	}
	var path Path
	rest := text
	for rest != "" {
		at := len(text) - len(rest)
		step, used, err := parseStep(rest, len(path) == 0)
		if err != nil {
			return nil, fmt.Errorf("path %q, byte %d: %w", text, at+1, err)
		}
		path = append(path, step)
		rest = rest[used:]
		if len(path) > maxSteps {
			return nil, fmt.Errorf("path %q: it has more than %d steps", text, maxSteps)
		}
	}
	if len(path) == 0 {
		return nil, fmt.Errorf("path is empty; set the path of an attribute or a member, such as " +
			"profile.docs[0].key")
	}
	return path, nil
}

// parseStep parses the step at the beginning of text and returns its length.
func parseStep(text string, first bool) (Step, int, error) {
	if text[0] == '[' {
		return parseBracket(text)
	}
	dot := 0
	if text[0] == '.' {
		if first {
			return Step{}, 0, fmt.Errorf("a path starts with a name")
		}
		dot = 1
	} else if !first {
		return Step{}, 0, fmt.Errorf("expected . or [")
	}
	if strings.HasPrefix(text[dot:], "*") {
		return Step{Every: true}, dot + 1, nil
	}
	n := dot
	for n < len(text) && plain(text[n]) {
		n++
	}
	if n == dot {
		return Step{}, 0, fmt.Errorf("expected a name; write a name with characters other than " +
			`letters, digits, _ and - as ["name"]`)
	}
	return Step{Name: text[dot:n]}, n, nil
}

// parseBracket parses [2], [*] or ["name"].
func parseBracket(text string) (Step, int, error) {
	if strings.HasPrefix(text, "[*]") {
		return Step{Every: true, List: true}, 3, nil
	}
	if strings.HasPrefix(text, `["`) {
		end := closingQuote(text)
		var name string
		if end < 0 || json.Unmarshal([]byte(text[1:end+1]), &name) != nil ||
			!strings.HasPrefix(text[end+1:], "]") {
			return Step{}, 0, fmt.Errorf(`expected a JSON string in brackets, such as ["name"]`)
		}
		return Step{Name: name}, end + 2, nil
	}
	end := strings.IndexByte(text, ']')
	if end < 0 {
		return Step{}, 0, fmt.Errorf("[ without ]")
	}
	index, err := strconv.ParseUint(text[1:end], 10, 31)
	if err != nil {
		return Step{}, 0, fmt.Errorf(`expected [number], [*] or ["name"]`)
	}
	return Step{Index: int(index), List: true}, end + 1, nil
}

// closingQuote returns the index of the closing quote of the JSON string that begins at
// text[1], or -1.
func closingQuote(text string) int {
	for i := 2; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// plain reports whether c can be part of a name without quotes.
func plain(c byte) bool {
	return c == '_' || c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' ||
		'A' <= c && c <= 'Z' || c >= 0x80
}

// String returns the canonical form of the path. ParsePath parses it to the same path.
func (p Path) String() string {
	if len(p) == 1 && !p[0].Every && !p[0].List && isPlain(p[0].Name) {
		return p[0].Name
	}
	var b strings.Builder
	for i, s := range p {
		switch {
		case s.Every && s.List:
			b.WriteString("[*]")
		case s.Every && i == 0:
			b.WriteString("*")
		case s.Every:
			b.WriteString(".*")
		case s.List:
			fmt.Fprintf(&b, "[%d]", s.Index)
		case !isPlain(s.Name):
			quoted, _ := json.Marshal(s.Name) // a string always marshals
			b.WriteString("[" + string(quoted) + "]")
		case i == 0:
			b.WriteString(s.Name)
		default:
			b.WriteString("." + s.Name)
		}
	}
	return b.String()
}

func isPlain(name string) bool {
	for i := range len(name) {
		if !plain(name[i]) {
			return false
		}
	}
	return name != ""
}

// with returns a copy of the path with one more step.
func (p Path) with(s Step) Path { return append(p[:len(p):len(p)], s) }
