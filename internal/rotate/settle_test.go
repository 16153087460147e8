package rotate

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/reencrypt"
	"rotator/internal/scan"
)

// settleCase is an item that is read again in a retry.
type settleCase struct {
	name     string
	entries  []ciphertext.Slot // the slots of the ledger entries
	slots    []ciphertext.Slot // the current slots
	verdicts []reencrypt.Verdict
	kept     []string // paths that stay in the ledger
	want     checkpoint.SlotCounts
}

func settleCases() []settleCase {
	slot := func(path, blob string) ciphertext.Slot {
		return ciphertext.Slot{Path: path, Blob: []byte(blob)}
	}
	failed := reencrypt.Verdict{Outcome: reencrypt.Failed, Reason: "why"}
	rotated := reencrypt.Verdict{Outcome: reencrypt.Rotated, Key: "old"}
	return []settleCase{
		{
			"one blob in two places",
			[]ciphertext.Slot{slot("a", "same"), slot("b", "same")},
			[]ciphertext.Slot{slot("a", "same"), slot("b", "same")},
			[]reencrypt.Verdict{rotated, failed},
			[]string{"b"},
			checkpoint.SlotCounts{Rotated: 1},
		},
		{
			"one blob in two places, in the other order",
			[]ciphertext.Slot{slot("b", "same"), slot("a", "same")},
			[]ciphertext.Slot{slot("a", "same"), slot("b", "same")},
			[]reencrypt.Verdict{rotated, failed},
			[]string{"b"},
			checkpoint.SlotCounts{Rotated: 1},
		},
		{
			"paths have shifted",
			[]ciphertext.Slot{slot("docs{1}", "one"), slot("docs{2}", "two")},
			[]ciphertext.Slot{slot("docs{0}", "one"), slot("docs{1}", "two")},
			[]reencrypt.Verdict{failed, rotated},
			[]string{"docs{0}"},
			checkpoint.SlotCounts{Rotated: 1},
		},
		{
			"a blob was replaced",
			[]ciphertext.Slot{slot("a", "old"), slot("b", "b")},
			[]ciphertext.Slot{slot("a", "new"), slot("b", "b")},
			[]reencrypt.Verdict{rotated, failed},
			[]string{"b"},
			checkpoint.SlotCounts{Rotated: 1},
		},
		{
			"one slot was removed",
			[]ciphertext.Slot{slot("a", "a"), slot("b", "b")},
			[]ciphertext.Slot{slot("b", "b")},
			[]reencrypt.Verdict{failed},
			[]string{"b"},
			checkpoint.SlotCounts{Gone: 1},
		},
		{
			"an item with two slots that could not be read",
			[]ciphertext.Slot{{}},
			[]ciphertext.Slot{slot("a", "a"), slot("b", "b")},
			[]reencrypt.Verdict{rotated, failed},
			[]string{"b"},
			checkpoint.SlotCounts{Rotated: 1},
		},
	}
}

// TestSettleEntries: after a retry, each slot of an item is matched to one ledger entry, even if
// slots share a blob, paths have shifted or blobs were replaced.
func TestSettleEntries(t *testing.T) {
	failed := reencrypt.Verdict{Outcome: reencrypt.Failed, Reason: "why"}
	for _, test := range settleCases() {
		t.Run(test.name, func(t *testing.T) {
			var entries []checkpoint.LedgerEntry
			for _, s := range test.entries {
				entries = append(entries, entry("target", scan.Ref("item"), s, failed))
			}
			var adjust checkpoint.Counts
			kept := New(Config{Rate: 1}).settleEntries(&adjust, entries,
				&task{slots: test.slots, verdicts: test.verdicts})
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

// TestSettleWithoutRest: if the verdict of a slot does not change, neither do the counts. What was
// decided by a header is subtracted as such.
func TestSettleWithoutRest(t *testing.T) {
	slot := ciphertext.Slot{Path: "a", Blob: []byte("a")}
	for _, v := range []reencrypt.Verdict{
		{Outcome: reencrypt.Foreign, Key: "other", Reason: "other-key", Header: true},
		{Outcome: reencrypt.Foreign, Key: "other", Reason: "other-key"},
		{Outcome: reencrypt.Failed, Key: "old", Reason: reencrypt.ReasonSourceContext},
		{Outcome: reencrypt.Failed, Key: "old", Reason: "unwritable", Header: true},
	} {
		var adjust checkpoint.Counts
		r := New(Config{Rate: 1})
		e := entry("target", scan.Ref("item"), slot, v)
		e.Origin = r.count(&checkpoint.Counts{}, slot, v)
		kept := r.settleEntries(&adjust, []checkpoint.LedgerEntry{e},
			&task{slots: []ciphertext.Slot{slot}, verdicts: []reencrypt.Verdict{v}})
		if len(kept) != 1 || kept[0].ByHeader != v.Header {
			t.Errorf("%+v: the ledger keeps %+v", v, kept)
		}
		if len(adjust.Keys)+len(adjust.Origins)+len(adjust.Reasons) > 0 ||
			adjust.Slots != (checkpoint.SlotCounts{}) {
			t.Errorf("%+v: the counts change by %+v", v, adjust)
		}
	}
}

// manySlots is a format that finds the same slots in every item.
type manySlots []ciphertext.Slot

func (manySlots) Name() string                                                     { return "many" }
func (m manySlots) Find(scan.Item) []ciphertext.Slot                               { return m }
func (manySlots) Guards(scan.Item, []ciphertext.Slot, func(int) bool) []scan.Guard { return nil }

func (manySlots) Splice(item scan.Item, _ [][]byte) (scan.Payload, error) {
	return item.Payload, nil
}

// countingRecorder is a Recorder that counts the records of each path.
type countingRecorder map[string]int

func (p countingRecorder) Intend([]Record) error { return nil }
func (p countingRecorder) Record(records []Record) error {
	for _, r := range records {
		p[r.Path]++
	}
	return nil
}
func (p countingRecorder) Find(string, scan.Ref, string) (Trace, bool) { return Trace{}, false }
func (p countingRecorder) Sync() error                                 { return nil }

// TestAdoptLostWrites: if the response to a write is lost, every slot of the item is recorded
// once, even if slots share a blob. The time is linear in the number of slots.
func TestAdoptLostWrites(t *testing.T) {
	const n = 100_000
	for name, blob := range map[string]func(i int) string{
		"different blobs": func(i int) string { return fmt.Sprint("new ", i) },
		"one blob":        func(int) string { return "new" },
	} {
		t.Run(name, func(t *testing.T) {
			mine := &task{}
			var present manySlots
			for i := range n {
				slot := ciphertext.Slot{Path: fmt.Sprintf("line %d", i), Blob: []byte("old")}
				mine.slots = append(mine.slots, slot)
				mine.verdicts = append(mine.verdicts, reencrypt.Verdict{
					Key:  "old",
					Blob: []byte(blob(i)),
				})
				slot.Blob = []byte(blob(i))
				present = append(present, slot)
			}
			present[n-1].Blob = []byte("of another writer")
			mine.audits = make([]auditMarks, n)
			recorded := countingRecorder{}
			w := &worker{recorder: recorded}
			if err := w.adoptLostWrites(&Target{Format: present}, mine, scan.Item{}); err != nil {
				t.Fatal(err)
			}
			if len(recorded) != n-1 || recorded[present[n-1].Path] != 0 || !mine.written {
				t.Errorf("%d slots are recorded, want all but the last of %d", len(recorded), n)
			}
			for path, times := range recorded {
				if times != 1 {
					t.Fatalf("%s is recorded %d times", path, times)
				}
			}
		})
	}
}
