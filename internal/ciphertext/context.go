package ciphertext

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// rule is an encryption context with references to values of each item.
type rule struct {
	names  []string // sorted, so that errors always report the same field first
	values map[string][]part
}

// part is a constant or a reference in a value.
type part struct {
	text      string // constant
	reference string // the text between ${ and }; "" for a constant
	kind      referenceKind
	name      string // of a named group or a metadata entry
	path      Path   // of an attribute or a member of the body
}

type referenceKind int

const (
	constant  referenceKind = iota
	attribute               // of a row
	objectKey
	objectBucket
	keyGroup
	metadata
	bodyMember
)

// lookup returns the value of a reference in one item.
type lookup func(p part) (string, *Refused)

// newRule compiles a context. where defines the valid references.
func newRule(context map[string]string, where scope) (rule, error) {
	r := rule{names: slices.Sorted(maps.Keys(context)), values: map[string][]part{}}
	for _, name := range r.names {
		parts, err := parseValue(context[name], where)
		if err != nil {
			return rule{}, fmt.Errorf("%s: %w", name, err)
		}
		r.values[name] = parts
	}
	return r, nil
}

// parseValue splits a value into constants and ${references}. $${ represents a literal ${.
func parseValue(text string, where scope) ([]part, error) {
	var parts []part
	var literal strings.Builder
	for text != "" {
		switch {
		case strings.HasPrefix(text, "$${"):
			literal.WriteString("${")
			text = text[3:]
		case strings.HasPrefix(text, "${"):
			end := referenceEnd(text)
			if end < 0 {
				return nil, fmt.Errorf("${ without }; write $${ for a literal ${")
			}
			p, err := where.reference(text[2:end])
			if err != nil {
				return nil, err
			}
			if literal.Len() > 0 {
				parts = append(parts, part{text: literal.String()})
				literal.Reset()
			}
			parts = append(parts, p)
			text = text[end+1:]
		default:
			literal.WriteByte(text[0])
			text = text[1:]
		}
	}
	if literal.Len() > 0 || len(parts) == 0 {
		parts = append(parts, part{text: literal.String()})
	}
	return parts, nil
}

// referenceEnd returns the index of the } that closes the ${ at the start of text, or -1.
// It skips quoted names.
func referenceEnd(text string) int {
	for i := 2; i < len(text); i++ {
		if text[i] == '}' {
			return i
		}
		if strings.HasPrefix(text[i:], `["`) {
			n := closingQuote(text[i:])
			if n < 0 {
				return -1
			}
			i += n
		}
	}
	return -1
}

// scope defines the references that are valid in a target.
type scope struct {
	kind    Kind
	pattern *regexp.Regexp
	body    bool // the item is a JSON document
}

func (s scope) reference(text string) (part, error) {
	p := part{reference: text}
	if s.kind == Rows {
		path, err := fixedPath(text)
		if err != nil {
			return part{}, fmt.Errorf("${%s}: %w", text, err)
		}
		p.kind, p.path = attribute, path
		return p, nil
	}
	head, tail, _ := strings.Cut(text, ".")
	switch {
	case text == "key":
		p.kind = objectKey
	case s.kind == Files && (text == "bucket" || head == "metadata"):
		return part{}, fmt.Errorf("${%s} is not a reference for files; references are ${key}, "+
			"which is the path relative to the root, ${key.GROUP} and, with format json or jsonl, "+
			"${body.PATH}", text)
	case text == "bucket":
		p.kind = objectBucket
	case head == "key" && s.hasGroup(tail):
		p.kind, p.name = keyGroup, tail
	case head == "key":
		return part{}, fmt.Errorf("${%s}: key_pattern has no group (?P<%s>...)", text, tail)
	case head == "metadata" && tail != "":
		p.kind, p.name = metadata, strings.ToLower(tail)
	case head == "body" && tail != "" && s.body:
		path, err := fixedPath(tail)
		if err != nil {
			return part{}, fmt.Errorf("${%s}: %w", text, err)
		}
		p.kind, p.path = bodyMember, path
	default:
		return part{}, fmt.Errorf("${%s} is not a reference for objects; references are ${key}, "+
			"${key.GROUP}, ${bucket}, ${metadata.NAME} and, with format json or jsonl, "+
			"${body.PATH}", text)
	}
	return p, nil
}

// hasGroup reports whether key_pattern has a group with a name.
func (s scope) hasGroup(name string) bool {
	return s.pattern != nil && name != "" && slices.Contains(s.pattern.SubexpNames(), name)
}

// fixedPath parses a path without wildcards.
func fixedPath(text string) (Path, error) {
	path, err := ParsePath(text)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(path, func(s Step) bool { return s.Every }) {
		return nil, fmt.Errorf("a value of a context cannot use [*] or .*")
	}
	return path, nil
}

// fill returns the context of one slot. It refuses the slot if a reference has no value
// in the item; it never uses an empty value instead.
func (r rule) fill(find lookup) (map[string]string, *Refused) {
	if len(r.names) == 0 {
		return nil, nil
	}
	context := make(map[string]string, len(r.names))
	for _, name := range r.names {
		text, refused := fillText(r.values[name], find)
		if refused != nil {
			return nil, refused
		}
		context[name] = text
	}
	return context, nil
}

// lookUp calls find for each reference of the rule and ignores the results.
func (r rule) lookUp(find lookup) {
	for _, name := range r.names {
		for _, p := range r.values[name] {
			if p.kind != constant {
				_, _ = find(p)
			}
		}
	}
}

// fillText returns a value with the values of its references.
func fillText(parts []part, find lookup) (string, *Refused) {
	if len(parts) == 1 {
		return fillPart(parts[0], find)
	}
	var value strings.Builder
	for _, p := range parts {
		text, refused := fillPart(p, find)
		if refused != nil {
			return "", refused
		}
		value.WriteString(text)
	}
	return value.String(), nil
}

// fillPart returns the text of one part of a value.
func fillPart(p part, find lookup) (string, *Refused) {
	if p.kind == constant {
		return p.text, nil
	}
	text, refused := find(p)
	if refused == nil && !utf8.ValidString(text) {
		refused = refuse("not-utf8", "the encryption context needs ${%s}, whose value is not "+
			"UTF-8 and cannot be sent to KMS", p.reference)
	}
	if refused != nil {
		return "", refused
	}
	return text, nil
}

// missing refuses a slot because a reference has no value. The detail contains names and
// never values.
func missing(p part, why string) *Refused {
	return refuse("missing-context", "the encryption context needs ${%s}, but %s", p.reference, why)
}
