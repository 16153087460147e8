package config

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// readable checks what the YAML scanner would let pass or replace silently.
func readable(data []byte) (string, *Problem) {
	if len(data) > MaxSize {
		return "", &Problem{Detail: fmt.Sprintf("the file is larger than %d bytes; is it a job file?", MaxSize)}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	line, column := 1, 1
	for rest := data; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			return "", &Problem{Line: line, Column: column, Detail: "the file is not UTF-8 here; save it as UTF-8"}
		case r == '\n':
			line, column = line+1, 1
		case r < ' ' && r != '\t' && r != '\r', r == 0x7f:
			return "", &Problem{Line: line, Column: column,
				Detail: fmt.Sprintf("the control character %U is not allowed; is it a job file?", r)}
		default:
			column++
		}
		rest = rest[size:]
	}
	return string(data), nil
}

// reference matches ${env:...}, well-formed or not.
var reference = regexp.MustCompile(`\$\{env:([^}]*)(\}?)`)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces every ${env:NAME} of a scalar. Other references (${tenant_id})
// belong to encryption contexts and stay. A value is taken as it is: it cannot
// become YAML, and one that looks like a reference is refused, since a context
// would go on to expand it.
func expand(text string, lookupEnv func(string) (string, bool)) (string, []string) {
	var details []string
	expanded := reference.ReplaceAllStringFunc(text, func(match string) string {
		parts := reference.FindStringSubmatch(match)
		name := parts[1]
		if parts[2] == "" || !envName.MatchString(name) {
			details = append(details, "holds a ${env:...} that is not closed or names no variable; write ${env:NAME}, a name of letters, digits and _")
			return ""
		}
		value, ok := lookupEnv(name)
		switch {
		case !ok:
			details = append(details, fmt.Sprintf("the environment variable %s is not set; set it, or write the value here", name))
		case strings.Contains(value, "${"):
			details = append(details, fmt.Sprintf("the value of the environment variable %s holds ${, which would be read as a reference; write the reference here instead", name))
		case !utf8.ValidString(value):
			details = append(details, fmt.Sprintf("the value of the environment variable %s is not UTF-8", name))
		}
		return value
	})
	return expanded, details
}
