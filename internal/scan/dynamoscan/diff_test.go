package dynamoscan

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rotator/internal/scan"
)

// anyValue draws a value of any kind with the given maximum depth.
func anyValue(t *rapid.T, depth int) scan.Value {
	text := rapid.StringN(0, 4, -1)
	kinds := []scan.Kind{scan.KindS, scan.KindN, scan.KindB, scan.KindBool, scan.KindNull,
		scan.KindSS, scan.KindNS, scan.KindBS}
	if depth > 0 {
		kinds = append(kinds, scan.KindM, scan.KindL, scan.KindM, scan.KindL)
	}
	v := scan.Value{Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
	switch v.Kind {
	case scan.KindS, scan.KindN:
		v.Text = text.Draw(t, "text")
	case scan.KindB:
		v.Bytes = []byte(text.Draw(t, "bytes"))
	case scan.KindBool:
		v.Bool = rapid.Bool().Draw(t, "bool")
	case scan.KindSS, scan.KindNS:
		v.Texts = rapid.SliceOfNDistinct(text, 1, 3, rapid.ID[string]).Draw(t, "set")
	case scan.KindBS:
		for _, member := range rapid.SliceOfNDistinct(text, 1, 3, rapid.ID[string]).Draw(t, "set") {
			v.ByteSet = append(v.ByteSet, []byte(member))
		}
	case scan.KindM:
		v.Map = anyMap(t, depth-1)
	case scan.KindL:
		for range rapid.IntRange(0, 3).Draw(t, "length") {
			v.List = append(v.List, anyValue(t, depth-1))
		}
	}
	return v
}

func anyMap(t *rapid.T, depth int) map[string]scan.Value {
	m := map[string]scan.Value{}
	for range rapid.IntRange(0, 4).Draw(t, "members") {
		m[rapid.SampledFrom([]string{"a", "b", `c."[0]`, "size", "#é"}).Draw(t, "name")] = anyValue(
			t, depth)
	}
	return m
}

// mutate draws new values for some of the leaves and changes nothing else.
func mutate(t *rapid.T, v scan.Value) scan.Value {
	switch v.Kind {
	case scan.KindM:
		v.Map = maps.Clone(v.Map)
		for _, name := range slices.Sorted(maps.Keys(v.Map)) {
			v.Map[name] = mutate(t, v.Map[name])
		}
		return v
	case scan.KindL:
		v.List = slices.Clone(v.List)
		for i := range v.List {
			v.List[i] = mutate(t, v.List[i])
		}
		return v
	}
	if !rapid.Bool().Draw(t, "mutate") {
		return v
	}
	for range 100 {
		if other := anyValue(t, 0); other.Kind == v.Kind {
			return other
		}
	}
	return v
}

// apply applies edits as DynamoDB does.
func apply(row *scan.Row, edits []edit) *scan.Row {
	v := scan.Value{Map: row.Attributes}
	for _, e := range edits {
		v = at(v, e.path, func(old scan.Value) scan.Value {
			if !cmp.Equal(old, e.old) {
				panic(fmt.Sprintf("the condition on %s is false", printPath(e.path)))
			}
			return e.new
		})
	}
	return &scan.Row{Attributes: v.Map}
}

func rowsEqual(a, b *scan.Row) bool {
	return normal(scan.Value{Map: a.Attributes}) == normal(scan.Value{Map: b.Attributes})
}

// normal prints a value with sorted sets.
func normal(v scan.Value) string {
	texts := slices.Sorted(slices.Values(v.Texts))
	set := slices.SortedFunc(slices.Values(v.ByteSet), bytes.Compare)
	text := fmt.Sprintf("%s %q %q %v %q %q", v.Kind, v.Text, v.Bytes, v.Bool, texts, set)
	for _, element := range v.List {
		text += " [" + normal(element) + "]"
	}
	for _, name := range slices.Sorted(maps.Keys(v.Map)) {
		text += fmt.Sprintf(" {%q: %s}", name, normal(v.Map[name]))
	}
	return text
}

// The edits of a diff turn the old row into the new one, and each edit replaces only a leaf
// that changed.
func TestDiffApplied(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := &scan.Row{Attributes: anyMap(t, 3)}
		new := &scan.Row{
			Attributes: mutate(t, scan.Value{Kind: scan.KindM, Map: old.Attributes}).Map,
		}
		edits, err := diff(old, new)
		if err != nil {
			t.Fatalf("diff of mutated leaves: %v", err)
		}
		for _, e := range edits {
			if e.old.Kind == scan.KindM || e.old.Kind == scan.KindL ||
				normal(e.old) == normal(e.new) {
				t.Fatalf("%s is replaced, but is not a changed leaf: %v by %v", printPath(e.path),
					e.old, e.new)
			}
		}
		if !rowsEqual(apply(old, edits), new) {
			t.Fatalf("the edits change %v to %v, want %v", old, apply(old, edits), new)
		}
	})
}

