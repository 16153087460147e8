package ciphertext

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// rule is one encryption context, with references that are filled in from each
// item.
type rule struct {
	names  []string // sorted, so that the same field is missed first
	values map[string][]part
}

// part is a piece of a value: a constant, or a reference.
type part struct {
	text      string // constant
	reference string // as written between ${ and }; "" for a constant
	kind      referenceKind
	name      string // of a named group or of metadata
	path      Path   // of an attribute or of a member of the body
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

// lookup answers what a reference stands for in one item.
type lookup func(p part) (string, *Refused)

// newRule compiles a context. Where says what references there are.
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

// parseValue cuts a value into constants and ${references}; $${ is a literal ${.
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
				return nil, fmt.Errorf("${ without }; write $${ for the characters themselves")
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

// referenceEnd finds the } of the ${ at the start, past quoted names.
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

// scope is what references of a target can name.
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
		return part{}, fmt.Errorf("${%s} is nothing that a file has; there are ${key}, its path below the root, ${key.GROUP} and, with format json or jsonl, ${body.PATH}", text)
	case text == "bucket":
		p.kind = objectBucket
	case head == "key" && s.pattern != nil && slices.Contains(s.pattern.SubexpNames(), tail) && tail != "":
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
		return part{}, fmt.Errorf("${%s} is nothing that an object has; there are ${key}, ${key.GROUP}, ${bucket}, ${metadata.NAME} and, with format json or jsonl, ${body.PATH}", text)
	}
	return p, nil
}

// fixedPath is a path that names one place.
func fixedPath(text string) (Path, error) {
	path, err := ParsePath(text)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(path, func(s Step) bool { return s.Every }) {
		return nil, fmt.Errorf("a context takes its value from one place, not from every one")
	}
	return path, nil
}

// fill makes the context of one slot. A reference that cannot be filled refuses
// the slot; there is never an empty value in its place.
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

// fillText puts what references stand for into one value.
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
		refused = &Refused{Reason: "not-utf8", Detail: fmt.Sprintf(
			"its context needs ${%s}, which is not UTF-8, and so cannot be sent to KMS as it is",
			p.reference)}
	}
	if refused != nil {
		return "", refused
	}
	return text, nil
}

// missing refuses a slot whose context cannot be made. It names the field, not
// its value.
func missing(p part, why string) *Refused {
	return &Refused{Reason: "missing-context", Detail: fmt.Sprintf("its context needs ${%s}, and %s", p.reference, why)}
}
