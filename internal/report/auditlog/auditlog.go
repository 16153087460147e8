// Package auditlog keeps the evidence of what was changed: an append-only file
// of JSON Lines, each bound to the one before by a hash.
//
// Every slot that rotator replaces has two lines: the event "intent" before the
// write, and "rotated" after it. An intent alone means that the write failed, or
// that the process died before it knew; then the next run of the pass looks, and
// adds the second line if the write had landed.
//
// A line is one JSON object whose last member is "hash": the SHA-256, in hex, of
// the line without that member. It contains "prev", the hash of the line before,
// so no line can be changed, removed, added or moved without breaking the chain
// from there on; that lines were cut off at the end shows against the number of
// lines and the hash that the checkpoint keeps. The chain shows tampering and
// damage to whoever trusts the checkpoint; it is no signature.
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
	"sync"

	"golang.org/x/sys/unix"

	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// Log is an audit log that is being written. It is safe for concurrent use, by
// one process.
type Log struct {
	mu   sync.Mutex
	file *os.File
	seq  int64
	head string
	text []byte // of the lines written last, to be used again
	torn int
	err  error // of a write that may have left half a line
	// found are the changes that the log ended with.
	found map[place]change
}

var _ rotate.Recorder = (*Log)(nil)

// place is where a blob, of this digest, was put. Items may share a blob.
type place struct {
	target string
	ref    scan.Ref
	after  string
}

// change is a slot that was, or was about to be, replaced.
type change struct {
	record  rotate.Record
	written bool
}

// ErrBusy says that another process is writing the log.
var ErrBusy = errors.New("another process is writing it")

// Open opens the log at path, or begins one, and goes on behind its last line.
// A last line that a crash cut short is taken off; Torn says how long it was. The
// error wraps ErrBusy when another process has the log open.
func Open(path string) (*Log, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrBusy
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l := &Log{file: file, head: genesis, found: map[place]change{}}
	if err := errors.Join(l.resume(), syncDir(filepath.Dir(path))); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// resume finds the last whole line and cuts off what stands behind it.
func (l *Log) resume() error {
	size, err := l.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	last, end, err := lastLine(l.file, size)
	if err != nil {
		return err
	}
	if end < size {
		l.torn = int(size - end)
		if err := l.file.Truncate(end); err != nil {
			return err
		}
	}
	if len(last) > 0 {
		record, hash, err := parse(last)
		if err != nil {
			return fmt.Errorf("its last line does not fit (%w); move the file away to begin a new one, and keep it as evidence", err)
		}
		l.seq, l.head = record.Seq, hash
	}
	if err := l.gather(l.file, end); err != nil {
		return err
	}
	_, err = l.file.Seek(end, io.SeekStart)
	return err
}

// Beside also finds the changes at the end of the log of another worker, that died
// on this machine: Find returns them as well. A log that is not there has none.
func (l *Log) Beside(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if err := file.Sync(); err != nil { // what is counted on has to stay
		return err
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	_, end, err := lastLine(file, size)
	if err == nil {
		err = l.gather(file, end)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// gathered is how far back from the end changes are looked for, in bytes. The
// pages that can be under way at one moment take less.
const gathered = 32 << 20

// gather finds the changes at the end of a log.
func (l *Log) gather(file io.ReaderAt, end int64) error {
	start := max(0, end-gathered)
	lines := bufio.NewScanner(io.NewSectionReader(file, start, end-start))
	lines.Buffer(nil, maxLine)
	for n := 0; lines.Scan(); n++ {
		record, _, err := parse(lines.Bytes())
		if err != nil {
			if n == 0 && start > 0 {
				continue // it began further back
			}
			return &ChainError{Line: l.seq, Detail: err.Error()}
		}
		at := place{record.Target, scan.Ref(record.Ref), record.After}
		l.found[at] = change{written: record.Event == eventRotated || l.found[at].written, record: rotate.Record{Pass: record.Pass, Target: record.Target,
			Ref: scan.Ref(record.Ref), Path: record.Path, From: record.From, To: record.To, Before: record.Before, After: record.After}}
	}
	return lines.Err()
}

// Find implements rotate.Recorder, for what was there when the log was opened.
func (l *Log) Find(target string, ref scan.Ref, after string) (record rotate.Record, written, ok bool) {
	c, ok := l.found[place{target, ref, after}]
	return c.record, c.written, ok
}

// lastLine returns the last line that ends with a newline, without it, and where
// it ends. Lines are far shorter than the block that is read.
func lastLine(file io.ReaderAt, size int64) (last []byte, end int64, err error) {
	const block = 1 << 20
	start := max(0, size-block)
	tail := make([]byte, size-start)
	if _, err := file.ReadAt(tail, start); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	newline := bytes.LastIndexByte(tail, '\n')
	if newline < 0 {
		if start > 0 {
			return nil, 0, fmt.Errorf("its last %d bytes hold no line", block)
		}
		return nil, 0, nil
	}
	body := tail[:newline]
	return body[bytes.LastIndexByte(body, '\n')+1:], start + int64(newline) + 1, nil
}

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
	for _, r := range records {
		seq++
		var err error
		text, head, err = bind(text, line{Seq: seq, Event: event, At: r.At, Pass: r.Pass, Target: r.Target, Ref: string(r.Ref), Path: r.Path,
			From: r.From, To: r.To, Before: r.Before, After: r.After, Prev: head})
		if err != nil {
			return err
		}
	}
	l.text = text
	if _, err := l.file.Write(text); err != nil {
		l.err = fmt.Errorf("append to %s: %w", l.file.Name(), err)
		return l.err
	}
	l.seq, l.head = seq, head
	return nil
}

// Sync implements rotate.Recorder: when it returns, all lines are on the disk.
func (l *Log) Sync() error { return l.file.Sync() }

// Close closes the file.
func (l *Log) Close() error { return l.file.Close() }
