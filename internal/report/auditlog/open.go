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

// Open opens the audit log of a job at path, or creates it, and appends after
// its last line. It removes a last line that a crash cut short; Torn returns
// its length. It removes nothing else. It returns a *ForeignError if the file
// does not begin as an audit log of this job, and a *ChainError if a later line
// is damaged. The error wraps ErrBusy if another process has the log open.
func Open(path, job string) (*Log, error) {
	_, missing := os.Stat(path)
	file, err := openRegular(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	l := &Log{file: file, job: job, head: genesis, found: map[place]change{}}
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

// resume finds the last complete line and removes an incomplete line after it.
func (l *Log) resume() error {
	end, size, err := l.examine(l.file)
	if err != nil {
		return err
	}
	t, err := l.gather(l.file, end)
	if err != nil {
		return err
	}
	l.own, l.seq, l.size = t, t.lines, end
	if l.seq > 0 {
		l.head = t.hashes[len(t.hashes)-1]
	}
	if end < size {
		if err := l.cut(end, size); err != nil {
			return err
		}
	}
	_, err = l.file.Seek(end, io.SeekStart)
	return err
}

// cut removes the line that a crash cut short. It must look like the beginning
// of the next line of the log.
func (l *Log) cut(end, size int64) error {
	rest := make([]byte, min(size-end, maxLine))
	if _, err := l.file.ReadAt(rest, end); err != nil {
		return err
	}
	if size-end > maxLine || !begins(rest, l.seq+1) {
		return &ChainError{
			Line: l.seq + 1,
			Detail: "it has no line break and is not the start of a line of this log; " +
				asEvidence,
		}
	}
	l.torn = int(size - end)
	return l.file.Truncate(end)
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

// lineStart returns the beginning of line number seq.
func lineStart(seq int64) string { return fmt.Sprintf(`{"seq":%d,"event":"`, seq) }

// examine checks that a file begins as an audit log of the job, and returns its
// size and the end of its last complete line.
func (l *Log) examine(file *os.File) (end, size int64, err error) {
	if size, err = file.Seek(0, io.SeekEnd); err != nil || size == 0 {
		return 0, 0, err
	}
	first := make([]byte, min(size, maxLine))
	if _, err := file.ReadAt(first, 0); err != nil {
		return 0, 0, err
	}
	text, _, whole := bytes.Cut(first, []byte("\n"))
	begin, _, parsed := parse(text)
	switch {
	case whole && parsed == nil && begin.Seq == 1 && begin.Prev == genesis:
	case !whole && size < maxLine && begins(first, 1):
		return 0, size, nil // the first line is incomplete
	case whole && bytes.HasPrefix(text, []byte(lineStart(1))):
		return 0, 0, &ChainError{
			Line:   1,
			Detail: "it was changed after it was written; " + asEvidence,
		}
	default:
		return 0, 0, &ForeignError{Path: file.Name(), Detail: "does not begin as an audit log"}
	}
	if begin.Event == eventLog && begin.Job != l.job {
		return 0, 0, &ForeignError{
			Path:   file.Name(),
			Detail: fmt.Sprintf("is the audit log of job %q", begin.Job),
		}
	}
	end, err = lastEnd(file, size)
	return end, size, err
}

// lastEnd returns the offset after the last complete line of a file.
func lastEnd(file io.ReaderAt, size int64) (int64, error) {
	start := max(0, size-maxLine)
	rest := make([]byte, size-start)
	if _, err := file.ReadAt(rest, start); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	newline := bytes.LastIndexByte(rest, '\n')
	if newline < 0 {
		return 0, fmt.Errorf("its last %d bytes hold no line", len(rest))
	}
	return start + int64(newline) + 1, nil
}
