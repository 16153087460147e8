package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// pair is one entry of a mapping.
type pair struct {
	key     string
	keyNode ast.Node
	value   ast.Node
}

// pairs returns the entries of a mapping in their order, merge keys written
// out: what the mapping says itself wins over what it merges.
func (b *binder) pairs(node ast.Node, field string) ([]pair, bool) {
	var values []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		b.refuse(node, field, "must be fields with values (name: value), not "+kind(node))
		return nil, false
	}
	if !b.spend(len(values), node, field) {
		return nil, false
	}
	var own, merged []pair
	first := map[string]ast.Node{}
	for _, v := range values {
		if v.Key.IsMergeKey() {
			merged = append(merged, b.merge(v.Value, field)...)
			continue
		}
		key, ok := b.key(v.Key, field)
		if !ok {
			continue
		}
		if before, ok := first[key]; ok {
			b.refuse(v.Key, join(field, key), fmt.Sprintf("is here twice, first on line %d; keep one", start(before).line))
			continue
		}
		first[key] = v.Key
		own = append(own, pair{key, v.Key, v.Value})
	}
	for _, m := range merged {
		if _, ok := first[m.key]; !ok {
			first[m.key] = m.keyNode
			own = append(own, m)
		}
	}
	return own, true
}

// merge returns the entries that "<<: *anchor" or "<<: [*a, *b]" stands for.
func (b *binder) merge(value ast.Node, field string) []pair {
	node, ok := b.resolve(value, field)
	if !ok {
		return nil
	}
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		pairs, _ := b.pairs(node, field)
		return pairs
	}
	var all []pair
	for _, element := range list.Values {
		all = append(all, b.merge(element, field)...)
	}
	return all
}

// key returns the name in a mapping; a name that is a number or a bool in YAML
// is taken as it is written.
func (b *binder) key(node ast.MapKeyNode, field string) (string, bool) {
	var inner ast.Node = node
	if k, ok := node.(*ast.MappingKeyNode); ok {
		inner = k.Value
	}
	switch n := inner.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	b.refuse(node, field, "the name of a field must be plain text")
	return "", false
}

// start is where a node begins. The token of a block mapping is the colon
// behind its first name, so its first name is taken instead.
func start(node ast.Node) place {
	switch n := node.(type) {
	case nil:
		return place{}
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return start(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return start(n.Key)
	}
	t := node.GetToken()
	if t == nil || t.Position == nil {
		return place{}
	}
	return place{line: t.Position.Line, column: t.Position.Column}
}

var allDigits = regexp.MustCompile(`^[-+]?[0-9]+$`)

// kind names what stands in the file, for people.
func kind(node ast.Node) string {
	switch n := node.(type) {
	case *ast.StringNode:
		if n.Token.Type == token.StringType && allDigits.MatchString(n.Value) {
			return "a number that large" // without quotes, but beyond 64 bits
		}
		return "text"
	case *ast.LiteralNode:
		return "text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return strconv.FormatBool(n.Value)
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "fields with values"
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
		d := editDistance(strings.ToLower(name), known)
		if d < distance || d == distance && known < best {
			best, distance = known, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %s?", best)
	}
	return "; known here: " + strings.Join(names, ", ")
}

// editDistance is the number of letters to insert, delete or replace.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
