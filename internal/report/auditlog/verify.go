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

// VerifyFile verifies all segments of the log at path, and that it contains the marks. It
// returns the number of plain lines. Without marks, missing lines at the end are not detected.
func VerifyFile(path string, marks ...Mark) (found int64, err error) {
	for range maxWalks {
		var changed bool
		if found, changed, err = verifyFile(path, marks); !changed {
			break
		}
	}
	return found, err
}

func verifyFile(path string, marks []Mark) (found int64, changed bool, err error) {
	hashes := map[int64]string{}
	for _, m := range marks {
		hashes[m.Lines] = ""
	}
	r, changed, err := walk(path, func(number int64, text []byte) error {
		if _, marked := hashes[number]; marked {
			hashes[number] = string(hashOf(text))
		}
		return nil
	})
	if err != nil {
		if r != nil && !errors.Is(err, fs.ErrNotExist) && !isPathError(err) && !IsForeign(err) {
			err = fmt.Errorf("%s: %w", path, err)
		}
		return 0, changed, err
	}
	found = r.seq
	for _, m := range marks {
		switch {
		case found < m.Lines:
			return found, false, fmt.Errorf("%s: it has %s, but the checkpoint has "+
				"recorded %d: the end is cut off",
				path, plural.Count(found, "line"), m.Lines)
		case m.Lines > 0 && hashes[m.Lines] != m.Hash:
			return found, false, fmt.Errorf("%s: %w", path, &ChainError{
				Line: m.Lines,
				Detail: "it differs from the line that the checkpoint has " +
					"recorded: the log was replaced",
			})
		}
	}
	return found, false, nil
}

// Exists reports whether there is a file of the log at path, which may be a closed segment.
func Exists(path string) (bool, error) {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err == nil, err
	}
	numbers, err := closedSegments(path)
	return len(numbers) > 0, err
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
