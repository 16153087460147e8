package checkpoint

import (
	"testing"
	"time"
)

// january returns a day of January.
func january(day int) time.Time { return time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC) }

// one is a pass that begins at a day and has one partition, saved a day later.
type one struct {
	begin, ended int
	rotated      int64
	// retried is the number of slots that a retry moved, at the day of the retry; 0: the record
	// does not have the time.
	retried int64
	at      int
}

// store stores the pass after the pass with the number after.
func (p one) store(t *testing.T, passes *Passes, after int) {
	t.Helper()
	record := newPass(1)
	record.Started = january(p.begin)
	record, err := passes.Begin(t.Context(), after, record)
	if err == nil && p.ended > 0 {
		_, err = passes.Update(t.Context(), record.Number, func(r *Pass) {
			r.Status, r.Ended = Finished, january(p.ended)
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	progress := Progress{Saved: january(p.begin + 1)}
	progress.Counts.Slots.Rotated = p.rotated
	name := progress.addChunk()
	chunk := LedgerChunk{}
	if chunk.Adjust.Slots.Rotated = p.retried; p.at > 0 {
		chunk.Retried = january(p.at)
	}
	id := passes.chunkID(record.Number, 0, 0, name)
	if err := passes.put(t.Context(), id, "ledger", chunk); err != nil {
		t.Fatal(err)
	}
	id = passes.partitionID(record.Number, 0, 0)
	if err := passes.put(t.Context(), id, "progress", progress); err != nil {
		t.Fatal(err)
	}
}

// LastMove is the time of the last pass that moved a ciphertext, or of its last retry.
func TestLastMove(t *testing.T) {
	now := january(30)
	for _, test := range []struct {
		name   string
		passes []one
		want   time.Time
	}{
		{"no pass", nil, time.Time{}},
		{"nothing was moved", []one{{begin: 1, ended: 3}}, time.Time{}},
		{"a pass that ended", []one{{begin: 1, ended: 3, rotated: 5}}, january(3)},
		{"a pass that was stopped", []one{{begin: 1, rotated: 5}}, january(2)},
		{"a later pass without a move",
			[]one{{begin: 1, ended: 3, rotated: 5}, {begin: 5, ended: 7}}, january(3)},
		{"two passes with moves",
			[]one{{begin: 1, ended: 3, rotated: 5}, {begin: 5, ended: 7, rotated: 1}}, january(7)},
		{"a retry after the end",
			[]one{{begin: 1, ended: 3, rotated: 5, retried: 1, at: 9}}, january(9)},
		{"only a retry moved", []one{{begin: 1, ended: 3, retried: 1, at: 9}}, january(9)},
		{"a retry of an earlier version", []one{{begin: 1, ended: 3, retried: 1}}, now},
		{"a retry of an earlier version, before a pass",
			[]one{{begin: 1, ended: 3, retried: 1}, {begin: 12, ended: 13}}, january(12)},
	} {
		passes := NewPasses(NewMemory(), "j")
		for i, p := range test.passes {
			p.store(t, passes, i)
		}
		got, err := passes.LastMove(t.Context(), now)
		if err != nil || !got.Equal(test.want) {
			t.Errorf("%s: %s, %v, want %s", test.name, got, err, test.want)
		}
	}
}

// A retry records its time.
func TestRetryRecordsItsTime(t *testing.T) {
	store := NewMemory()
	passes := someHistory(t, store)
	pass, err := passes.Pass(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for chunk, err := range passes.Ledger(t.Context(), pass) {
		if err != nil {
			t.Fatal(err)
		}
		if !chunk.Retried.IsZero() {
			t.Errorf("before a retry: %s", chunk.Retried)
		}
		before := time.Now()
		if err := passes.ReplaceChunk(t.Context(), chunk); err != nil {
			t.Fatal(err)
		}
		again, err := passes.Reread(t.Context(), chunk)
		if err != nil || again.Retried.Before(before.Add(-time.Second)) {
			t.Errorf("after a retry: %s, %v", again.Retried, err)
		}
		return
	}
	t.Error("the pass has no ledger")
}
