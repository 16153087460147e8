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

// pairs returns the entries of a mapping in their order, merge keys written
// out: what the mapping says itself wins over what it merges.
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
				"is here twice, first on line %d; keep one", start(before).line))
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

// isMerge reports whether a name is that of a merge, <<.
func isMerge(name *yaml.Node) bool {
	return name.Kind == yaml.ScalarNode && name.Value == "<<" && name.Style == 0
}

// merge returns the entries that "<<: *anchor" or "<<: [*a, *b]" stands for.
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

// key returns a name in a mapping. Whole numbers, true and false are used as
// written, as all readers do if names are text.
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

// start is where a node begins.
func start(node *yaml.Node) place {
	if node == nil {
		return place{}
	}
	return place{line: node.Line, column: node.Column}
}

// kind names what stands in the file, for people.
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

// join adds a name to a field; names that are not plain stand in brackets.
func join(field, name string) string {
	switch {
	case !plainName.MatchString(name):
		return field + "[" + strconv.Quote(name) + "]"
	case field == "":
		return name
	}
	return field + "." + name
}

// suggestion names the nearest known field, or all of them.
func suggestion(name string, fields map[string]int) string {
	best, distance := "", 3 // a field further away is not what was meant
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
	return "; known here: " + strings.Join(names, ", ")
}
