package ciphertext

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/scan"
)

// guardsHold reports whether a row satisfies the guards.
func guardsHold(attributes map[string]scan.Value, guards []scan.Guard) bool {
	for _, g := range guards {
		v, ok := scan.Value{Kind: scan.KindM, Map: attributes}, true
		for _, s := range g.Path {
			switch {
			case s.Element && s.Index < len(v.List):
				v = v.List[s.Index]
			case !s.Element:
				v, ok = v.Map[s.Name]
			default:
				ok = false
			}
		}
		if ok == (g.State == scan.Absent) || g.State == scan.Equal && !cmp.Equal(v, g.Value) {
			return false
		}
	}
	return true
}

func every(int) bool { return true }

// edits returns versions of a row without one attribute, and with other values for it.
func edits(attributes map[string]scan.Value, name string) (edited []map[string]scan.Value) {
	without, other := maps.Clone(attributes), maps.Clone(attributes)
	delete(without, name)
	v := attributes[name]
	switch v.Kind {
	case scan.KindB:
		v.Bytes = append(slices.Clone(v.Bytes), 'x')
	case scan.KindN:
		v.Text += "1"
	default:
		v = text(v.Text + "x")
	}
	other[name] = v
	return append(edited, without, other)
}

// TestRowGuards: if any attribute of a row is edited, added or removed, either
// the slot and its contexts stay the same, or the guards no longer hold. The
// guards hold if nothing that the format reads has changed.
func TestRowGuards(t *testing.T) {
	for format, writes := range rowFormats() {
		for _, v := range loadRowVectors(t, format).Rows {
			if v.Slot == nil || v.Slot.Refused != "" {
				continue
			}
			compiled := bind(t, v.spec(format), Keys{Destination: vectorKey})
			item := v.item()
			found := compiled.Find(projected(compiled, item))
			guards := compiled.Guards(item, found, every)
			row := item.Payload.(*scan.Row).Attributes
			if !guardsHold(row, guards) {
				t.Fatalf("%s, %s: the guards do not hold for the unchanged row", format, v.About)
			}
			names := append(slices.Collect(maps.Keys(row)), compiled.Attributes()...)
			if compiled.Whole() {
				names = append(names, "tablename") // see newBranchKeystore about other additions
			} else {
				names = append(names, "hmac")
			}
			for _, name := range names {
				if slices.Contains(writes, name) { // the write itself compares the attribute
					continue
				}
				for _, edited := range edits(row, name) {
					now := item
					now.Payload = &scan.Row{Attributes: edited}
					same := cmp.Equal(compiled.Find(projected(compiled, now)), found)
					if held := guardsHold(edited, guards); held && !same {
						t.Errorf("%s, %s: attribute %s was edited, but the guards hold", format,
							v.About, name)
					} else if !held && name == "hmac" && !compiled.Whole() {
						t.Errorf("%s, %s: a guard is on %s, which the format does not read", format,
							v.About, name)
					}
				}
			}
		}
	}
}

// TestGuardsOfReferences: a context with references has guards on the referenced attributes, only
// for rules of slots that move.
func TestGuardsOfReferences(t *testing.T) {
	compiled := compile(t, Spec{Format: "raw", Kind: Rows, Slots: []SlotSpec{
		{Path: "a", Context: map[string]string{"c": "x"},
			DestinationContext: map[string]string{"c": "${m.l[1]}", "d": "${n}"}},
		{Path: "b", Context: map[string]string{"c": "${m.other}"}},
	}})
	list := scan.Value{Kind: scan.KindL, List: []scan.Value{text("0"), text("1")}}
	item := row(map[string]scan.Value{
		"a": blob("A"),
		"b": blob("B"),
		"n": {Kind: scan.KindN, Text: "5"},
		"m": {Kind: scan.KindM, Map: map[string]scan.Value{"l": list, "other": text("o")}},
	})
	guard := func(v scan.Value, steps ...scan.Step) scan.Guard {
		return scan.Guard{Path: steps, Value: v}
	}
	want := []scan.Guard{
		guard(text("1"), scan.Step{Name: "m"}, scan.Step{Name: "l"},
			scan.Step{Index: 1, Element: true}),
		guard(scan.Value{Kind: scan.KindN, Text: "5"}, scan.Step{Name: "n"}),
	}
	got := compiled.Guards(item, compiled.Find(item), func(i int) bool { return i == 0 })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("guards (-want +got):\n%s", diff)
	}
}

// TestGuardsOfObjects: if the context of a slot in a body uses a metadata entry, there is a guard
// on that entry, whether it exists or not. A slot whose context comes from the body needs no guard.
func TestGuardsOfObjects(t *testing.T) {
	spec := func(context string) Spec {
		return Spec{Format: "json", Kind: Objects, Slots: []SlotSpec{
			{Path: "secret", Context: map[string]string{"c": context}}}}
	}
	body := `{"secret":"` + std64("blob") + `","region":"r"}`
	item := object("key", body, map[string]string{"tenant": "t"})
	contexts := map[string]int{"${metadata.Tenant}": 1, "${body.region}": 0, "${key}": 0}
	for context, want := range contexts {
		compiled := compile(t, spec(context))
		guards := compiled.Guards(item, compiled.Find(item), every)
		if len(guards) != want {
			t.Errorf("%s: guards %v, want %d", context, guards, want)
		}
		if want == 1 && (guards[0].Path[0].Name != "tenant" || guards[0].Value.Text != "t") {
			t.Errorf("%s: guard %v", context, guards[0])
		}
	}
}
