// Package auditlog writes and verifies the audit log: an append-only file of JSON Lines that
// is chained by hashes.
//
// The first line has the event "log" and names the job. Each slot that rotator replaces has
// two lines: the event "intent" before the write, and "rotated" after it. An intent without a
// second line means that the write failed, or that the process ended before it knew the
// result. The next run of the pass then checks the slot, and adds the second line if the
// write succeeded.
//
// A line is a JSON object whose last member is "hash": the SHA-256, in hexadecimal, of the
// line without this member. Its member "prev" is the hash of the previous line. Changing,
// removing, adding or moving a line therefore breaks the chain. The checkpoint stores the
// number of lines and the last hash, so truncation is detected, too. The chain detects damage
// and tampering if the checkpoint is trusted. It is not a signature.
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
	mu   sync.Mutex
	file *os.File
	job  string
	seq  int64
	size int64 // of the file
	head string
	text []byte // buffer for the lines of a write
	torn int
	err  error // of a write that may have left an incomplete line
	// own and beside are the parts that were read of this log and of the logs of other
	// workers. found has the changes in these parts.
	own      *tail
	beside   []*tail
	found    map[place]change
	believed bool
}

var _ rotate.Recorder = (*Log)(nil)

// ErrBusy is returned if another process has the log open.
var ErrBusy = errors.New("another process has the audit log open")

// Torn returns the length in bytes of the incomplete line that Open removed, or 0.
func (l *Log) Torn() int { return l.torn }

// Head returns the number of lines and the hash of the last line.
func (l *Log) Head() (lines int64, hash string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq, l.head
}

// Intend implements rotate.Recorder.
func (l *Log) Intend(records []rotate.Record) error { return l.append(eventIntent, records) }

// Record implements rotate.Recorder.
func (l *Log) Record(records []rotate.Record) error { return l.append(eventRotated, records) }

// append writes one line per record. When it returns, the operating system has the lines, so
// they survive a crash of the process.
func (l *Log) append(event string, records []rotate.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	text := l.text[:0]
	seq, head := l.seq, l.head
	if seq == 0 {
		seq++
		text, head = bindFirst(text, l.job, time.Now().UTC())
	}
	for _, r := range records {
		seq++
		var err error
		if text, head, err = bind(text, lineOf(r, event, seq, head)); err != nil {
			return err
		}
	}
	l.text = text
	if _, err := l.file.Write(text); err != nil {
		_ = l.file.Truncate(l.size) // on failure, the next Open removes the incomplete line
		l.err = fmt.Errorf("append to %s: %w", l.file.Name(), err)
		return l.err
	}
	l.seq, l.head, l.size = seq, head, l.size+int64(len(text))
	return nil
}

// Sync implements rotate.Recorder. When it returns, all lines are on disk.
func (l *Log) Sync() error { return l.file.Sync() }

// Close closes the file.
func (l *Log) Close() error { return l.file.Close() }
