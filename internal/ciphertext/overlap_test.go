package ciphertext

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/scan"
)

// slotsAt returns slots of one format, each with a different context.
func slotsAt(format string, paths ...string) (specs []SlotSpec) {
	for i, path := range paths {
		specs = append(specs, SlotSpec{Path: path, Format: format,
			Context: map[string]string{"rule": fmt.Sprint(i)}})
	}
	return specs
}

// brief returns the path of each slot and its reason, or "moves".
func brief(slots []Slot) (list []string) {
	for _, s := range slots {
		reason := "moves"
		if s.Refused != nil {
			reason = s.Refused.Reason
		}
		list = append(list, s.Path+" "+reason)
	}
	return list
}

// sharedSlotsCase is paths that match the same value.
type sharedSlotsCase struct {
	paths []string
	want  []string // in a row and in a document
	rows  bool     // in a row only
}

func sharedSlotsCases() []sharedSlotsCase {
	return []sharedSlotsCase{
		{[]string{"l[*]", "l[0]"}, []string{"l[0] ambiguous", "l[1] moves"}, false},
		{[]string{"l[1]", "l[*]"}, []string{"l[1] ambiguous", "l[0] moves"}, false},
		{[]string{"m.*", "m.x"}, []string{"m.x ambiguous", "m.y moves"}, false},
		{[]string{`m["x"]`, "m.*"}, []string{"m.x ambiguous", "m.y moves"}, false},
		{[]string{"*.x", "m.*", "m.y"},
			[]string{"m.x ambiguous", "n.x wrong-type", "m.y ambiguous"}, false},
		{[]string{"n.*", "n.x"}, []string{"n.x ambiguous", "n.y wrong-type"}, false},
		{[]string{"null.*", "null.x"}, nil, false},
		{[]string{"sets.*", "sets.x"}, []string{"sets.x{0} ambiguous", "sets.x{1} ambiguous",
			"sets.y{0} moves", "sets.y{1} moves"}, true},
	}
}

// TestSharedSlots: a value that several rules match is one refused slot, in rows, documents and
// lines, however the paths are written. All other values can be moved.
func TestSharedSlots(t *testing.T) {
	member := func(v scan.Value) scan.Value {
		return scan.Value{Kind: scan.KindM, Map: map[string]scan.Value{"x": v, "y": v}}
	}
	list := scan.Value{Kind: scan.KindL, List: []scan.Value{text(std64("A")), text(std64("B"))}}
	set := scan.Value{Kind: scan.KindSS, Texts: []string{std64("C"), std64("D")}}
	item := row(map[string]scan.Value{"l": list, "m": member(text(std64("E"))), "sets": member(set),
		"n":    member(scan.Value{Kind: scan.KindN, Text: "1"}),
		"null": member(scan.Value{Kind: scan.KindNull})})
	document := `{"l":["` + std64("A") + `","` + std64("B") + `"],"m":{"x":"` + std64("E") +
		`","y":"` + std64("E") + `"},"n":{"x":1,"y":1},"null":{"x":null}}`
	for _, test := range sharedSlotsCases() {
		t.Run(strings.Join(test.paths, " "), func(t *testing.T) {
			for _, c := range []struct {
				spec   Spec
				item   scan.Item
				prefix string
			}{
				{Spec{Format: "base64", Kind: Rows}, item, ""},
				{Spec{Format: "json", Kind: Objects}, object("key", document, nil), ""},
				{Spec{Format: "jsonl", Kind: Files}, object("key", document+"\n", nil), "line 1: "},
			} {
				if test.rows && c.spec.Kind != Rows {
					continue
				}
				if !test.rows && c.spec.Kind == Rows && strings.HasPrefix(test.paths[0], "*") {
					continue // the row has more attributes with an x
				}
				c.spec.Slots = slotsAt("base64", test.paths...)
				compiled := compile(t, c.spec)
				found := compiled.Find(c.item)
				var want []string
				for _, s := range test.want {
					want = append(want, c.prefix+s)
				}
				if diff := cmp.Diff(want, brief(found)); diff != "" {
					t.Fatalf("%s (-want +got):\n%s", c.spec.Format, diff)
				}
				checkMoves(t, c.spec.Format, compiled, c.item, found)
			}
		})
	}
}

