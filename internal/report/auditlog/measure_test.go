package auditlog

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"testing"
)

// closedSession returns a log whose lines are all in closed segments, at least n, and the numbers
// of the last lines of its segments.
func closedSession(t *testing.T, n int64) (s *session, segments []ClosedSegment, ends []int64) {
	t.Helper()
	s = &session{path: filepath.Join(fastDir(t), "job.audit.jsonl")}
	s.reopen(t)
	s.log.Closed = func() { ends = append(ends, s.log.written.seq) }
	for int64(len(ends)) < n {
		if err := errors.Join(s.add(eventIntent, 2), s.add(eventRotated, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time there is nothing to close
		if err := errors.Join(s.log.CloseSegment(), s.log.Unclosed()); err != nil {
			t.Fatal(err)
		}
	}
	segments, err := Segments(s.path)
	if err != nil || len(segments) != len(ends) {
		t.Fatalf("%d segments, %v, want %d", len(segments), err, len(ends))
	}
	return s, segments, ends
}

// TestCloseSegment: a log whose segments are closed at any time is one chain, and is continued.
func TestCloseSegment(t *testing.T) {
	t.Parallel()
	s, segments, _ := closedSession(t, 2)
	id := s.log.ID()
	s.check(t, "closed")
	for range 3 {
		if err := errors.Join(s.add(eventRotated, 1), s.log.CloseSegment()); err != nil {
			t.Fatal(err)
		}
	}
	if more, err := Segments(s.path); err != nil || len(more) != len(segments)+3 {
		t.Errorf("%d segments, %v", len(more), err)
	}
	if err := s.log.Close(); err != nil {
		t.Fatal(err)
	}
	s.reopen(t)
	s.check(t, "reopened")
	if s.log.ID() != id || IDOf(s.path) != id || len(id) != idLength {
		t.Errorf("the id is %q, and %q in the file, want %q", s.log.ID(), IDOf(s.path), id)
	}
	if err := s.add(eventIntent, 2); err != nil {
		t.Fatal(err)
	}
	s.check(t, "continued")
}

// TestSegmentThatCannotBeClosed: CloseSegment keeps the segment open, and lines can be added.
func TestSegmentThatCannotBeClosed(t *testing.T) {
	t.Parallel()
	s, segments, _ := closedSession(t, 1)
	if err := s.add(eventIntent, 1); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left on device")
	s.log.fault = func(string) error { return full }
	if err := s.log.CloseSegment(); err != nil || !errors.Is(s.log.Unclosed(), full) {
		t.Errorf("CloseSegment: %v, Unclosed: %v", err, s.log.Unclosed())
	}
	if now, err := Segments(s.path); err != nil || len(now) != len(segments) {
		t.Errorf("%d segments, %v", len(now), err)
	}
	s.log.fault = nil
	if err := errors.Join(s.add(eventRotated, 1), s.log.CloseSegment()); err != nil {
		t.Error(err)
	}
	s.check(t, "in the end")
}

// TestMeasureSegments: the lines of missing segments are a gap, and all other lines are known. The
// order, the hashes and the chain of segments are verified.
func TestMeasureSegments(t *testing.T) {
	t.Parallel()
	s, all, ends := closedSession(t, 4)
	for missing := range all {
		before := int64(0)
		if missing > 0 {
			before = ends[missing-1]
		}
		rest := slices.Delete(slices.Clone(all), missing, missing+1)
		e, err := MeasureSegments(rest, s.mark)
		if err != nil {
			t.Fatal(err)
		}
		want := []Gap{{int64(missing) + 1, before + 1, ends[missing]}}
		last := missing == len(all)-1 // what is missing at the end is not known
		if last {
			want = nil
		}
		if !slices.Equal(e.Gaps, want) || e.Holds(s.mark) == last ||
			(e.ID == s.log.ID()) != (missing > 0) {
			t.Errorf("without segment %d: %+v, want %+v", missing+1, e, want)
		}
	}
	for name, wrong := range map[string][]ClosedSegment{
		"twice":       {all[0], all[1], all[1]},
		"backwards":   {all[1], all[0]},
		"other names": {all[0], {Number: 2, Name: "2", Open: all[2].Open}},
	} {
		chain := (*ChainError)(nil)
		if e, err := MeasureSegments(wrong); !errors.As(err, &chain) {
			t.Errorf("%s: %+v, %v, want a *ChainError", name, e, err)
		}
	}
	other := Mark{Lines: s.mark.Lines, Hash: genesis}
	e, err := MeasureSegments(all, s.mark, other)
	if err != nil || e.Lines != s.mark.Lines || e.Holds(other) || !e.HasLine(other) {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestExportSegments: the lines of segments that are elsewhere are those of the files.
func TestExportSegments(t *testing.T) {
	t.Parallel()
	s, segments, _ := closedSession(t, 3)
	var want, got bytes.Buffer
	err := errors.Join(Export(s.path, &want), ExportSegments(segments, &got))
	if err != nil || got.Len() == 0 || got.String() != want.String() {
		t.Errorf("%v: %d bytes, want %d", err, got.Len(), want.Len())
	}
}

// TestChangesOfSmallSegments: the changes in all small segments at the end of a log are found.
func TestChangesOfSmallSegments(t *testing.T) {
	t.Parallel()
	s, segments, _ := closedSession(t, 5)
	if err := s.log.Close(); err != nil {
		t.Fatal(err)
	}
	s.reopen(t)
	for n := 1; n <= s.next; n++ {
		r := typical(n)
		if _, ok := s.log.Find(r.Target, r.Ref, r.After); !ok {
			t.Errorf("change %d of %d in %d segments is not found", n, s.next, len(segments))
		}
	}
}

// full is a writer whose reader has gone.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestErrorsOfTheWriter: if the plain lines of a log cannot be written, the log is not blamed.
func TestErrorsOfTheWriter(t *testing.T) {
	t.Parallel()
	s, segments, _ := closedSession(t, 2)
	for name, err := range map[string]error{
		"the log":     Export(s.path, full{}),
		"one segment": Export(segmentPath(s.path, 1), full{}),
		"segments":    ExportSegments(segments, full{}),
	} {
		if !errors.Is(err, io.ErrClosedPipe) || errors.As(err, new(*ChainError)) {
			t.Errorf("%s: %v, want the error of the writer", name, err)
		}
	}
}
