package config

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// binder copies a YAML tree into a Job. It is used instead of the decoder of
// the YAML package because that one stops at the first problem, takes a number
// for a string, and forgets where a field stood.
type binder struct {
	anchors   map[string]ast.Node
	lookupEnv func(string) (string, bool)
	places    map[string]place
	refused   map[string]bool // fields with a problem of their own
	problems  []Problem
	left      int // values that may still be visited: aliases can multiply
}

// spend takes n values off what is left. It is false when nothing is left,
// which is reported once.
func (b *binder) spend(n int, node ast.Node, field string) bool {
	if b.left < 0 {
		return false
	}
	if b.left -= n; b.left >= 0 {
		return true
	}
	b.refuse(node, field, fmt.Sprintf("the file holds more than %d values when its aliases are written out here; use fewer, or split it into several jobs", maxTokens))
	b.refused[""] = true // what was not visited cannot be judged
	return false
}

// anchors collects the nodes that aliases refer to.
func anchors(body ast.Node) map[string]ast.Node {
	found := map[string]ast.Node{}
	ast.Walk(anchorVisitor(found), body)
	return found
}

type anchorVisitor map[string]ast.Node

func (v anchorVisitor) Visit(n ast.Node) ast.Visitor {
	if a, ok := n.(*ast.AnchorNode); ok && a.Name != nil {
		v[a.Name.GetToken().Value] = a.Value
	}
	return v
}

// bind sets into from node and reports what does not fit.
func (b *binder) bind(node ast.Node, into reflect.Value, field string) {
	node, ok := b.resolve(node, field)
	if !ok {
		return
	}
	if into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
		into = into.Elem()
	}
	if into.Type() == reflect.TypeFor[Duration]() {
		b.bindDuration(node, into, field)
		return
	}
	switch into.Kind() {
	case reflect.Struct:
		b.bindStruct(node, into, field)
	case reflect.Slice:
		b.bindList(node, into, field)
	case reflect.Map:
		b.bindMap(node, into, field)
	case reflect.String:
		if text, ok := b.text(node, field); ok {
			into.SetString(text)
		}
	default:
		b.bindScalar(node, into, field)
	}
}

// resolve follows anchors and aliases. It is false when there is nothing to
// bind, which has been reported.
func (b *binder) resolve(node ast.Node, field string) (ast.Node, bool) {
	for {
		if !b.spend(1, node, field) {
			return nil, false
		}
		switch n := node.(type) {
		case *ast.AnchorNode:
			node = n.Value
		case *ast.AliasNode:
			name := n.Value.GetToken().Value
			target, ok := b.anchors[name]
			if !ok {
				b.refuse(node, field, fmt.Sprintf("there is no anchor &%s in this file", name))
				return nil, false
			}
			node = target
		case *ast.TagNode:
			b.refuse(node, field, "YAML tags are not used in a job file; write text in quotes, and numbers without")
			return nil, false
		case *ast.NullNode, nil:
			b.refuse(node, field, "has no value; give it one, or take the field out")
			return nil, false
		default:
			return node, true
		}
	}
}

func (b *binder) bindStruct(node ast.Node, into reflect.Value, field string) {
	pairs, ok := b.pairs(node, field)
	if !ok {
		return
	}
	fields := map[string]int{}
	for i := range into.NumField() {
		if name, ok := into.Type().Field(i).Tag.Lookup("yaml"); ok {
			fields[name] = i
		}
	}
	for _, p := range pairs {
		i, ok := fields[p.key]
		if !ok {
			b.refuse(p.keyNode, join(field, p.key), "is not a field of a job file"+suggestion(p.key, fields))
			continue
		}
		name := join(field, p.key)
		b.mark(name, p.keyNode, p.value)
		b.bind(p.value, into.Field(i), name)
	}
}

func (b *binder) bindList(node ast.Node, into reflect.Value, field string) {
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		b.refuse(node, field, "must be a list: [a, b], or one line with a dash for each, not "+kind(node))
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), len(list.Values), len(list.Values)))
	for i, value := range list.Values {
		name := fmt.Sprintf("%s[%d]", field, i)
		b.mark(name, value, value)
		b.bind(value, into.Index(i), name)
	}
}

