package ciphertext

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// In env and INI files, sops stores the stanza as single values, whose names contain their
// path: kms__list_0__map_context__map_app is kms[0].context.app (stores/flatten.go).
const (
	flatMap  = "__map_"
	flatList = "__list_"
)

// maxFlat is the maximum number of steps of a flattened name.
const maxFlat = 16

// flat is a value with a flattened name.
type flat struct {
	rest string // the remaining part of the name
	leaf *node
}

// envStanza reads the lines sops_NAME=VALUE (stores/dotenv/store.go). Values are not trimmed
// or quoted, and \n represents a line break.
func envStanza(body []byte) (*node, *Refused) {
	var values []flat
	at := 0
	for line := range bytes.Lines(body) {
		text := strings.TrimRight(string(line), "\r\n")
		name, value, ok := strings.Cut(text, "=")
		if rest, found := strings.CutPrefix(name, "sops_"); ok && found {
			values = append(values, flat{rest, flatText(value, at+len(name)+1)})
		}
		at += len(line)
	}
	return unflatten("sops", values)
}

// iniStanza reads the section [sops] like sops, which uses go-ini: white space around names
// and values is ignored, \n represents a line break, and names and values may be in
// backquotes. It does not read values with other quotes or with comments at the end of the
// line.
func iniStanza(body []byte) ([]*node, *Refused) {
	var values []flat
	sections, inside, at := 0, false, 0
	for line := range bytes.Lines(body) {
		text := strings.TrimSpace(string(line))
		switch {
		case strings.HasPrefix(text, "["):
			if inside = text == "[sops]"; inside {
				sections++
			}
		case inside && text != "" && text[0] != '#' && text[0] != ';':
			name, value, ok := iniEntry(text)
			if !ok {
				return nil,
					refuse("wrong-type", "section sops has a line that is not a name and a value")
			}
			start := at + bytes.Index(line, []byte(text)) + len(text) - len(value)
			values = append(values, flat{name, iniText(value, start)})
		}
		at += len(line)
	}
	if sections > 1 {
		return nil, duplicate("section sops")
	}
	return oneStanza(unflatten("sops", values))
}

// iniText returns the node of a value at an offset of the body.
func iniText(value string, start int) *node {
	switch {
	case strings.HasPrefix(value, "`") && strings.HasSuffix(value, "`") &&
		strings.Count(value, "`") == 2:
		return flatText(value[1:len(value)-1], start+1)
	case strings.ContainsAny(value, "#;\"'`") || strings.HasSuffix(value, `\`):
		return &node{}
	}
	return flatText(value, start)
}

// iniEntry splits a line into name and value.
func iniEntry(text string) (name, value string, ok bool) {
	quoted, rest, found := strings.Cut(strings.TrimPrefix(text, "`"), "`")
	if text[0] == '`' && found {
		rest = strings.TrimLeft(rest, " \t")
		if rest == "" || rest[0] != '=' && rest[0] != ':' {
			return "", "", false
		}
		return quoted, strings.TrimSpace(rest[1:]), true
	}
	i := strings.IndexAny(text, "=:")
	if i < 1 || strings.ContainsAny(text[:i], "\"'`") {
		return "", "", false
	}
	return strings.TrimSpace(text[:i]), strings.TrimSpace(text[i+1:]), true
}

func flatText(value string, start int) *node {
	return &node{
		kind:  nodeText,
		text:  strings.ReplaceAll(value, `\n`, "\n"),
		start: start,
		end:   start + len(value),
		write: func(text string) []byte { return []byte(strings.ReplaceAll(text, "\n", `\n`)) },
	}
}

// unflatten builds the tree of values from their flattened names.
func unflatten(path string, values []flat) (*node, *Refused) {
	root := &node{path: path, kind: nodeMap}
	wholeName := func(name string) (string, bool) { return name, true }
	groups, refused := grouped(path, values, wholeName)
	for _, g := range groups {
		value, wrong := unflattened(stepPath(path, Step{Name: g.name}), g.values, 0)
		if refused == nil {
			refused = wrong
		}
		root.members = append(root.members, member{g.name, value})
	}
	if refused != nil {
		return nil, refused
	}
	return root, nil
}

// unflattened builds the tree of the values below a path.
func unflattened(path string, values []flat, depth int) (*node, *Refused) {
	first := values[0].rest
	mixed := refuse("ambiguous",
		"%s is duplicate, or is more than one of a value, a map and a list",
		path)
	switch {
	case first == "" && len(values) == 1:
		values[0].leaf.path = path
		return values[0].leaf, nil
	case first == "" || depth == maxFlat:
		return nil, mixed
	}
	n, prefix := &node{path: path, kind: nodeMap}, flatMap
	if strings.HasPrefix(first, flatList) {
		n.kind, prefix = nodeList, flatList
	}
	withoutPrefix := func(name string) (string, bool) { return strings.CutPrefix(name, prefix) }
	groups, refused := grouped(path, values, withoutPrefix)
	if refused != nil {
		return nil, mixed
	}
	if n.kind == nodeList {
		return unflattenedList(n, groups, mixed, depth)
	}
	for _, g := range groups {
		value, refused := unflattened(stepPath(path, Step{Name: g.name}), g.values, depth+1)
		if refused != nil {
			return nil, refused
		}
		n.members = append(n.members, member{g.name, value})
	}
	return n, nil
}

// unflattenedList builds a list. All elements from 0 to the last must exist, in any order.
func unflattenedList(n *node, groups []flatGroup, mixed *Refused, depth int) (*node, *Refused) {
	n.elements = make([]*node, len(groups))
	for _, g := range groups {
		i, err := strconv.Atoi(g.name)
		if err != nil || i < 0 || i >= len(groups) || n.elements[i] != nil {
			return nil, mixed
		}
		at := stepPath(n.path, Step{Index: i, List: true})
		element, refused := unflattened(at, g.values, depth+1)
		if refused != nil {
			return nil, refused
		}
		n.elements[i] = element
	}
	return n, nil
}

// flatGroup is the values whose names start with the same step.
type flatGroup struct {
	name   string
	values []flat
}

// grouped groups values by their next step, in the order of the file.
func grouped(
	path string,
	values []flat,
	cut func(name string) (string, bool),
) ([]flatGroup, *Refused) {
	var groups []flatGroup
	at := map[string]int{}
	for _, v := range values {
		name, ok := cut(v.rest)
		if !ok {
			return nil,
				refuse("ambiguous", "%s is more than one of a value, a map and a list", path)
		}
		end := len(name)
		for _, separator := range []string{flatMap, flatList} {
			if i := strings.Index(name, separator); i >= 0 {
				end = min(end, i)
			}
		}
		i, known := at[name[:end]]
		if !known {
			i = len(groups)
			at[name[:end]] = i
			groups = append(groups, flatGroup{name: name[:end]})
		}
		groups[i].values = append(groups[i].values, flat{name[end:], v.leaf})
	}
	return slices.Clip(groups), nil
}
