package ciphertext

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/nearest"
	"rotator/internal/scan"
)

// The explanation of a rule that found no slot in an item: the place of a value
// of another type, or the missing name with similar names.
func TestExplain(t *testing.T) {
	text := func(s string) scan.Value { return scan.Value{Kind: scan.KindS, Text: s} }
	in := func(m map[string]scan.Value) scan.Value { return scan.Value{Kind: scan.KindM, Map: m} }
	list := func(l ...scan.Value) scan.Value { return scan.Value{Kind: scan.KindL, List: l} }
	near := func(names ...string) (found []nearest.Name) {
		for i := 0; i < len(names); i++ {
			found = append(found,
				nearest.Name{Text: names[i], Distance: nearest.Distance("docs", names[i])})
		}
		return found
	}
	for _, test := range []struct {
		name, path string
		row        map[string]scan.Value // a DynamoDB item
		body       string                // an object, where row is nil
		format     string                // of the object
		want       Miss
	}{
		{name: "no such attribute", path: "ssn", row: map[string]scan.Value{"id": text("1")}},
		{
			name: "a map for a list",
			path: "docs[*]",
			row:  map[string]scan.Value{"docs": in(nil)},
			want: Miss{At: "docs", Kind: "M"},
		},
		{
			name: "a string for a list",
			path: "docs[0]",
			row:  map[string]scan.Value{"docs": text("x")},
			want: Miss{At: "docs", Kind: "S"},
		},
		{
			name: "a string for a map",
			path: "docs.x",
			row:  map[string]scan.Value{"docs": text("x")},
			want: Miss{At: "docs", Kind: "S"},
		},
		{name: "an empty list", path: "docs[*]", row: map[string]scan.Value{"docs": list()}},
		{name: "NULL", path: "docs[*]", row: map[string]scan.Value{"docs": {Kind: scan.KindNull}}},
		{
			name: "a list of strings for maps",
			path: "docs[*].key",
			row:  map[string]scan.Value{"docs": list(text("x"))},
			want: Miss{At: "docs[*]", Kind: "S"},
		},
		{
			name: "another case below",
			path: "p.docs",
			row: map[string]scan.Value{
				"p": in(map[string]scan.Value{"Docs": text("x"), "other": text("y")})},
			want: Miss{Missing: "p.docs", Near: near("Docs")},
		},
		{
			name: "the deepest of several",
			path: "x[*].p.docs",
			row: map[string]scan.Value{"x": list(in(nil),
				in(map[string]scan.Value{"p": in(map[string]scan.Value{"dosc": text("x")})}))},
			want: Miss{Missing: "x[*].p.docs", Near: near("dosc")},
		},
		{
			name:   "a document of another case",
			path:   "docs",
			format: "json",
			body:   `{"Docs":"x","id":1}`,
			want:   Miss{Missing: "docs", Near: near("Docs", "id")[:1]},
		},
		{
			name:   "a map for a list in a document",
			path:   "docs[*]",
			format: "json",
			body:   `{"docs":{"a":"x"}}`,
			want:   Miss{At: "docs", Kind: "object"},
		},
		{
			name:   "a document that is an array",
			path:   "docs",
			format: "json",
			body:   `[1]`,
			want:   Miss{Kind: "array"},
		},
		{
			name:   "a line",
			path:   "a.docs",
			format: "jsonl",
			body:   "{\"b\":1}\n{\"a\":[]}\n",
			want:   Miss{At: "a", Kind: "array"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := Spec{Format: "raw", Kind: Rows, Slots: []SlotSpec{{Path: test.path}}}
			item := scan.Item{Payload: &scan.Row{Attributes: test.row}}
			if test.row == nil {
				spec.Format, spec.Kind = test.format, Objects
				item.Payload = &scan.Object{Body: []byte(test.body)}
			}
			format := compile(t, spec)
			if slots := format.Find(item); len(slots) > 0 {
				t.Fatalf("there is a slot: %+v", slots)
			}
			if diff := cmp.Diff(test.want, format.Explain(item, 0, true)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
