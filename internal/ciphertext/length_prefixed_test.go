package ciphertext

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/scan"
)

// TestReplace: a sibling that two slots share is written once. Overlapping changes are an error. A
// body that was not read stays nil.
func TestReplace(t *testing.T) {
	r := func(start, end int, text string) replacement {
		return replacement{start, end, []byte(text)}
	}
	for _, test := range []struct {
		name    string
		changes []replacement
		want    string // "" means an error
	}{
		{"in any order", []replacement{r(4, 6, "EF!"), r(0, 1, "A")}, "AbcdEF!"},
		{
			"a shared sibling",
			[]replacement{r(0, 1, "A"), r(4, 5, "E"), r(0, 1, "A"), r(5, 6, "F")},
			"AbcdEF",
		},
		{"two values for one sibling", []replacement{r(0, 1, "A"), r(0, 1, "B")}, ""},
		{"overlap", []replacement{r(0, 3, "A"), r(2, 4, "B")}, ""},
		{"nested", []replacement{r(0, 6, "A"), r(2, 3, "B")}, ""},
		{"adjacent", []replacement{r(0, 3, "A"), r(3, 6, "B")}, "AB"},
		{"two insertions at one position", []replacement{r(3, 3, "A"), r(3, 3, "B")}, ""},
		{"beyond the end", []replacement{r(5, 7, "A")}, ""},
	} {
		got, err := replace([]byte("abcdef"), test.changes)
		if string(got) != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
	}
	if got, err := replace(nil, nil); got != nil || err != nil {
		t.Errorf("replacing nothing in a nil body gives %v, %v", got, err)
	}
}

// targetContextCase is the contexts of a target, and those of an object of it.
type targetContextCase struct {
	name     string
	spec     Spec
	item     string // metadata name
	from, to map[string]string
	refused  string
}

func targetContextCases() []targetContextCase {
	named := &ContextFile{
		File:     "contexts.yaml",
		Name:     "${metadata.name}",
		Contexts: map[string]map[string]string{"db": {"env": "prod"}, "open": {}},
	}
	k, none := map[string]string{"k": "${key}"}, map[string]string{}
	x := map[string]string{"k": "x"}
	return []targetContextCase{
		{name: "nothing", item: "db"},
		{name: "context", spec: Spec{Context: k}, from: x, to: x},
		{
			name: "other destination context",
			spec: Spec{Context: k, DestinationContext: map[string]string{"v": "2"}},
			from: x,
			to:   map[string]string{"v": "2"},
		},
		{name: "no destination context", spec: Spec{Context: k, DestinationContext: none}, from: x},
		{
			name: "by name",
			spec: Spec{ContextFile: named},
			item: "db",
			from: map[string]string{"env": "prod"},
			to:   map[string]string{"env": "prod"},
		},
		{
			name: "by name, empty context",
			spec: Spec{ContextFile: named},
			item: "open",
			from: none,
			to:   none,
		},
		{
			name: "by name, overrides the context",
			spec: Spec{ContextFile: named, Context: k},
			item: "db",
			from: map[string]string{"env": "prod"},
			to:   map[string]string{"env": "prod"},
		},
		{
			name:    "unknown name",
			spec:    Spec{ContextFile: named},
			item:    "other",
			refused: "missing-context",
		},
		{
			name: "unknown name, context of the target",
			spec: Spec{ContextFile: named, Context: none},
			item: "other",
		},
		{name: "no name", spec: Spec{ContextFile: named}, refused: "missing-context"},
	}
}

