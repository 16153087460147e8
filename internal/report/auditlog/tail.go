package auditlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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
	Log   string // id of the log; "" if it is unknown
	// Here reports whether the log must be in this directory, because a process of
	// this machine wrote it.
	Here bool
}

// tail is the part at the end of a log that was read.
type tail struct {
	name   string
	first  int64               // number of the first line that was read
	hashes [][sha256.Size]byte // of the lines that were read
	lines  int64               // number of the last line; 0 for none
}

// holds reports whether the log has the line of a mark. known is false if that
// line is before the part that was read.
func (t *tail) holds(m Mark) (holds, known bool) {
	switch {
	case m.Lines > t.lines:
		return false, true
	case m.Lines < t.first || len(t.hashes) == 0:
		return false, false
	}
	return hex.EncodeToString(t.hashes[m.Lines-t.first][:]) == m.Hash, true
}

// change is a slot that was replaced or was about to be replaced.
type change struct {
	trace rotate.Trace
	log   *tail
	line  int64 // number of its first line
}

// Beside also reads the end of the log of another worker of the job that died
// on this machine, so that Find returns its changes too. A file that does not
// exist or is not an audit log of the job has no changes. No file is changed.
func (l *Log) Beside(path string) error {
	numbers, err := closedSegments(path)
	for range maxWalks {
		if err != nil {
			return err
		}
		err = l.readBeside(path)
		now, listing := closedSegments(path)
		if err == nil || listing != nil || slices.Equal(now, numbers) {
			break
		}
		numbers, err = now, nil // the other worker lives, and has closed a segment meanwhile
	}
	return err
}

func (l *Log) readBeside(path string) error {
	file, err := openRegular(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) || IsForeign(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	begin, err := l.examine(file, path)
	if IsForeign(err) {
		return nil
	}
	if err == nil {
		err = file.Sync() // lines that are relied on must be durable
	}
	var g *gathering
	if err == nil {
		g, err = l.gather(file, path, begin)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	l.merge(g.found)
	l.beside = append(l.beside, g.tail)
	return nil
}

// gathered is the number of bytes of plain lines at the end of a log that are searched for
// changes. The changes of all pages in progress need less.
const gathered = 32 << 20

// The stored form of gathered bytes is at least this long, and closed segments of gathered bytes
// are usually at least as long as gatheredClosed.
const (
	gatheredStored = gathered / 4
	gatheredClosed = gathered / 16
)

// gathering is the result of reading the end of a log.
type gathering struct {
	tail   *tail
	reader *reader // after the last complete line
	end    int64   // offset of the end of that line in the file of the open segment
	found  map[place]change
	latest map[place]int64 // as in writer
}

// gather reads the changes at the end of a log and checks the chain of the lines that it
// reads. It reads the open segment, and closed segments before if the open one is short.
func (l *Log) gather(file *os.File, path string, b beginning) (*gathering, error) {
	g := &gathering{
		tail:   &tail{name: filepath.Base(path)},
		found:  map[place]change{},
		latest: map[place]int64{},
	}
	g.reader = newReader(newChain(0, genesis), g.learn)
	g.reader.anywhere = true
	if b.before > 0 && (b.empty || b.size < gatheredStored) {
		for n := firstGathered(path, b.before); n <= b.before; n++ {
			if err := g.reader.readClosed(path, n); err != nil {
				return nil, withAdvice(err)
			}
			clear(g.latest)
		}
	}
	if b.empty {
		return g, nil
	}
	start := int64(0)
	if b.old && b.size > gathered {
		var err error
		if start, err = nextLine(file, b.size-gathered); err != nil {
			return nil, err
		}
	}
	rest, err := g.reader.read(io.NewSectionReader(file, start, b.size-start))
	if err == nil && len(rest) > 0 && !g.reader.continues(rest) {
		err = g.reader.broken("it has no line break and is not the start of a line of this log")
	}
	if err == nil && g.reader.closed {
		err = g.reader.broken("the file holds a closed segment")
	}
	if chain := (*ChainError)(nil); errors.As(err, &chain) && start > 0 && len(g.tail.hashes) == 0 {
		chain.Line = lineAt(file, start)
	}
	g.end = start + g.reader.size
	return g, withAdvice(err)
}

// firstGathered returns the number of the first closed segment that gather reads, of those up to
// number last. It is less than last if the segments are small.
func firstGathered(path string, last int64) int64 {
	first, size := last, int64(0)
	for {
		info, err := os.Stat(segmentPath(path, first))
		if err != nil {
			return min(first+1, last)
		}
		if size += info.Size(); size >= gatheredClosed || first == 1 {
			return first
		}
		first--
	}
}

// withAdvice adds the advice for a log that cannot be continued to a ChainError.
func withAdvice(err error) error {
	if chain := (*ChainError)(nil); errors.As(err, &chain) {
		return &ChainError{Line: chain.Line, Detail: chain.Detail + "; " + asEvidence}
	}
	return err
}

// nextLine returns the offset of the first line that begins at or after an offset.
func nextLine(file io.ReaderAt, at int64) (int64, error) {
	text := make([]byte, maxLine)
	n, err := file.ReadAt(text, at-1)
	if newline := bytes.IndexByte(text[:n], '\n'); newline >= 0 {
		return at + int64(newline), nil
	}
	return at, err
}

// lineAt returns the number of the line of a file that begins at an offset.
func lineAt(file io.ReaderAt, at int64) int64 {
	number := int64(1)
	block := make([]byte, 1<<20)
	for from := int64(0); from < at; {
		n, err := file.ReadAt(block[:min(at-from, int64(len(block)))], from)
		number += int64(bytes.Count(block[:n], []byte("\n")))
		from += int64(n)
		if err != nil || n == 0 {
			break
		}
	}
	return number
}

// learn stores the hash and the change of one line. If several lines describe one change, the
// first counts. It ignores changes without a binding.
func (g *gathering) learn(seq int64, text []byte) error {
	var sum [sha256.Size]byte
	if _, err := hex.Decode(sum[:], hashOf(text)); err != nil {
		return err
	}
	if len(g.tail.hashes) == 0 {
		g.tail.first = seq
	}
	g.tail.hashes, g.tail.lines = append(g.tail.hashes, sum), seq
	var r line
	if err := json.Unmarshal(text, &r); err != nil {
		return errNotRecord
	}
	at := place{r.Target, scan.Ref(r.Ref), r.After}
	if r.Event == eventIntent {
		g.latest[at] = seq
	}
	if r.Binding == "" || r.Event != eventIntent && r.Event != eventRotated {
		return nil
	}
	c, known := g.found[at]
	if !known {
		c = change{log: g.tail, line: seq, trace: rotate.Trace{Record: r.record()}}
	}
	c.trace.Written = c.trace.Written || r.Event == eventRotated
	g.found[at] = c
	return nil
}

// merge adds the changes of a log. Those of the logs that were added before count.
func (l *Log) merge(found map[place]change) {
	for at, c := range found {
		known, ok := l.found[at]
		if !ok {
			l.found[at] = c
			continue
		}
		known.trace.Written = known.trace.Written || c.trace.Written
		l.found[at] = known
	}
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
