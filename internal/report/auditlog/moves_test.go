package auditlog

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rotator/internal/rotate"
	"rotator/internal/scan"
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
	if moves.Most = 8; moves.Full() {
		t.Error("8 writes are more than 8")
	}
	if moves.Most = 7; !moves.Full() {
		t.Error("8 writes are not more than 7")
	}
	moves.Add(with(func(r *rotate.Record) { r.At = r.At.Add(-time.Minute) }))
	if !moves.Before() {
		t.Error("a line from before the pass is not reported")
	}
}

// TestMovesAreBounded: the memory for writes is bounded, also if a log contains more of them.
func TestMovesAreBounded(t *testing.T) {
	t.Parallel()
	moves := NewMoves(1, record(10).At, time.Hour)
	moves.Most = 1 << 17
	for n := range int(4 * moves.Most) {
		r := record(10)
		r.Ref = scan.Ref(strconv.Itoa(n))
		moves.Add(r)
		if held := len(moves.writes.list) + len(moves.slots.list); held > int(5*moves.Most) {
			t.Fatalf("%d hashes after %d writes", held, n+1)
		}
	}
	if !moves.Full() || len(moves.writes.list) > 0 {
		t.Errorf("full: %v, with %d hashes", moves.Full(), len(moves.writes.list))
	}
}