// checkMoves splices new blobs into all slots that are not refused.
func checkMoves(t *testing.T, format string, compiled *Compiled, item scan.Item, found []Slot) {
	t.Helper()
	blobs := make([][]byte, len(found))
	for i, s := range found {
		if s.Refused == nil {
			blobs[i] = []byte("new")
		}
	}
	payload, err := compiled.Splice(item, blobs)
	if err != nil {
		t.Fatalf("%s: %v", format, err)
	}
	now := compiled.Find(scan.Item{Payload: payload})
	for i, s := range now {
		moved, refused := found[i].Refused == nil, s.Refused != nil
		if moved && string(s.Blob) != "new" || !moved && !refused {
			t.Errorf("%s: %s is %q after the splice", format, s.Path, s.Blob)
		}
	}
}

// TestOverlapsInTheJobFile: overlaps that do not depend on items are refused
// before anything is read.
func TestOverlapsInTheJobFile(t *testing.T) {
	from := func(reference string) map[string]string { return map[string]string{"c": reference} }
	for _, spec := range []Spec{{Format: "base64", Kind: Rows}, {Format: "json", Kind: Objects}} {
		a, element := "${a}", "${l[2].k}"
		if spec.Kind == Objects {
			a, element = "${body.a}", "${body.l[2].k}"
		}
		for want, slots := range map[string][]SlotSpec{
			"slots[1].path: slots[0] has the same path": slotsAt("base64", "a.b", `a["b"]`),
			"slots[2].path: slots[0] has the same path": slotsAt("base64", "l[*]", "x", "l[*]"),
			"slots[1].context: c: " + a + " is the value of slots[0]": {
				{Path: "a"}, {Path: "b", Context: from(a)}},
			"slots[0].destination_context: c: " + element + " is the value of slots[0]": {
				{Path: "l[*].k", DestinationContext: from(element)}},
		} {
			spec.Slots = slots
			if _, err := Compile(spec); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", spec.Format, err, want)
			}
		}
	}
}

// TestContextsOfWrittenAttributes: a format that finds its slots itself accepts no context, and no
// name for a context file, from an attribute that it replaces.
func TestContextsOfWrittenAttributes(t *testing.T) {
	from := func(name, reference string) map[string]string {
		return map[string]string{name: reference}
	}
	for want, spec := range map[string]Spec{
		"context: ${key}": {Format: formatCredstash, Context: from("c", "${key}")},
		"destination_context: ${key}": {Format: formatCredsmash, Context: from("c", "${name}"),
			DestinationContext: from("c", "v${key}")},
		"context_file.name: ${key}": {Format: formatCredstash,
			ContextFile: &ContextFile{File: "f", Name: "${name}/${key}"}},
		"context: ${kms-arn}": {Format: formatBranchKeystore,
			Context: from(branchKeyStore, "${kms-arn}")},
		`context: ${["` + descriptionAttribute + `"]}`: {Format: formatDDBEncryption,
			Context: from(contextTable, `${["`+descriptionAttribute+`"]}`)},
	} {
		spec.Kind = Rows
		if _, err := Compile(spec); err == nil ||
			!strings.Contains(err.Error(), want+": format "+spec.Format) {
			t.Errorf("%s: %v, want %s", spec.Format, err, want)
		}
	}
}

// TestSharedMatches: a text that several patterns match is one refused slot.
func TestSharedMatches(t *testing.T) {
	body := "A=" + std64("abc") + " B=" + std64("xyz") + "\n"
	compiled := compile(t, Spec{Format: "text", Kind: Objects, Slots: []SlotSpec{
		{Pattern: `A=(\S+)`}, {Pattern: `(?m)^\S=(\S+)`}, {Pattern: `B=(\S+)`}}})
	found := compiled.Find(object("key", body, nil))
	want := []string{"slots[0], match 1 ambiguous", "slots[2], match 1 moves"}
	if diff := cmp.Diff(want, brief(found)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
