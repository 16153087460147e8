package rotate

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/scan"
)

// TestSettleEntries: after a retry each slot of an item stands for one entry of the
// ledger, also where slots share a blob, paths have shifted or blobs were replaced.
func TestSettleEntries(t *testing.T) {
	slot := func(path, blob string) ciphertext.Slot { return ciphertext.Slot{Path: path, Blob: []byte(blob)} }
	failed, rotated := verdict{outcome: Failed, reason: "why"}, verdict{outcome: Rotated, key: "old"}
	for _, test := range []struct {
		name     string
		entries  []ciphertext.Slot // as they were
		slots    []ciphertext.Slot // as they are now
		verdicts []verdict
		kept     []string // paths that stay in the ledger
		want     checkpoint.SlotCounts
	}{
		{"one blob in two places", []ciphertext.Slot{slot("a", "same"), slot("b", "same")}, []ciphertext.Slot{slot("a", "same"), slot("b", "same")},
			[]verdict{rotated, failed}, []string{"b"}, checkpoint.SlotCounts{Rotated: 1}},
		{"and the other way round", []ciphertext.Slot{slot("b", "same"), slot("a", "same")}, []ciphertext.Slot{slot("a", "same"), slot("b", "same")},
			[]verdict{rotated, failed}, []string{"b"}, checkpoint.SlotCounts{Rotated: 1}},
		{"paths have shifted", []ciphertext.Slot{slot("docs{1}", "one"), slot("docs{2}", "two")}, []ciphertext.Slot{slot("docs{0}", "one"), slot("docs{1}", "two")},
			[]verdict{failed, rotated}, []string{"docs{0}"}, checkpoint.SlotCounts{Rotated: 1}},
		{"a blob was replaced", []ciphertext.Slot{slot("a", "old"), slot("b", "b")}, []ciphertext.Slot{slot("a", "new"), slot("b", "b")},
			[]verdict{rotated, failed}, []string{"b"}, checkpoint.SlotCounts{Rotated: 1}},
		{"one was taken away", []ciphertext.Slot{slot("a", "a"), slot("b", "b")}, []ciphertext.Slot{slot("b", "b")},
			[]verdict{failed}, []string{"b"}, checkpoint.SlotCounts{Gone: 1}},
		{"the item could not be read, and has two", []ciphertext.Slot{{}}, []ciphertext.Slot{slot("a", "a"), slot("b", "b")},
			[]verdict{rotated, failed}, []string{"b"}, checkpoint.SlotCounts{Rotated: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var entries []checkpoint.LedgerEntry
			for _, s := range test.entries {
				entries = append(entries, entry("target", scan.Ref("item"), s, failed))
			}
			var adjust checkpoint.Counts
			kept := settleEntries(&adjust, entries, &task{slots: test.slots, verdicts: test.verdicts})
			var paths []string
			for _, e := range kept {
				paths = append(paths, e.Path)
			}
			if diff := cmp.Diff(test.kept, paths); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
			want := test.want
			want.Failed = int64(len(test.kept) - len(test.entries))
			want.Seen = want.Failed + want.Rotated + want.Gone
			if adjust.Slots != want {
				t.Errorf("the counts change by %+v, want %+v", adjust.Slots, want)
			}
		})
	}
}
