package config

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// readable refuses characters that YAML readers ignore, replace or interpret
// differently.
func readable(data []byte) *Problem {
	if len(data) > MaxSize {
		return &Problem{
			Detail: fmt.Sprintf("the file is larger than %d bytes; is it a job file?", MaxSize),
		}
	}
	line, column := 1, 1
	wrong := func(format string, args ...any) *Problem {
		return &Problem{Line: line, Column: column, Detail: fmt.Sprintf(format, args...)}
	}
	for rest := bytes.TrimPrefix(data, []byte("\ufeff")); len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			return wrong("the file is not UTF-8 here; save it as UTF-8")
		case r == '%' && column == 1:
			return wrong("YAML directives are not supported; remove this line")
		case r == '\r' && !bytes.HasPrefix(rest, []byte("\r\n")):
			return wrong("a single carriage return is not a line break; save the file with " +
				"line feeds")
		case r == '\n':
			line, column = line+1, 1
		case r < ' ' && r != '\t' && r != '\r', r == 0x7f:
			return wrong("the control character %U is not allowed; is it a job file?", r)
		case strings.ContainsRune(otherBreaks, r):
			return wrong("some YAML readers treat the character %U as a line break; "+
				`write "\u%04[1]X" in quotes`, r)
		default:
			column++
		}
		rest = rest[size:]
	}
	return nil
}

// otherBreaks are line breaks in YAML 1.1 and not in 1.2 (1.2.2, 5.4), and the byte order
// mark, which some readers ignore at the start of a line.
const otherBreaks = "\u0085\u2028\u2029\ufeff"

// reference matches ${env:...}, valid or not.
var reference = regexp.MustCompile(`\$\{env:([^}]*)(\}?)`)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces each ${env:NAME} of a scalar. Other references (${tenant_id}) belong to
// encryption contexts and are kept. Values of variables are not parsed as YAML. A value with
// ${ is refused, because a context would expand it as a reference.
func expand(text string, lookupEnv func(string) (string, bool)) (string, []string) {
	var details []string
	expanded := reference.ReplaceAllStringFunc(text, func(match string) string {
		parts := reference.FindStringSubmatch(match)
		name := parts[1]
		if parts[2] == "" || !envName.MatchString(name) {
			details = append(details, "has ${env:...} without } or without a valid name; write "+
				"${env:NAME}, with a name of letters, digits and _")
			return ""
		}
		variable := "the environment variable " + name
		value, ok := lookupEnv(name)
		switch {
		case !ok:
			details = append(details, variable+" is not set; set it, or write the value here")
		case strings.Contains(value, "${"):
			details = append(details, "the value of "+variable+" contains ${, which would be a "+
				"reference; write the reference here instead")
		case !utf8.ValidString(value):
			details = append(details, "the value of "+variable+" is not UTF-8")
		}
		return value
	})
	return expanded, details
}
