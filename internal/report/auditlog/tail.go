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

	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// Mark is the last durable line of a log when a checkpoint was saved.
type Mark struct {
	Name  string // of its file
	Lines int64
	Hash  string // of the last line
	// Here reports whether the log must be in this directory, because a process of
	// this machine wrote it.
	Here bool
}

// tail is the part at the end of a log that was read.
type tail struct {
	name   string
	first  int64    // number of the first line that was read
	hashes []string // of the lines that were read
	lines  int64    // number of the last line; 0 for none
}

// holds reports whether the log has the line of a mark. known is false if that
// line is before the part that was read.
func (t *tail) holds(m Mark) (holds, known bool) {
	switch {
	case m.Lines > t.lines:
		return false, true
	case m.Lines < t.first:
		return false, false
	}
	return t.hashes[m.Lines-t.first] == m.Hash, true
}

// place is the item into which a blob with this digest was written. Items may
// share a blob.
type place struct {
	target string
	ref    scan.Ref
	after  string
}

// change is a slot that was replaced or was about to be replaced.
type change struct {
	trace rotate.Trace
	log   *tail
	line  int64 // number of its first line
}

// Beside also reads the end of the log of another worker of the job that died
// on this machine, so that Find returns its changes too. A file that does not
// exist or is not an audit log of the job has no changes. The file is not
// changed.
func (l *Log) Beside(path string) error {
	file, err := openRegular(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) || IsForeign(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	end, _, err := l.examine(file)
	if IsForeign(err) {
		return nil
	}
	if err == nil {
		err = file.Sync() // lines that are relied on must be durable
	}
	var t *tail
	if err == nil {
		t, err = l.gather(file, end)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	l.beside = append(l.beside, t)
	return nil
}

// gathered is the number of bytes at the end of a log that are searched for changes. The
// changes of all pages in progress need less.
const gathered = 32 << 20

// gather reads the changes at the end of a log and checks the chain of the
// lines that it reads.
func (l *Log) gather(file *os.File, end int64) (*tail, error) {
	t := &tail{name: filepath.Base(file.Name())}
	start := max(0, end-gathered)
	lines := bufio.NewScanner(io.NewSectionReader(file, start, end-start))
	lines.Buffer(nil, maxLine)
	hash, at := genesis, start
	for n := 0; lines.Scan(); n++ {
		length := int64(len(lines.Bytes())) + 1
		if n == 0 && start > 0 { // the line may begin before start
			at += length
			continue
		}
		record, own, err := parse(lines.Bytes())
		if len(t.hashes) == 0 {
			t.first = record.Seq
		}
		if err == nil && (start == 0 || len(t.hashes) > 0) {
			err = record.follows(t.lines, hash)
		}
		if err != nil {
			return nil, chainError(file, at, err)
		}
		hash, at = own, at+length
		t.hashes, t.lines = append(t.hashes, hash), record.Seq
		l.learn(t, record)
	}
	return t, lines.Err()
}

// chainError returns a ChainError for the line that starts at an offset.
func chainError(file io.ReaderAt, at int64, err error) error {
	number := int64(1)
	block := make([]byte, 1<<20)
	for from := int64(0); from < at; {
		n, reading := file.ReadAt(block[:min(at-from, int64(len(block)))], from)
		number += int64(bytes.Count(block[:n], []byte("\n")))
		from += int64(n)
		if reading != nil || n == 0 {
			break
		}
	}
	return &ChainError{Line: number, Detail: err.Error() + "; " + asEvidence}
}

// learn stores the change of one line. If several lines describe one change,
// the first counts. It ignores lines without a binding.
func (l *Log) learn(t *tail, r line) {
	if r.Binding == "" || r.Event != eventIntent && r.Event != eventRotated {
		return
	}
	at := place{r.Target, scan.Ref(r.Ref), r.After}
	c, known := l.found[at]
	if !known {
		c = change{log: t, line: r.Seq, trace: rotate.Trace{Record: r.record()}}
	}
	c.trace.Written = c.trace.Written || r.Event == eventRotated
	l.found[at] = c
}

// Believe passes the marks of the checkpoint for this log and for those read by
// Beside. It must be called before Find, which otherwise finds nothing. Lines
// up to the last mark that the log holds are confirmed. If the log lacks a mark
// of this machine, it was truncated, replaced or lost. Find then ignores the log,
// and Believe returns its marks.
func (l *Log) Believe(marks []Mark) (broken []Mark) {
	vouched := map[*tail]int64{}
	missing := map[*tail]bool{}
	for _, m := range marks {
		t := l.named(m.Name)
		if m.Lines == 0 || t == nil && !m.Here {
			continue
		}
		holds, known := false, true
		if t != nil {
			holds, known = t.holds(m)
		}
		switch {
		case holds:
			vouched[t] = max(vouched[t], m.Lines)
		case known && m.Here:
			broken, missing[t] = append(broken, m), true
		}
	}
	for at, c := range l.found {
		if missing[c.log] {
			delete(l.found, at)
			continue
		}
		c.trace.Kept = c.line <= vouched[c.log]
		l.found[at] = c
	}
	l.believed = true
	return broken
}

// named returns the tail of the log with a name, or nil.
func (l *Log) named(name string) *tail {
	if l.own.name == name {
		return l.own
	}
	i := slices.IndexFunc(l.beside, func(t *tail) bool { return t.name == name })
	if i < 0 {
		return nil
	}
	return l.beside[i]
}

// Find implements rotate.Recorder for the lines that existed when the log was
// opened.
func (l *Log) Find(target string, ref scan.Ref, after string) (rotate.Trace, bool) {
	if !l.believed {
		return rotate.Trace{}, false
	}
	c, ok := l.found[place{target, ref, after}]
	return c.trace, ok
}
