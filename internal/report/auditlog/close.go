package auditlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// closeFull closes the open segment if it is large enough. It must be called with mu held.
func (l *Log) closeFull() error {
	if l.lines.plain < max(l.SegmentSize, l.closeAt) {
		return nil
	}
	return l.closeOpen()
}

// CloseSegment closes the open segment, if it has lines, regardless of its size. If that fails,
// the segment stays open, and Unclosed returns the reason. An error means that no line can be
// appended.
func (l *Log) CloseSegment() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil && l.size > 0 {
		l.err = l.closeOpen()
	}
	return l.err
}

// closeOpen closes the open segment, which has lines. If it cannot be closed, the segment stays
// open and becomes longer. An error means that no line can be appended. It must be called with mu
// held.
func (l *Log) closeOpen() error {
	if l.closing = l.compress(); l.closing != nil {
		l.closeAt = l.lines.plain + l.SegmentSize/4
		return nil
	}
	if err := l.next(); err != nil { // the next Open continues where this ended
		return fmt.Errorf("begin a segment of %s: %w", l.path, err)
	}
	if l.Closed != nil {
		l.Closed()
	}
	return nil
}

// step reports an injected fault before a step of closing a segment.
func (l *Log) step(name string) error {
	if l.fault == nil {
		return nil
	}
	return l.fault(name)
}

// compress writes the open segment to the file of a closed segment. The file gets its name
// only after it is complete, was compared with the open segment, and is on disk. After an
// error there is no closed segment.
func (l *Log) compress() error {
	path := segmentPath(l.path, l.number)
	draft := path + draftEnd
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s already exists", path)
	}
	if err := removeDraft(draft); err != nil {
		return err
	}
	if err := l.step("create"); err != nil {
		return err
	}
	file, err := os.OpenFile(draft, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = l.writeDraft(file)
	err = errors.Join(err, file.Close())
	if err == nil {
		err = l.step("rename")
	}
	if err == nil {
		err = os.Rename(draft, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(draft))
	}
	return nil
}

// writeDraft compresses the open segment into a file, and reads the file to compare it.
func (l *Log) writeDraft(file *os.File) error {
	encoder, err := zstd.NewWriter(file, zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return err
	}
	if _, err = io.Copy(encoder, l.content()); err != nil {
		_ = encoder.Close()
		return err
	}
	if err := errors.Join(encoder.Close(), l.step("sync")); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	decoder, err := newDecoder(file)
	if err != nil {
		return err
	}
	defer decoder.Close()
	same, err := isPrefix(l.content(), decoder)
	if err != nil {
		return err
	}
	if _, end := decoder.Read(make([]byte, 1)); !same || !errors.Is(end, io.EOF) {
		return errors.New("the compressed segment cannot be read back")
	}
	return nil
}

// content returns the content of the open segment, and the last line of a closed segment.
func (l *Log) content() io.Reader {
	return io.MultiReader(io.NewSectionReader(l.file, 0, l.size),
		bytes.NewReader(appendEnd(nil, &l.lines.chain)))
}

// isPrefix reports whether the content of one reader is the beginning of that of another.
func isPrefix(one, other io.Reader) (bool, error) {
	var a, b [64 << 10]byte
	for {
		n, err := io.ReadFull(one, a[:])
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return false, err
		}
		if _, err := io.ReadFull(other, b[:n]); err != nil || !bytes.Equal(a[:n], b[:n]) {
			return false, nil
		}
		if last {
			return true, nil
		}
	}
}

// removeDraft removes a file that a process left that ended while it closed a segment. It
// removes no file of another program.
func removeDraft(path string) error {
	file, err := openRegular(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	start := make([]byte, len(zstdMagic))
	n, err := io.ReadFull(file, start)
	_ = file.Close()
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if !bytes.HasPrefix([]byte(zstdMagic), start[:n]) {
		return &ForeignError{Path: path, Detail: "is not a segment of an audit log"}
	}
	return os.Remove(path)
}

// zstdMagic is the beginning of a file that is compressed with zstd (RFC 8878).
const zstdMagic = "\x28\xb5\x2f\xfd"

// next empties the file of the open segment, whose lines are in a closed segment, and begins
// the next segment. The first line of the segment is written with its first lines.
func (l *Log) next() error {
	if err := l.step("sync directory"); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(l.path)); err != nil {
		return err
	}
	if err := l.step("truncate"); err != nil {
		return err
	}
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	if err := l.step("append"); err != nil {
		return err
	}
	l.number, l.size, l.closeAt = l.number+1, 0, 0
	l.lines = newWriter(l.lines.chain)
	return nil
}
