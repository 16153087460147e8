package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"rotator/internal/nearest"
)

// pair is one entry of a mapping.
type pair struct {
	key     string
	keyNode *yaml.Node
	value   *yaml.Node
}

// pairs returns the entries of a mapping in order, with merge keys expanded. Entries of the
// mapping itself override merged entries.
func (b *binder) pairs(node *yaml.Node, field string) ([]pair, bool) {
	if node.Kind != yaml.MappingNode {
		b.refuse(node, field, "must be fields with values (name: value), not "+kind(node))
		return nil, false
	}
	if !b.spend(len(node.Content)/2, node, field) {
		return nil, false
	}
	var own, merged []pair
	first := map[string]*yaml.Node{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		if isMerge(name) {
			merged = append(merged, b.merge(value, field)...)
			continue
		}
		key, ok := b.key(name, field)
		if !ok {
			continue
		}
		if before, ok := first[key]; ok {
			b.refuse(name, join(field, key), fmt.Sprintf(
				"is duplicate, first on line %d; keep one", start(before).line))
			continue
		}
		first[key] = name
		own = append(own, pair{key, name, value})
	}
	for _, m := range merged {
		if _, ok := first[m.key]; !ok {
			first[m.key] = m.keyNode
			own = append(own, m)
		}
	}
	return own, true
}

// isMerge reports whether a name is the merge key, <<.
func isMerge(name *yaml.Node) bool {
	return name.Kind == yaml.ScalarNode && name.Value == "<<" && name.Style == 0
}

// merge returns the entries of "<<: *anchor" or "<<: [*a, *b]".
func (b *binder) merge(value *yaml.Node, field string) []pair {
	node, ok := b.resolve(value, field)
	if !ok {
		return nil
	}
	if node.Kind != yaml.SequenceNode {
		pairs, _ := b.pairs(node, field)
		return pairs
	}
	var all []pair
	for _, element := range node.Content {
		all = append(all, b.merge(element, field)...)
	}
	return all
}

// key returns a name in a mapping. Whole numbers, true and false are accepted as written,
// because all readers interpret them as the same text.
func (b *binder) key(node *yaml.Node, field string) (string, bool) {
	if node.Kind == yaml.ScalarNode && node.Style&yaml.TaggedStyle == 0 {
		switch scalarOf(node) {
		case text, doubtful:
			return node.Value, true
		case whole:
			if !strings.HasPrefix(node.Value, "+") && node.Value != "-0" {
				return node.Value, true
			}
		case boolean:
			if node.Value == "true" || node.Value == "false" {
				return node.Value, true
			}
		}
	}
	b.refuse(node, field, "the name of a field must be plain text; put it in quotes")
	return "", false
}

// start returns the position of a node.
func start(node *yaml.Node) position {
	if node == nil {
		return position{}
	}
	return position{line: node.Line, column: node.Column}
}

// kind returns a description of a node for messages.
func kind(node *yaml.Node) string {
	switch node.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "fields with values"
	case yaml.ScalarNode:
		switch scalarOf(node) {
		case text:
			return "text"
		case boolean:
			return strings.ToLower(node.Value)
		case whole, fraction, number:
			return "a number"
		}
	}
	return "this"
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// join appends a name to a field. Names that are not plain are quoted in brackets.
func join(field, name string) string {
	switch {
	case !plainName.MatchString(name):
		return field + "[" + strconv.Quote(name) + "]"
	case field == "":
		return name
	}
	return field + "." + name
}

// suggestion returns the most similar field, or all fields.
func suggestion(name string, fields map[string]int) string {
	best, distance := "", 3 // a field with a greater distance is not similar
	names := make([]string, len(fields))
	for known, i := range fields {
		names[i] = known
		d := nearest.Distance(name, known)
		if d < distance || d == distance && known < best {
			best, distance = known, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %s?", best)
	}
	return "; fields here are " + strings.Join(names, ", ")
}
