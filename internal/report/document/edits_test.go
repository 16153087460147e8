package document_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"rotator/internal/report/document"
)

// edited returns the sample document as JSON after a change of its members.
func edited(t *testing.T, change func(d object)) []byte {
	t.Helper()
	var d object
	decoder := json.NewDecoder(bytes.NewReader(jsonOf(t, sample())))
	decoder.UseNumber()
	if err := decoder.Decode(&d); err != nil {
		t.Fatal(err)
	}
	change(d)
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// member returns element i of a list of objects.
func member(d object, list string, i int) object {
	return d[list].([]any)[i].(object)
}

type object = map[string]any

// edit changes a document. The error about it must contain want, which names the member.
type edit struct {
	change func(object)
	want   string
}

// edits returns edits by what is wrong after them.
func edits() map[string]edit {
	set := func(list string, i int, name string, value any) func(object) {
		return func(d object) { member(d, list, i)[name] = value }
	}
	const seen = "22,000 ciphertexts in 2 places depends"
	say := func(old, new string) func(object) {
		return func(d object) {
			v := member(d, "verdicts", 0)
			v["sentence"] = strings.Replace(v["sentence"].(string), old, new, 1)
		}
	}
	move := func(from, to int, n int64) func(object) {
		return func(d object) {
			for _, name := range []string{"after", "found"} {
				for i, by := range map[int]int64{from: -n, to: n} {
					h := member(d, "inventory", i)
					before, _ := h[name].(json.Number).Int64()
					h[name] = before + by
				}
			}
		}
	}
	return map[string]edit{
		"no verdict":          {func(d object) { d["verdicts"] = []any{} }, "verdicts: source key"},
		"another key":         {set("verdicts", 0, "key", "arn:x"), "verdicts: source key"},
		"free text":           {set("verdicts", 0, "sentence", "All is well."), "sentence: "},
		"another name":        {say("alias/demo-old", "alias/other"), "verdicts[0].sentence: "},
		"another number":      {say(seen, "1 ciphertext in 2 places depends"), "].sentence: "},
		"another place":       {say("2 places", "3 places"), "verdicts[0].sentence: 3 places"},
		"another time":        {say("as of 2026", "as of 2027"), "which is not in passes"},
		"another pass":        {say("read-only pass 2", "pass 2"), "which is not in passes"},
		"a better code":       {set("verdicts", 0, "code", "disabled-quiet"), "verdicts[0].reason"},
		"an unknown reason":   {set("verdicts", 0, "reason", "because"), "verdicts[0].reason"},
		"a worse code":        {set("verdicts", 0, "code", "cannot"), "verdicts[0].exit"},
		"slots under the key": {move(1, 0, 5), "inventory"},
		"no pass":             {func(d object) { d["passes"] = []any{} }, "timeline"},
		"a wrong pass":        {set("passes", 3, "left", 4), "passes (read-only pass 2): left"},
		"an incomplete pass":  {set("passes", 3, "status", "stopped"), "verdicts[0].code"},
		"another job file":    {set("passes", 3, "other_job", true), "timeline"},
		"a point":             {set("timeline", 1, "under_source", 1), "timeline"},
		"a negative count":    {set("inventory", 0, "before", -1), "inventory[0]: a count"},
		"by header":           {set("inventory", 2, "by_header", 93), "inventory[2].by_header"},
		"a role":              {set("inventory", 2, "role", "destination"), "inventory[2].role"},
		"a target":            {set("inventory", 2, "target", "vault"), "targets[0] (customers)"},
		"an answer":           {set("source_keys", 0, "answer", "no"), "source_keys[0].sentence"},
		"slots of a key":      {set("source_keys", 0, "slots", 3), "source_keys[0].answer"},
		"a key":               {set("keys", 0, "slots", 21849), "slots, keys, reasons and targets"},
	}
}

// TestEditedDocumentsAreRefused: the members of a document determine each other as far as
// possible. Each edit of one of them is refused, and the error names a member.
func TestEditedDocumentsAreRefused(t *testing.T) {
	t.Parallel()
	for name, test := range edits() {
		text := edited(t, test.change)
		_, err := document.Read("report.json", bytes.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the error is %v, want %q", name, err, test.want)
		}
	}
	if _, err := document.Read("f", bytes.NewReader(edited(t, func(object) {}))); err != nil {
		t.Errorf("without an edit: %v", err)
	}
}