// bindMap takes the names as they are: those of an encryption context are
// case-sensitive.
func (b *binder) bindMap(node ast.Node, into reflect.Value, field string) {
	pairs, ok := b.pairs(node, field)
	if !ok {
		return
	}
	into.Set(reflect.MakeMap(into.Type()))
	for _, p := range pairs {
		name := join(field, p.key)
		b.mark(name, p.keyNode, p.value)
		if reference.MatchString(p.key) {
			b.refuse(p.keyNode, name, "${env:...} is expanded in values only; write the name itself")
			continue
		}
		value, ok := b.resolve(p.value, name)
		if !ok {
			continue
		}
		if text, ok := b.text(value, name); ok {
			into.SetMapIndex(reflect.ValueOf(p.key), reflect.ValueOf(text))
		}
	}
}

// text returns a string scalar, expanded. A number is not text: an encryption
// context that is 0x10 in the file must not become 16.
func (b *binder) text(node ast.Node, field string) (string, bool) {
	var raw string
	switch n := node.(type) {
	case *ast.StringNode:
		raw = n.Value
	case *ast.LiteralNode:
		raw = n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		b.refuse(node, field, "must be text, not "+kind(node)+"; put it in quotes")
		return "", false
	default:
		b.refuse(node, field, "must be text, not "+kind(node))
		return "", false
	}
	text, details := expand(raw, b.lookupEnv)
	for _, detail := range details {
		b.refuse(node, field, detail)
	}
	return text, len(details) == 0
}

// durationForm is how a job file writes a time. Go reads more, such as +5s and .5s.
var durationForm = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`)

func (b *binder) bindDuration(node ast.Node, into reflect.Value, field string) {
	const want = "must be a time with its unit, such as 90s, 10m or 1h30m"
	if n, ok := node.(*ast.IntegerNode); ok {
		b.refuse(node, field, want+", not "+kind(n))
		return
	}
	text, ok := b.text(node, field)
	if !ok {
		return
	}
	d, err := time.ParseDuration(text)
	if err != nil || !durationForm.MatchString(strings.TrimPrefix(text, "-")) {
		b.refuse(node, field, want)
		return
	}
	into.SetInt(int64(d))
}

// bindScalar sets a number or a bool.
func (b *binder) bindScalar(node ast.Node, into reflect.Value, field string) {
	want := "a number"
	switch into.Kind() {
	case reflect.Bool:
		if n, ok := node.(*ast.BoolNode); ok {
			into.SetBool(n.Value)
			return
		}
		want = "true or false"
	case reflect.Int:
		if n, ok := integer(node); ok {
			into.SetInt(n)
			return
		}
		want = "a whole number"
	case reflect.Float64:
		if n, ok := integer(node); ok {
			into.SetFloat(float64(n))
			return
		}
		if n, ok := node.(*ast.FloatNode); ok && !math.IsInf(n.Value, 0) {
			into.SetFloat(n.Value)
			return
		}
	}
	got := kind(node)
	switch got {
	case "text":
		want += " without quotes"
	case "a number":
		got = node.GetToken().Value
	}
	b.refuse(node, field, fmt.Sprintf("must be %s, not %s", want, got))
}

func integer(node ast.Node) (int64, bool) {
	n, ok := node.(*ast.IntegerNode)
	if !ok {
		return 0, false
	}
	switch v := n.Value.(type) {
	case int64:
		return v, true
	case uint64:
		return int64(min(v, math.MaxInt64)), true
	}
	return 0, false
}

// mark remembers where a field stands: a scalar at its value, anything larger
// at its name.
func (b *binder) mark(field string, name, value ast.Node) {
	at := name
	switch value.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.AliasNode:
		at = value
	}
	b.places[field] = start(at)
}

// refuse reports a problem at a node.
func (b *binder) refuse(node ast.Node, field, detail string) {
	at := start(node)
	if node == nil || at.line == 0 {
		at.line, at.column = source{places: b.places}.at(field)
	}
	if b.refused == nil {
		b.refused = map[string]bool{}
	}
	b.refused[field] = true
	b.problems = append(b.problems, Problem{Field: field, Detail: detail, Line: at.line, Column: at.column})
}
