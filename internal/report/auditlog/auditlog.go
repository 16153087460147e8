// Package auditlog keeps the evidence of what was changed: an append-only file
// of JSON Lines, each bound to the one before by a hash.
//
// The first line, with the event "log", names the job. Every slot that rotator
// replaces has two lines: the event "intent" before the write, and "rotated"
// after it. An intent alone means that the write failed, or that the process
// died before it knew the outcome. The next run of the pass then checks the
// slot, and adds the second line if the write had succeeded.
//
// A line is one JSON object whose last member is "hash": the SHA-256, in hex,
// of the line without that member. It contains "prev", the hash of the line
// before, so no line can be changed, removed, added or moved without breaking
// the chain from there on; that lines were cut off at the end shows against the
// number of lines and the hash that the checkpoint keeps. The chain shows
// tampering and damage to whoever trusts the checkpoint; it is no signature. A
// log is evidence of what was done and decides no outcome. A line is bound to
// its pass by a digest. If the checkpoint does not confirm the line, it is only
// a hint, and KMS is asked (rotate.Trace).
package auditlog

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"rotator/internal/rotate"
)

// Log is an audit log that is being written. It is safe for concurrent use, by
// one process.
type Log struct {
	mu   sync.Mutex
	file *os.File
	job  string
	seq  int64
	size int64 // of the file
	head string
	text []byte // of the lines written last, to be used again
	torn int
	err  error // of a write that may have left half a line
	// own and beside are what was read of this log and of those of other workers, and
	// found the changes that they ended with.
	own      *tail
	beside   []*tail
	found    map[place]change
	believed bool
}

var _ rotate.Recorder = (*Log)(nil)

// ErrBusy says that another process is writing the log.
var ErrBusy = errors.New("another process is writing it")

// Torn is the length in bytes of the line that Open took off; 0 if none.
func (l *Log) Torn() int { return l.torn }

// Head returns the number of lines and the hash of the last.
func (l *Log) Head() (lines int64, hash string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq, l.head
}

// Intend implements rotate.Recorder.
func (l *Log) Intend(records []rotate.Record) error { return l.append(eventIntent, records) }

// Record implements rotate.Recorder.
func (l *Log) Record(records []rotate.Record) error { return l.append(eventRotated, records) }

// append writes one line for each record. When it returns, they are with the
// operating system, and survive the death of the process.
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

// Sync implements rotate.Recorder: when it returns, all lines are on the disk.
func (l *Log) Sync() error { return l.file.Sync() }

// Close closes the file.
func (l *Log) Close() error { return l.file.Close() }
