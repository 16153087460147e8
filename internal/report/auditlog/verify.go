package auditlog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"rotator/internal/plural"
)

// walk reads all segments of the log at path. It calls each with every plain line. If the log
// is written to at the same time, a segment may be closed meanwhile; the error is then not
// that of the log, and walk reports changed.
func walk(path string, each func(int64, []byte) error) (r *reader, changed bool, err error) {
	numbers, err := closedSegments(path)
	if err != nil {
		return nil, false, err
	}
	r, err = walkSegments(path, numbers, each)
	if err != nil {
		now, listing := closedSegments(path)
		changed = listing == nil && !slices.Equal(now, numbers)
	}
	return r, changed, err
}

// walkSegments implements walk.
func walkSegments(
	path string, numbers []int64, each func(int64, []byte) error,
) (*reader, error) {
	r := newReader(newChain(0, genesis), each)
	for i, n := range numbers {
		if n != int64(i)+1 {
			return r, r.broken(missing(path, int64(i)+1))
		}
		if err := r.readClosed(path, n); err != nil {
			return r, err
		}
	}
	file, err := openRegular(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) && len(numbers) > 0 {
		return r, nil // a crash, or the open segment is lost; the checkpoint shows which
	}
	if err != nil {
		return r, err
	}
	defer func() { _ = file.Close() }()
	last := int64(len(numbers))
	first, err := peek(file)
	switch {
	case err != nil:
		return r, err
	case last > 0 && first.Number == last:
		same, err := repeats(file, path, last)
		if err == nil && !same {
			err = r.broken(filepath.Base(path) + " differs from " +
				filepath.Base(segmentPath(path, last)))
		}
		return r, err
	case first.Number > last+1:
		return r, r.broken(missing(path, last+1))
	}
	rest, err := r.read(file)
	if err == nil && len(rest) > 0 {
		err = r.broken("it is cut short")
	}
	return r, err
}

func missing(path string, number int64) string {
	return fmt.Sprintf("segment %d is missing (%s)", number,
		filepath.Base(segmentPath(path, number)))
}

// peek returns the first line of an open segment. The result is zero if it is not valid.
func peek(file *os.File) (s segment, err error) {
	text, err := bufio.NewReader(io.NewSectionReader(file, 0, maxLine)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return segment{}, err
	}
	first, whole := bytes.CutSuffix(text, []byte("\n"))
	if s, err := parseSegment(first); whole && err == nil {
		return s, nil
	}
	if begin, _, err := parse(first); whole && err == nil && begin.Seq == 1 {
		return segment{Number: 1, First: 1}, nil
	}
	return segment{}, nil
}

// maxWalks is the number of times that a log is read if segments are closed meanwhile.
const maxWalks = 5

// Extent is what a log contains, as far as it was read.
type Extent struct {
	ID    string // of the log; "" if its first line was not read
	Lines int64  // number of the last plain line
	Gaps  []Gap  // in the order of the lines

	hashes map[int64]string // of the lines that marks name
	moves  *Moves           // nil: moves are not counted
}

// Gap is a part of a log that is missing, between segments that exist.
type Gap struct {
	Segment    int64 // number of the first missing segment
	From, Upto int64 // numbers of the missing plain lines
}

// Holds reports whether the log has the line of a mark.
func (e *Extent) Holds(m Mark) bool { return m.Lines > 0 && e.hashes[m.Lines] == m.Hash }

// HasLine reports whether the line with the number of a mark was read. It may be another line.
func (e *Extent) HasLine(m Mark) bool { return e.hashes[m.Lines] != "" }

// newExtent returns an Extent to which learn adds lines.
func newExtent(marks []Mark) *Extent {
	e := &Extent{hashes: map[int64]string{}}
	for _, m := range marks {
		e.hashes[m.Lines] = ""
	}
	return e
}

// learn adds one plain line.
func (e *Extent) learn(number int64, text []byte) error {
	if number == 1 {
		e.ID = string(hashOf(text)[:idLength])
	}
	if _, marked := e.hashes[number]; marked {
		e.hashes[number] = string(hashOf(text))
	}
	e.Lines = number
	e.moves.learn(text)
	return nil
}

// Measure verifies all segments of the log at path. The result knows whether the log has the lines
// of the marks. The error is a *ChainError for a damaged log.
func Measure(path string, marks ...Mark) (e *Extent, err error) {
	return (*Moves)(nil).Measure(path, marks...)
}

// Measure is like the function Measure, and adds the writes of the log to m.
func (m *Moves) Measure(path string, marks ...Mark) (e *Extent, err error) {
	for range maxWalks {
		var changed bool
		var r *reader
		e = newExtent(marks)
		e.moves = m
		if r, changed, err = walk(path, e.learn); changed {
			continue
		}
		if err != nil && r != nil && !errors.Is(err, fs.ErrNotExist) && !isPathError(err) &&
			!IsForeign(err) {
			err = fmt.Errorf("%s: %w", path, err)
		}
		break
	}
	return e, err
}

// MeasureSegments verifies closed segments of one log, in the order of their numbers. A missing
// segment is a gap, and no error. The error is a *ChainError for a damaged segment, or that of
// ClosedSegment.Open.
func MeasureSegments(segments []ClosedSegment, marks ...Mark) (*Extent, error) {
	return (*Moves)(nil).MeasureSegments(segments, marks...)
}

