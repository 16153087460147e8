package ciphertext

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/nearest"
	"rotator/internal/scan"
)

// explainCase is an item in which a path finds no slot.
type explainCase struct {
	name, path string
	row        map[string]scan.Value // a DynamoDB item
	body       string                // an object, if row is nil
	format     string                // of the object
	want       Miss
}

func mapOf(m map[string]scan.Value) scan.Value { return scan.Value{Kind: scan.KindM, Map: m} }
func listOf(l ...scan.Value) scan.Value        { return scan.Value{Kind: scan.KindL, List: l} }

// nearDocs returns names with their distance from "docs".
func nearDocs(names ...string) (found []nearest.Name) {
	for _, name := range names {
		found = append(found, nearest.Name{Text: name, Distance: nearest.Distance("docs", name)})
	}
	return found
}

func explainRows() []explainCase {
	return []explainCase{
		{name: "missing attribute", path: "ssn", row: map[string]scan.Value{"id": text("1")}},
		{
			name: "map instead of list",
			path: "docs[*]",
			row:  map[string]scan.Value{"docs": mapOf(nil)},
			want: Miss{At: "docs", Kind: "M"},
		},
		{
			name: "string instead of list",
			path: "docs[0]",
			row:  map[string]scan.Value{"docs": text("x")},
			want: Miss{At: "docs", Kind: "S"},
		},
		{
			name: "string instead of map",
			path: "docs.x",
			row:  map[string]scan.Value{"docs": text("x")},
			want: Miss{At: "docs", Kind: "S"},
		},
		{name: "empty list", path: "docs[*]", row: map[string]scan.Value{"docs": listOf()}},
		{name: "NULL", path: "docs[*]", row: map[string]scan.Value{"docs": {Kind: scan.KindNull}}},
		{
			name: "strings instead of maps in a list",
			path: "docs[*].key",
			row:  map[string]scan.Value{"docs": listOf(text("x"))},
			want: Miss{At: "docs[*]", Kind: "S"},
		},
		{
			name: "other case in a map",
			path: "p.docs",
			row: map[string]scan.Value{
				"p": mapOf(map[string]scan.Value{"Docs": text("x"), "other": text("y")})},
			want: Miss{Missing: "p.docs", Near: nearDocs("Docs")},
		},
		{
			name: "longest existing prefix",
			path: "x[*].p.docs",
			row: map[string]scan.Value{"x": listOf(mapOf(nil),
				mapOf(map[string]scan.Value{
					"p": mapOf(map[string]scan.Value{"dosc": text("x")}),
				}))},
			want: Miss{Missing: "x[*].p.docs", Near: nearDocs("dosc")},
		},
	}
}

func explainDocuments() []explainCase {
	return []explainCase{
		{
			name:   "other case in a document",
			path:   "docs",
			format: "json",
			body:   `{"Docs":"x","id":1}`,
			want:   Miss{Missing: "docs", Near: nearDocs("Docs", "id")[:1]},
		},
		{
			name:   "map instead of list in a document",
			path:   "docs[*]",
			format: "json",
			body:   `{"docs":{"a":"x"}}`,
			want:   Miss{At: "docs", Kind: "object"},
		},
		{
			name:   "document that is an array",
			path:   "docs",
			format: "json",
			body:   `[1]`,
			want:   Miss{Kind: "array"},
		},
		{
			name:   "line",
			path:   "a.docs",
			format: "jsonl",
			body:   "{\"b\":1}\n{\"a\":[]}\n",
			want:   Miss{At: "a", Kind: "array"},
		},
	}
}

// TestExplain: if a rule finds no slot in an item, the explanation is the path of a value of
// another type, or the missing name with similar names.
func TestExplain(t *testing.T) {
	for _, test := range append(explainRows(), explainDocuments()...) {
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
