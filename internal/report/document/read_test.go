package document_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"rotator/internal/report/document"
)

// TestRefused: a saved document that is truncated, is not a report, is newer, or has figures that
// contradict each other is refused, and the error states what is wrong and where.
func TestRefused(t *testing.T) {
	t.Parallel()
	good := string(jsonOf(t, sample()))
	replace := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the document has no %s", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "the file is empty"},
		{"cut", good[:len(good)/2], "it is truncated: the JSON ends at byte "},
		{"cut by one byte", strings.TrimSpace(good)[:len(strings.TrimSpace(good))-1],
			"it is truncated"},
		{"two values", good + "{}", "it is not JSON: at byte "},
		{"not JSON", "rotator", "it is not JSON: at byte 1"},
		{"a list", "[]", "it is not a JSON object"},
		{"no kind", "{}", "it has no member kind"},
		{"another kind", replace(`"kind": "rotator.report"`, `"kind": "x"`), `its kind is "x"`},
		{"newer", replace(`"schema": "1.1"`, `"schema": "2.0"`),
			"it was made by a newer rotator: its schema is 2.0, and this rotator reads 1.x"},
		{"no version", replace(`"schema": "1.1"`, `"schema": "one"`), "is not MAJOR.MINOR"},
		{"another type", replace(`"converged": false`, `"converged": "no"`),
			"converged is a JSON string"},
		{"a wrong sum", replace(`"seen": 22000`, `"seen": 22001`),
			"22001 slots were seen, but the outcomes have the sum 22000"},
		{"a wrong exception", replace(`"left_out": 130`, `"left_out": 131`),
			"exceptions: 150, but listed and left out: 151"},
		{"a wrong inventory", replace(`"after": 19861`, `"after": 19862`),
			"slots in the inventory: 22001, but slots that were seen: 22000"},
		{"a wrong verdict", replace(`"exit": 0`, `"exit": 4`), "verdicts[0].exit: 4"},
		{"no list", replace(`"passes": [`, `"passed": [`), "a list is missing"},
	} {
		_, err := document.Read("report.json", strings.NewReader(test.text))
		var refused *document.ReadError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), test.want) ||
			!strings.HasPrefix(err.Error(), "report.json: ") {
			t.Errorf("%s: the error is %v, want %q", test.name, err, test.want)
		}
	}
	later := replace(`"schema": "1.1"`, `"schema": "1.7", "future": {"a": [1]}`)
	if _, err := document.Read("report.json", strings.NewReader(later)); err != nil {
		t.Errorf("a later minor version is refused: %v", err)
	}
}

// FuzzRead: no input makes Read panic, and what it accepts can be written and read again.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"kind":"rotator.report","schema":"1.0"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := document.Read("f", bytes.NewReader(text))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := d.JSON(&b); err != nil {
			t.Fatal(err)
		}
		if _, err := document.Read("f", &b); err != nil {
			t.Errorf("cannot be read again: %v", err)
		}
	})
}

// TestSchema: documents are valid, and a document without a required member is not.
func TestSchema(t *testing.T) {
	t.Parallel()
	text, err := document.JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("report.json", parsed); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("report.json")
	if err != nil {
		t.Fatal(err)
	}
	passes := history()
	bare := document.New(passes[0].Summary, document.Input{Now: at("2026-11-29T11:40:00Z")})
	for name, d := range map[string]*document.Document{"full": sample(), "bare": bare} {
		if err := schema.Validate(valueOf(t, jsonOf(t, d))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	whole := valueOf(t, jsonOf(t, sample())).(map[string]any)
	for _, member := range []string{"schema", "kind", "generated", "job", "slots", "verdicts",
		"inventory", "passes", "exceptions", "scope", "timeline", "logs", "copies"} {
		kept := whole[member]
		delete(whole, member)
		if schema.Validate(whole) == nil {
			t.Errorf("a document without %s is valid", member)
		}
		whole[member] = kept
	}
}

func valueOf(t *testing.T, text []byte) (value any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		t.Fatal(err)
	}
	return value
}
