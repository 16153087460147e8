package checkpoint

import (
	"bytes"
	"errors"
	"testing"
)

// testLostResponses: a write whose response was lost succeeds, although the condition of the
// repeated request fails. A write of an old version still fails.
func testLostResponses(t *testing.T, p testStore) {
	ctx, s := t.Context(), p.open()
	p.lose(1)
	first, err := s.Create(ctx, "n", []byte("one"))
	if err != nil {
		t.Fatalf("Create with a lost response: %v", err)
	}
	p.lose(2)
	second, err := s.Replace(ctx, first, []byte("two"))
	if err != nil {
		t.Fatalf("Replace with lost responses: %v", err)
	}
	p.lose(1)
	if _, err := s.Replace(ctx, first, []byte("late")); !errors.Is(err, ErrConflict) {
		t.Errorf("Replace of an old version with a lost response: %v, want ErrConflict", err)
	}
	p.lose(1)
	if _, err := p.open().Create(ctx, "n", []byte("again")); !errors.Is(err, ErrConflict) {
		t.Errorf("Create of an existing record with a lost response: %v, want ErrConflict", err)
	}
	if _, err := s.Replace(ctx, second, []byte("three")); err != nil {
		t.Errorf("Replace of the entry whose response was lost: %v", err)
	}
	e, err := p.open().Fetch(ctx, "n")
	if err != nil || string(e.Data) != "three" {
		t.Errorf("the record is %q, %v, want \"three\"", e.Data, err)
	}
}

// testDamage: a damaged record is not absent, and it can be replaced once.
func testDamage(t *testing.T, p testStore) {
	s := p.open()
	if _, err := s.Create(t.Context(), "n", []byte("one")); err != nil {
		t.Fatal(err)
	}
	p.damage("n")
	var corrupt *CorruptError
	if _, err := s.Fetch(t.Context(), "n"); !errors.As(err, &corrupt) {
		t.Errorf("Fetch of a damaged record: %v, want *CorruptError", err)
	}
	if _, err := s.Create(t.Context(), "n", []byte("two")); !errors.Is(err, ErrConflict) {
		t.Errorf("Create over a damaged record: %v, want ErrConflict", err)
	}
	damaged, _ := s.Fetch(t.Context(), "n")
	again, err := s.Replace(t.Context(), damaged, []byte("three"))
	if err != nil || !damaged.Exists() || len(damaged.Data) == 0 {
		t.Errorf("Replace of a damaged record, %+v: %v", damaged, err)
	}
	if _, err := s.Replace(t.Context(), damaged, []byte("late")); !errors.Is(err, ErrConflict) {
		t.Errorf("Replace of a damaged record that was replaced: %v, want ErrConflict", err)
	}
	if e, err := s.Fetch(t.Context(), "n"); err != nil || string(e.Data) != "three" ||
		e.version != again.version {
		t.Errorf("the record is %q, %v, want \"three\"", e.Data, err)
	}
}

// testTruncatedResponses: a read whose response was truncated is repeated, also if it is the read
// that determines the outcome of a write.
func testTruncatedResponses(t *testing.T, p testStore) {
	ctx, s := t.Context(), p.open()
	want := bytes.Repeat([]byte("one "), 25_000)
	first, err := s.Create(ctx, "n", want)
	if err != nil {
		t.Fatal(err)
	}
	p.cut(3)
	if e, err := s.Fetch(ctx, "n"); err != nil || !bytes.Equal(e.Data, want) {
		t.Errorf("Fetch with truncated responses: %d bytes, %v", len(e.Data), err)
	}
	p.lose(1)
	p.cut(2)
	if _, err := s.Replace(ctx, first, []byte("two")); err != nil {
		t.Errorf("Replace with a lost response and truncated reads: %v", err)
	}
}

// testUnknownOutcome: if the response to a write is lost and reads fail, the error leaves the
// outcome of the write open. If the refusal of the repeated write contains the record, the outcome
// is known without a read.
func testUnknownOutcome(t *testing.T, p testStore) {
	ctx, s := t.Context(), p.open()
	write := map[string]func() error{
		"created":  func() error { _, err := s.Create(ctx, "created", []byte("new")); return err },
		"replaced": nil,
	}
	e, err := s.Create(ctx, "replaced", []byte("old"))
	if err != nil {
		t.Fatal(err)
	}
	write["replaced"] = func() error { _, err := s.Replace(ctx, e, []byte("new")); return err }
	for id, write := range write {
		p.blind(true)
		p.lose(1)
		err := write()
		if p.refusesWithRecord {
			if err != nil {
				t.Errorf("%s, with a lost response and no reads: %v, want success", id, err)
			}
		} else if err == nil || errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) {
			t.Errorf("%s, with a lost response and no reads: %v, want an error other than "+
				"ErrConflict and ErrNotFound", id, err)
		}
		p.blind(false)
		if now, err := s.Fetch(ctx, id); err != nil || string(now.Data) != "new" {
			t.Errorf("%s is %q, %v, want \"new\"", id, now.Data, err)
		}
	}
}
