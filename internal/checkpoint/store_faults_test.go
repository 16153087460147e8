package checkpoint

import (
	"bytes"
	"errors"
	"testing"
)

// testLostAnswers: a write that was applied is a success, though the client had
// to send it again and was refused then; a stale one stays refused.
func testLostAnswers(t *testing.T, p place) {
	ctx, s := t.Context(), p.open()
	p.lose(1)
	first, err := s.Create(ctx, "n", []byte("one"))
	if err != nil {
		t.Fatalf("Create with its answer lost: %v", err)
	}
	p.lose(2)
	second, err := s.Replace(ctx, first, []byte("two"))
	if err != nil {
		t.Fatalf("Replace with its answers lost: %v", err)
	}
	p.lose(1)
	if _, err := s.Replace(ctx, first, []byte("late")); !errors.Is(err, ErrConflict) {
		t.Errorf("stale Replace with its answer lost: %v, want ErrConflict", err)
	}
	p.lose(1)
	if _, err := p.open().Create(ctx, "n", []byte("again")); !errors.Is(err, ErrConflict) {
		t.Errorf("Create of what exists, with its answer lost: %v, want ErrConflict", err)
	}
	if _, err := s.Replace(ctx, second, []byte("three")); err != nil {
		t.Errorf("Replace of what the lost answer would have been: %v", err)
	}
	e, err := p.open().Fetch(ctx, "n")
	if err != nil || string(e.Data) != "three" {
		t.Errorf("in the end it is %q, %v", e.Data, err)
	}
}

// testDamage: what cannot be read is not absent, and can be replaced, once.
func testDamage(t *testing.T, p place) {
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
	if e, err := s.Fetch(t.Context(), "n"); err != nil || string(e.Data) != "three" || e.version != again.version {
		t.Errorf("in the end it is %q, %v", e.Data, err)
	}
}

// testCutAnswers: an answer that breaks off in the middle is asked for again, by a
// read and by a write that looks for what became of it.
func testCutAnswers(t *testing.T, p place) {
	ctx, s := t.Context(), p.open()
	want := bytes.Repeat([]byte("one "), 25_000)
	first, err := s.Create(ctx, "n", want)
	if err != nil {
		t.Fatal(err)
	}
	p.cut(3)
	if e, err := s.Fetch(ctx, "n"); err != nil || !bytes.Equal(e.Data, want) {
		t.Errorf("Fetch with answers cut: %d bytes, %v", len(e.Data), err)
	}
	p.lose(1)
	p.cut(2)
	if _, err := s.Replace(ctx, first, []byte("two")); err != nil {
		t.Errorf("Replace with its answer lost, and reads cut: %v", err)
	}
}

// testUnknownOutcome: a write that was applied, whose answer was lost, and of which
// no trace can be looked for, is neither done nor refused.
func testUnknownOutcome(t *testing.T, p place) {
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
		if err := write(); err == nil || errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) {
			t.Errorf("%s, with its answer lost and no reads: %v, want an error that decides nothing", id, err)
		}
		p.blind(false)
		if now, err := s.Fetch(ctx, id); err != nil || string(now.Data) != "new" {
			t.Errorf("%s: stored is %q, %v", id, now.Data, err)
		}
	}
}
