package auditlog

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rotator/internal/rotate"
)

// TestMoves: writes and slots of one pass are counted once, however often and in whichever form
// their lines are read. Members of lists are counted by their writes.
func TestMoves(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("p", 4096)
	base := record(10)
	base.Before, base.After = strings.Repeat("0", hashLength), strings.Repeat("1", hashLength)
	with := func(change func(r *rotate.Record)) rotate.Record {
		r := base
		change(&r)
		return r
	}
	records := []rotate.Record{
		base,
		with(func(r *rotate.Record) { r.After = strings.Repeat("2", hashLength) }), // again
		with(func(r *rotate.Record) { r.Path = `a "quoted" path` }),
		with(func(r *rotate.Record) { r.Ref = "other" }),
		with(func(r *rotate.Record) { r.Path = "ids{0}" }),
		with(func(r *rotate.Record) { r.Path, r.Before = "ids{0}", strings.Repeat("3", 64) }),
		with(func(r *rotate.Record) { r.Path = long }),
		with(func(r *rotate.Record) { r.Path, r.After = long, strings.Repeat("4", 64) }),
		with(func(r *rotate.Record) { r.Pass = 11 }),                        // another pass
		with(func(r *rotate.Record) { r.Ref, r.At = "older", time.Time{} }), // a deleted checkpoint
	}
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := Open(path, "job")
	if err != nil {
		t.Fatal(err)
	}
	half := len(records) / 2
	err = errors.Join(log.Intend(records), log.Record(records[:half]), log.CloseSegment(),
		log.Record(records[half:]), log.Sync(), log.Close())
	if err != nil {
		t.Fatal(err)
	}
	moves := NewMoves(1, base.At, time.Hour)
	segments, err := Segments(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, here := moves.Measure(path)
		_, uploaded := moves.MeasureSegments(segments)
		if err := errors.Join(here, uploaded); err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			moves.Add(r)
		}
	}
	if moves.Writes() != 8 || moves.Slots() != 7 || moves.Before() {
		t.Errorf("%d writes of %d slots, older lines %v; want 8 of 7", moves.Writes(),
			moves.Slots(), moves.Before())
	}
	moves.Add(with(func(r *rotate.Record) { r.At = r.At.Add(-time.Minute) }))
	if !moves.Before() {
		t.Error("a line from before the pass is not reported")
	}
}