// The diff of any two rows is either correct or an error.
func TestDiffOfAnyRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, new := &scan.Row{Attributes: anyMap(t, 2)}, &scan.Row{Attributes: anyMap(t, 2)}
		edits, err := diff(old, new)
		if err == nil && !rowsEqual(apply(old, edits), new) {
			t.Fatalf("the edits change %v to %v, want %v", old, apply(old, edits), new)
		}
	})
}

func TestDiffRefuses(t *testing.T) {
	text := func(s string) scan.Value { return scan.Value{Kind: scan.KindS, Text: s} }
	list := func(v ...scan.Value) scan.Value { return scan.Value{Kind: scan.KindL, List: v} }
	old := map[string]scan.Value{"a": text("x"), "l": list(text("x"), text("y"))}
	for want, new := range map[string]map[string]scan.Value{
		"attribute b would be added":    {"a": text("x"), "l": old["l"], "b": text("x")},
		"attribute l would be removed":  {"a": text("x")},
		"list attribute l would change": {"a": text("x"), "l": list(text("x"))},
		"attribute a would change from type S to": {
			"a": {Kind: scan.KindB, Bytes: []byte("x")},
			"l": old["l"],
		},
	} {
		if _, err := diff(&scan.Row{Attributes: old}, &scan.Row{Attributes: new}); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("diff: %v, want %q", err, want)
		}
	}
}

// Each key has exactly one text, and that text is parsed as the same key.
func TestKeyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := map[string]types.AttributeValue{}
		for range rapid.IntRange(1, 2).Draw(t, "attributes") {
			name := rapid.StringN(1, 5, -1).Draw(t, "name")
			switch text := rapid.StringN(1, 5, -1).Draw(t, "value"); rapid.IntRange(0, 2).Draw(t,
				"kind") {
			case 0:
				key[name] = &types.AttributeValueMemberS{Value: text}
			case 1:
				key[name] = &types.AttributeValueMemberN{Value: text}
			default:
				key[name] = &types.AttributeValueMemberB{Value: []byte(text + "\xff")}
			}
		}
		text, err := printKey(key)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseKey(text)
		if err != nil {
			t.Fatalf("parse %s: %v", text, err)
		}
		if reprinted, _ := printKey(again); reprinted != text ||
			!maps.Equal(normalKey(again), normalKey(key)) {
			t.Fatalf("%s is printed as %s after parsing", text, reprinted)
		}
	})
}

// Refs are stored in ledgers and audit logs, so their text must not change.
func TestKeyTextIsStable(t *testing.T) {
	key := map[string]types.AttributeValue{
		"z":  &types.AttributeValueMemberN{Value: "-1.5"},
		"id": &types.AttributeValueMemberS{Value: "<a&b>\"é\n"},
		"b":  &types.AttributeValueMemberB{Value: []byte{0, 0xff}},
	}
	const want = `{"b":{"B":"AP8="},"id":{"S":"<a&b>\"é\n"},"z":{"N":"-1.5"}}`
	if got, err := printKey(key); err != nil || got != want {
		t.Errorf("the key prints as %s (%v), want %s", got, err, want)
	}
	for _, text := range []string{"", "{}", "null", `{"id":{}}`, `{"id":{"BOOL":true}}`,
		`{"id":"a"}`} {
		if key, err := parseKey(text); err == nil {
			t.Errorf("%q is parsed as key %v, want an error", text, key)
		}
	}
}

func normalKey(key map[string]types.AttributeValue) map[string]string {
	flat := map[string]string{}
	for name, value := range key {
		v, err := fromSDK(value)
		if err != nil {
			return nil
		}
		flat[name] = normal(v)
	}
	return flat
}
