package auditlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// ForeignError reports that the file at the path of an audit log is not an
// audit log of the job. It was not changed.
type ForeignError struct {
	Path   string
	Detail string // what the file is
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s %s; it was not changed: name another file in audit_log, "+
		"or move this one away",
		e.Path, e.Detail)
}

// IsForeign reports whether err is a *ForeignError.
func IsForeign(err error) bool {
	var foreign *ForeignError
	return errors.As(err, &foreign)
}

// openRegular opens a file, which must be regular after symbolic links are
// followed. It does not block on a pipe and does not open a device.
func openRegular(path string, flags int) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, &ForeignError{Path: path, Detail: "is " + kindOf(info.Mode())}
	}
	file, err := os.OpenFile(path, flags|unix.O_NONBLOCK|unix.O_NOCTTY, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat() // the file may have been replaced before it was opened
	if err == nil && !info.Mode().IsRegular() {
		err = &ForeignError{Path: path, Detail: "is " + kindOf(info.Mode())}
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory, and not a file"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe, and not a file"
	case mode&fs.ModeSocket != 0:
		return "a socket, and not a file"
	case mode&fs.ModeDevice != 0:
		return "a device, and not a file"
	}
	return "not a regular file"
}

// Open opens the audit log of a job at path, or creates it, and appends after its last line.
// It removes a last line that a crash cut short; Torn returns its length. It removes nothing
// else. It returns a *ForeignError if the file does not begin as an audit log of this job, and
// a *ChainError if a later line is damaged. The error wraps ErrBusy if another process has the
// log open.
func Open(path, job string) (*Log, error) {
	_, missing := os.Stat(path)
	file, err := openRegular(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	l := &Log{path: path, file: file, job: job, found: map[place]change{},
		SegmentSize: SegmentSize}
	err = lock(file)
	if err == nil {
		err = l.resume()
	}
	if err == nil && errors.Is(missing, fs.ErrNotExist) {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = file.Close()
		if IsForeign(err) {
			return nil, err
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

// lock makes this process the only writer of a file.
func lock(file *os.File) error {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrBusy
	}
	return err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// resume finds the last complete line, removes an incomplete line after it, and empties the
// file if all its lines are in a closed segment.
func (l *Log) resume() error {
	begin, err := l.examine(l.file, l.path)
	if err != nil {
		return err
	}
	g, err := l.gather(l.file, l.path, begin)
	if err != nil {
		return err
	}
	l.own, l.number = g.tail, begin.number
	l.id = firstID(l.path, l.file, begin)
	l.merge(g.found)
	l.lines, l.written = newWriter(g.reader.chain), g.reader.chain
	if !begin.empty {
		l.lines.table, l.lines.latest = g.reader.table, g.latest
		l.lines.old, l.lines.plain = g.reader.old, g.reader.plain
		if l.size = g.end; l.lines.old {
			l.lines.plain = l.size
		}
	}
	draft := segmentPath(l.path, l.number) + draftEnd
	if err := removeDraft(draft); err != nil && !IsForeign(err) {
		return err
	}
	if begin.size == l.size {
		return nil
	}
	if !begin.repeated {
		l.torn = int(begin.size - l.size)
	}
	return l.file.Truncate(l.size)
}

// firstID returns the id of the log at path, whose open segment is in file, or "".
func firstID(path string, file io.ReaderAt, b beginning) string {
	if b.number == 1 {
		id, _ := idOf(io.NewSectionReader(file, 0, b.size))
		return id
	}
	id, _ := idInClosed(path)
	return id
}

// AllClosed returns the id of the log of a job at path, if all its lines are in closed segments and
// no process has it open. Otherwise ok is false. It reads only the first line of the log.
func AllClosed(path, job string) (id string, ok bool) {
	file, err := openRegular(path, os.O_RDWR)
	if err != nil {
		return "", false
	}
	defer func() { _ = file.Close() }()
	if lock(file) != nil {
		return "", false
	}
	info, err := file.Stat()
	if err != nil || info.Size() > 0 {
		return "", false
	}
	id, of := idInClosed(path)
	return id, id != "" && of == job
}

// idInClosed is idOf for the first closed segment of the log at path.
func idInClosed(path string) (id, job string) {
	closed, err := closedSegment(path, 1).open()
	if err != nil {
		return "", ""
	}
	defer func() { _ = closed.Close() }()
	return idOf(closed)
}

// idOf returns the id and the job of a log from its first segment. The id is "" if its first line
// cannot be read.
func idOf(first io.Reader) (id, job string) {
	r := newReader(newChain(0, genesis), func(_ int64, text []byte) error {
		if id == "" {
			id = string(hashOf(text)[:idLength])
		}
		return errNotRecord // to read no further
	})
	_, _ = r.read(first)
	return id, r.job
}

// asEvidence is the advice for a log that cannot be continued.
const asEvidence = "move the file away to begin a new one, and keep it as evidence"

// begins reports whether an incomplete text is the beginning of line number
// seq. A file system may have left zeros after it when the power failed. The
// beginning of a log must be long enough to distinguish it from a file of
// another program.
func begins(text []byte, seq int64) bool {
	text = bytes.TrimRight(text, "\x00")
	if _, _, err := parse(text); err != nil && json.Valid(text) {
		return false // a complete text that is not this line
	}
	events := []string{eventLog, eventIntent, eventRotated}
	return slices.ContainsFunc(events, func(event string) bool {
		start := []byte(lineStart(seq) + event + `","at":"`)
		return bytes.HasPrefix(text, start) || seq > 1 && bytes.HasPrefix(start, text)
	})
}

// beginning is what a file of an open segment begins with.
type beginning struct {
	size   int64
	number int64 // of the segment
	old    bool  // it has plain lines
	// empty is set if no line of the file counts: it has no complete line, or all its lines
	// are in a closed segment. Segment number begins then.
	empty    bool
	repeated bool  // all lines are in a closed segment
	before   int64 // number of the closed segment before; 0 if there is none
}

// examine checks that the file at path begins as an audit log of the job, and that it fits the
// closed segments beside it.
func (l *Log) examine(file *os.File, path string) (b beginning, err error) {
	numbers, err := closedSegments(path)
	if err != nil {
		return b, err
	}
	last := int64(0)
	if len(numbers) > 0 {
		last = numbers[len(numbers)-1]
	}
	if b.size, err = file.Seek(0, io.SeekEnd); err != nil {
		return b, err
	}
	first, err := l.firstLine(file, b.size, last)
	if err != nil {
		return b, err
	}
	b.number, b.old = first.Number, first.Form == 0
	switch {
	case first.Number == 0:
		b.empty = true
	case first.Number == last:
		same, err := repeats(io.NewSectionReader(file, 0, b.size), path, last)
		if err == nil && !same {
			err = &ChainError{Line: first.First, Detail: "it differs from " +
				filepath.Base(segmentPath(path, last)) + "; " + asEvidence}
		}
		if err != nil {
			return b, err
		}
		b.empty, b.repeated = true, true
	case first.Number < last:
		return b, &ChainError{Line: first.First, Detail: filepath.Base(
			segmentPath(path, last)) + " is a later segment; " + asEvidence}
	case first.Number == last+1:
		b.before = last
	}
	if b.empty {
		b.number, b.before = last+1, last
	}
	return b, nil
}

// firstLine reads the first line of an open segment. The result is zero if the segment is
// empty, or if its first line is incomplete. Form is 0 for plain lines. last is the number of
// the last closed segment.
func (l *Log) firstLine(file *os.File, size, last int64) (s segment, err error) {
	if size == 0 {
		return segment{}, nil
	}
	first := make([]byte, min(size, maxLine))
	if _, err := file.ReadAt(first, 0); err != nil {
		return segment{}, err
	}
	text, _, whole := bytes.Cut(first, []byte("\n"))
	s, segmentErr := parseSegment(text)
	begin, _, plainErr := parse(text)
	switch {
	case whole && segmentErr == nil:
	case whole && plainErr == nil && begin.Seq == 1 && begin.Prev == genesis:
		s = segment{Number: 1, First: 1, Job: begin.Job}
		if begin.Event != eventLog { // older versions did not write this line
			s.Job = l.job
		}
	case !whole && size < maxLine && l.beginsSegment(first, last):
		return segment{}, nil
	case whole && bytes.HasPrefix(text, []byte(lineStart(1))),
		whole && bytes.HasPrefix(text, []byte(segmentStart)):
		return segment{}, &ChainError{
			Line:   1,
			Detail: "it was changed after it was written; " + asEvidence,
		}
	default:
		return segment{}, &ForeignError{
			Path:   file.Name(),
			Detail: "does not begin as an audit log",
		}
	}
	if s.Job != l.job {
		return segment{}, &ForeignError{
			Path:   file.Name(),
			Detail: fmt.Sprintf("is the audit log of job %q", s.Job),
		}
	}
	return s, nil
}

// beginsSegment reports whether an incomplete text is the beginning of a segment after segment
// number last. The beginning of a log must be long enough to distinguish it from a file of
// another program.
func (l *Log) beginsSegment(text []byte, last int64) bool {
	if last == 0 {
		genesis := newChain(0, genesis)
		whole := appendSegment(nil, segment{1, storedForm, l.job, 1, string(genesis.head[:])})
		text := bytes.TrimRight(text, "\x00")
		return len(text) >= len(segmentStart) && bytes.HasPrefix(whole, text) ||
			begins(text, 1)
	}
	text = bytes.TrimRight(text, "\x00")
	return bytes.HasPrefix(text, []byte(segmentStart)) ||
		bytes.HasPrefix([]byte(segmentStart), text)
}
