// Package auditlog writes, verifies and exports the audit log: an append-only series of lines
// that is chained by hashes.
//
// The lines are JSON Lines (line). The first one has the event "log" and names the job. Each
// slot that rotator replaces has two lines: the event "intent" before the write, and "rotated"
// after it. An intent without a second line means that the write failed, or that the process
// ended before it knew the result. The next run of the pass then checks the slot, and adds the
// second line if the write succeeded.
//
// A line is a JSON object whose last member is "hash": the SHA-256, in hexadecimal, of the
// line without this member. Its member "prev" is the hash of the previous line. Changing,
// removing, adding or moving a line therefore breaks the chain. The checkpoint stores the
// number of lines and the last hash, so truncation is detected, too. The chain detects damage
// and tampering if the checkpoint is trusted. It is not a signature.
//
// Files hold the lines in a shorter form (table), from which the plain lines are rebuilt byte
// by byte. A log is divided into segments. Closed segments are compressed. A file of plain
// lines, as earlier versions wrote it, is a segment, too, and is continued with plain lines.
//
// A log is evidence and does not decide results. Each line is bound to its pass by a digest.
// A line that the checkpoint does not confirm is only a hint, and rotator asks KMS
// (rotate.Trace).
package auditlog

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"rotator/internal/rotate"
)

// Log is an audit log that is open for writing. It is safe for concurrent use. Only one
// process can open a log.
type Log struct {
	// SegmentSize is the number of bytes of plain lines after which a segment is closed. Open
	// sets it. It must not be changed after the first line was written.
	SegmentSize int64
	// Closed, if it is set, is called after a segment was closed. It must not block, call the Log,
	// or be changed after the first line was written.
	Closed func()

	mu      sync.Mutex
	id      string
	path    string
	file    *os.File
	job     string
	number  int64 // of the open segment
	size    int64 // of the file of the open segment
	lines   *writer
	written chain  // the end of the lines that were written
	text    []byte // buffer for the lines of a write
	torn    int
	err     error // of a write that may have left an incomplete line
	closing error // why the open segment could not be closed
	closeAt int64 // bytes of plain lines after which closing is tried again
	// own and beside are the parts that were read of this log and of the logs of other
	// workers. found has the changes in these parts.
	own      *tail
	beside   []*tail
	found    map[place]change
	believed bool
	// fault is called before each step of closing a segment. Tests set it.
	fault func(step string) error
}

// SegmentSize is the default of Log.SegmentSize. A closed segment of this size has about 3 MiB.
const SegmentSize = 32 << 20

var _ rotate.Recorder = (*Log)(nil)

// ErrBusy is returned if another process has the log open.
var ErrBusy = errors.New("another process has the audit log open")

// Torn returns the length in bytes of the incomplete line that Open removed, or 0.
func (l *Log) Torn() int { return l.torn }

// Head returns the number of plain lines of all segments, and the hash of the last line.
func (l *Log) Head() (lines int64, hash string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.written.seq, string(l.written.head[:])
}

// ID returns the id of the log: the beginning of the hash of its first line, which has the time
// and the job. It does not depend on the names of files. It is "" if the log has no lines, or if
// its first segment cannot be read here.
func (l *Log) ID() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.written.seq == 0 {
		return ""
	}
	return l.id
}

// idLength is the length of the id of a log.
const idLength = 32

// Unclosed returns the error because of which the open segment is longer than SegmentSize, or
// nil. No line is missing.
func (l *Log) Unclosed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closing
}

// Intend implements rotate.Recorder.
func (l *Log) Intend(records []rotate.Record) error { return l.append(eventIntent, records) }

// Record implements rotate.Recorder.
func (l *Log) Record(records []rotate.Record) error { return l.append(eventRotated, records) }

// append writes one line per record. When it returns, the operating system has the lines, so
// they survive a crash of the process.
func (l *Log) append(event string, records []rotate.Record) error {
	for _, r := range records {
		if err := valid(r); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if l.err = l.closeFull(); l.err != nil {
		return l.err
	}
	text := l.text[:0]
	if l.size == 0 {
		text = appendSegment(text, l.segment())
	}
	if l.lines.seq == 0 {
		text = l.lines.first(text, l.job, time.Now().UTC())
		l.id = string(l.lines.head[:idLength])
	}
	if event == eventIntent {
		text = l.lines.intended(text, records)
	} else {
		text = l.lines.rotated(text, records)
	}
	l.text = text
	if _, err := l.file.WriteAt(text, l.size); err != nil {
		_ = l.file.Truncate(l.size) // on failure, the next Open removes the incomplete line
		l.err = fmt.Errorf("append to %s: %w", l.path, err)
		return l.err
	}
	l.size += int64(len(text))
	l.written = l.lines.chain
	return nil
}

// segment returns the first line of the open segment, which has no lines yet.
func (l *Log) segment() segment {
	return segment{
		Number: l.number,
		Form:   storedForm,
		Job:    l.job,
		First:  l.lines.seq + 1,
		Prev:   string(l.lines.head[:]),
	}
}

// Sync implements rotate.Recorder. When it returns, all lines are on disk.
func (l *Log) Sync() error { return l.file.Sync() }

// Close closes the file.
func (l *Log) Close() error { return l.file.Close() }
