package ciphertext

import (
	"maps"
	"slices"
	"testing"

	"rotator/internal/contentdigest"
	"rotator/internal/scan"
)

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// masked returns the content digest of an item.
func masked(f Format, item scan.Item) contentdigest.Digest {
	return contentdigest.Item(item.Ref, Mask(f, item, f.Find(item)), nil)
}

// checkMask checks that a move does not change the mask of an item. payload is its content after
// the move.
func checkMask(t fataler, f Format, before scan.Item, payload scan.Payload) {
	t.Helper()
	after := scan.Item{Ref: before.Ref, Payload: payload}
	if masked(f, before) != masked(f, after) {
		t.Fatalf("the masks of an item before and after a move differ:\n%+v\n%+v",
			Mask(f, before, f.Find(before)), Mask(f, after, f.Find(after)))
	}
}

// TestMaskOfRow: the mask of a row depends on each of its attributes, but not on its slots, nor on
// the order of the members of a set.
func TestMaskOfRow(t *testing.T) {
	f := compile(t, Spec{Format: formatRaw, Kind: Rows, Slots: []SlotSpec{
		{Path: "ssn"}, {Path: "set"}, {Path: "texts", Format: formatBase64},
		{Path: "doc.list[*].key"}, {Path: "n"},
	}})
	item := findRow()
	want := masked(f, item)
	found := f.Find(item)
	fresh := make([][]byte, len(found))
	for i, s := range found {
		if s.Refused == nil {
			fresh[i] = goldenBlob("new", i)
		}
	}
	payload, err := f.Splice(item, fresh)
	if err != nil {
		t.Fatal(err)
	}
	moved := payload.(*scan.Row).Attributes
	slices.Reverse(moved["set"].ByteSet)
	slices.Reverse(moved["texts"].Texts)
	if got := masked(f, row(moved)); got != want {
		t.Error("a move changed the mask")
	}
	for name := range moved {
		changed := maps.Clone(moved)
		switch name {
		case "ssn", "set": // slots and nothing else
			changed["another"] = changed[name]
		default:
			delete(changed, name)
		}
		if masked(f, row(changed)) == want {
			t.Errorf("a change of %s does not change the mask", name)
		}
	}
}

// TestMaskKeepsRefused: a value that no pass can move is part of the mask.
func TestMaskKeepsRefused(t *testing.T) {
	f := compile(t, Spec{Format: formatRaw, Kind: Rows, Slots: []SlotSpec{{Path: "ssn"}}})
	a := row(map[string]scan.Value{"ssn": text("not binary")})
	b := row(map[string]scan.Value{"ssn": text("not binary, changed")})
	if masked(f, a) == masked(f, b) {
		t.Error("a change of a refused slot does not change the mask")
	}
}