// TestTargetContext: the contexts of a target, with references and by name from a context file.
func TestTargetContext(t *testing.T) {
	for _, test := range targetContextCases() {
		test.spec.Kind = Objects
		c := &compiler{spec: test.spec, where: scope{kind: Objects}}
		g := c.targetContext()
		if err := errors.Join(c.errs...); err != nil {
			t.Fatal(err)
		}
		object := &scan.Object{Key: "x", Metadata: map[string]string{}}
		if test.item != "" {
			object.Metadata["name"] = test.item
		}
		from, to, refused := g.fill(objectLookup(object, nil, nil))
		if refused != nil && refused.Reason != test.refused || refused == nil &&
			test.refused != "" {
			t.Errorf("%s: refused %v, want %q", test.name, refused, test.refused)
		}
		if diff := cmp.Diff([]map[string]string{test.from, test.to},
			[]map[string]string{from, to}); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

// TestUnsupportedTargetFields: fields that have no effect with a format are an error.
func TestUnsupportedTargetFields(t *testing.T) {
	m := map[string]string{}
	for _, test := range []struct {
		spec Spec
		want string
	}{
		{Spec{Format: formatS3EC, Kind: Objects, Slots: []SlotSpec{{}}}, "slots"},
		{Spec{Format: formatS3EC, Kind: Objects, Context: m}, "context"},
		{Spec{Format: formatS3EC, Kind: Objects, DestinationContext: m}, "destination_context"},
		{Spec{Format: formatS3EC, Kind: Objects, ContextFile: &ContextFile{}}, "context_file"},
		{Spec{Format: formatS3EC, Kind: Rows}, "format"},
		{Spec{Format: formatAuto, Kind: Objects, ContextFile: &ContextFile{}}, "context_file"},
		{Spec{Format: formatAuto, Kind: Objects, Context: map[string]string{"a": "${nothing}"}},
			"context"},
		{Spec{Format: formatAuto, Kind: Files, Context: map[string]string{"a": "${bucket}"}},
			"context"},
		{Spec{Format: formatRaw, Kind: Objects, Slots: []SlotSpec{{}}, Context: m}, "context"},
		{Spec{Format: formatRaw, Kind: Objects, Slots: []SlotSpec{{Pattern: "x"}}},
			"slots[0].pattern"},
		{Spec{Format: formatRaw, Kind: Files, KeyPattern: "(", Slots: []SlotSpec{{}}},
			"files.key_pattern"},
	} {
		_, err := Compile(test.spec)
		var one *SpecError
		if !errors.As(err, &one) || one.Field != test.want {
			t.Errorf("%+v: %v, want a problem of %s", test.spec, err, test.want)
		}
	}
}

// TestFiles: every format of bodies also reads files.
func TestFiles(t *testing.T) {
	file := scan.Item{Ref: "a/b", Payload: &scan.Object{Key: "a/b", Body: []byte(std64("A"))}}
	f := compile(t, Spec{
		Format:     formatBase64,
		Kind:       Files,
		KeyPattern: "^(?P<top>[^/]*)/",
		Slots:      []SlotSpec{{Context: map[string]string{"k": "${key}", "t": "${key.top}"}}},
	})
	if diff := cmp.Diff([]string{" A map[k:a/b t:a] map[k:a/b t:a]"},
		summary(f.Find(file))); diff != "" {
		t.Error(diff)
	}
	checkObjectLaws(t, f, file)
}

// TestInstructionFilesAmongFiles: in a copy of a bucket, instruction files are recognised by their
// names. Copied objects have no metadata and no slot. Format auto reads every body, and refuses an
// instruction file with another name.
func TestInstructionFilesAmongFiles(t *testing.T) {
	body := []byte(`{"x-amz-3": "` + std64("A") + `", "x-amz-w": "12", "x-amz-t": "{\"k\":\"v\"}"}`)
	for key, want := range map[string][]string{
		"a/b.instruction": {"x-amz-3 A map[k:v] map[k:v]"},
		"a/b":             nil,
	} {
		file := scan.Item{Ref: scan.KeyRef(key), Payload: &scan.Object{Key: key, Body: body}}
		for _, format := range []string{formatS3EC, formatAuto} {
			f, want := compile(t, Spec{Format: format, Kind: Files}), want
			if want == nil && format == formatAuto {
				want = []string{" unknown-format"}
			}
			if diff := cmp.Diff(want, summary(f.Find(file))); diff != "" {
				t.Errorf("%s, %s: %s", format, key, diff)
			}
			checkObjectLaws(t, f, file)
		}
	}
}

func TestHex(t *testing.T) {
	for text, want := range map[string]string{
		"00ff":  "\x00\xff",
		"00FF":  "\x00\xff",
		" 0a\n": "\n",
		"1234":  "\x124",
		"0aA0":  "",
		"0":     "",
		"":      "",
		"0x00":  "",
	} {
		blob, encode, ok := decodeHex([]byte(text))
		if ok != (want != "" || text == "") || ok &&
			(string(blob) != want || string(encode(blob)) != text) {
			t.Errorf("%q is decoded to %q, %v", text, blob, ok)
		}
		if ok && strings.ContainsAny(text, "F") && string(encode([]byte("\xab"))) != "AB" {
			t.Errorf("%q: another blob is encoded as %q", text, encode([]byte("\xab")))
		}
	}
}