// MeasureSegments is like the function MeasureSegments, and adds the writes of the log to m.
func (m *Moves) MeasureSegments(segments []ClosedSegment, marks ...Mark) (*Extent, error) {
	e := newExtent(marks)
	e.moves = m
	r := newReader(newChain(0, genesis), e.learn)
	next := int64(1)
	for _, s := range segments {
		before := r.seq
		r.anywhere = s.Number != next
		if err := r.readSegment(s); err != nil {
			return e, err
		}
		if s.Number != next {
			gap := Gap{next, before + 1, r.segment.First - 1}
			if gap.Upto < gap.From || s.Number < next {
				return e, r.broken(s.Name + " does not follow the segment before")
			}
			e.Gaps = append(e.Gaps, gap)
		}
		next = s.Number + 1
	}
	return e, nil
}

// VerifyFile verifies all segments of the log at path, and that it contains the marks. It
// returns the number of plain lines. Without marks, missing lines at the end are not detected.
func VerifyFile(path string, marks ...Mark) (found int64, err error) {
	e, err := Measure(path, marks...)
	if err != nil {
		return 0, err
	}
	for _, m := range marks {
		if err := e.Lacks(m); err != nil {
			return e.Lines, fmt.Errorf("%s: %w", path, err)
		}
	}
	return e.Lines, nil
}

// Lacks returns an error if the log does not have the line of a mark, and otherwise nil.
func (e *Extent) Lacks(m Mark) error {
	switch {
	case m.Lines == 0 || e.Holds(m):
		return nil
	case e.Lines < m.Lines:
		return fmt.Errorf("it has %s, but the checkpoint has recorded %d: the end is cut off",
			plural.Count(e.Lines, "line"), m.Lines)
	}
	return &ChainError{Line: m.Lines, Detail: "it differs from the line that the checkpoint has " +
		"recorded: the log was replaced"}
}

// Exists reports whether there is a file of the log at path, which may be a closed segment.
func Exists(path string) (bool, error) {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err == nil, err
	}
	numbers, err := closedSegments(path)
	return len(numbers) > 0, err
}

// IDOf returns the id of the log at path, or "" if its first line cannot be read.
func IDOf(path string) string {
	if id, _ := idInClosed(path); id != "" {
		return id
	}
	open, err := openRegular(path, os.O_RDONLY)
	if err != nil {
		return ""
	}
	defer func() { _ = open.Close() }()
	id, _ := idOf(open)
	return id
}

// Export writes the plain lines of the log at path. If path is a closed segment, only its
// lines are written. It returns a *ChainError for the first line that breaks the chain; the
// lines before it were written.
func Export(path string, w io.Writer) (err error) {
	var last int64
	write := func(seq int64, text []byte) error {
		if seq <= last {
			return nil
		}
		last = seq
		_, err := w.Write(text)
		return err
	}
	if log, number, closed := SegmentOf(path); closed {
		r := newReader(newChain(0, genesis), write)
		r.anywhere = true
		return exportError(path, r.readClosed(log, number))
	}
	for range maxWalks {
		var changed bool
		if _, changed, err = walk(path, write); !changed {
			break
		}
	}
	return exportError(path, err)
}

// ExportSegments writes the plain lines of closed segments of one log, in the order of their
// numbers. A gap between them is no error. The error is a *ChainError for the first line that
// breaks the chain; the lines before it were written.
func ExportSegments(segments []ClosedSegment, w io.Writer) error {
	r := newReader(newChain(0, genesis), func(_ int64, text []byte) error {
		_, err := w.Write(text)
		return err
	})
	next := int64(1)
	for _, s := range segments {
		r.anywhere = s.Number != next
		if err := r.readSegment(s); err != nil {
			return err
		}
		next = s.Number + 1
	}
	return nil
}

func exportError(path string, err error) error {
	if chain := (*ChainError)(nil); errors.As(err, &chain) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return err
}

// Is reports whether a text is a file of an audit log or a part of one: a segment, which may
// be compressed, or consecutive plain lines. The last line may be incomplete. accept is called
// with each line as it is stored; Is returns false if it returns false.
func Is(text []byte, accept func(line []byte) bool) bool {
	switch {
	case bytes.HasPrefix(text, []byte(zstdMagic)):
		decoder, err := newDecoder(bytes.NewReader(text))
		if err != nil {
			return false
		}
		defer decoder.Close()
		return isSegment(decoder, accept, false)
	case bytes.HasPrefix(text, []byte(segmentStart)):
		return isSegment(bytes.NewReader(text), accept, true)
	case bytes.HasPrefix(text, []byte(`{"seq":`)):
		return isPlain(text, accept)
	}
	return false
}

// isSegment reports whether a text is a segment. It must be a closed one unless open is set.
func isSegment(source io.Reader, accept func(line []byte) bool, open bool) bool {
	r := newReader(newChain(0, genesis), func(int64, []byte) error { return nil })
	r.anywhere = true
	r.accept = accept
	rest, err := r.read(source)
	return err == nil && r.started && (r.closed && len(rest) == 0 ||
		open && !r.closed && r.continues(rest) && accept(rest))
}

// isPlain reports whether a text is consecutive plain lines.
func isPlain(text []byte, accept func(line []byte) bool) bool {
	var c chain
	lines := 0
	for line := range bytes.SplitAfterSeq(text, []byte("\n")) {
		if !accept(line) {
			return false
		}
		body, whole := bytes.CutSuffix(line, []byte("\n"))
		if !whole {
			return len(body) == 0 || lines > 0 && begins(body, c.seq+1)
		}
		record, own, err := parse(body)
		if err != nil || lines > 0 && record.follows(&c) != nil {
			return false
		}
		c = newChain(record.Seq, own)
		lines++
	}
	return true
}
