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
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// A log is a series of segments. The open segment is the file that the job file names. When
// it is large enough, it is compressed into a file beside it, and then emptied. So each line
// is always in at least one file, and a line in both files is the same line.

// segment is the first line of a segment in the stored form.
type segment struct {
	Number int64  `json:"audit_log_segment"` // from 1
	Form   int    `json:"form"`
	Job    string `json:"job"`
	First  int64  `json:"first"` // number of its first plain line
	Prev   string `json:"prev"`  // hash of the plain line before
}

// storedForm is the value of segment.Form. A version with another form has another value.
const storedForm = 2

// The beginnings of the first line of a segment and of the last line of a closed segment.
const (
	segmentStart = `{"audit_log_segment":`
	endStart     = `{"audit_log_end":`
)

// appendSegment appends the first line of a segment, with its hash.
func appendSegment(text []byte, s segment) []byte {
	begin := len(text)
	text = strconv.AppendInt(append(text, segmentStart...), s.Number, 10)
	text = strconv.AppendInt(append(text, `,"form":`...), int64(s.Form), 10)
	text = appendText(append(text, `,"job":`...), s.Job)
	text = strconv.AppendInt(append(text, `,"first":`...), s.First, 10)
	text = appendText(append(text, `,"prev":`...), s.Prev)
	return appendHash(append(text, '}'), begin)
}

// parseSegment parses the first line of a segment, without the newline.
func parseSegment(text []byte) (s segment, err error) {
	body, _, err := hashed(text)
	if err != nil {
		return segment{}, err
	}
	if json.Unmarshal(body, &s) != nil || s.Number < 1 || s.First < 1 ||
		len(s.Prev) != hashLength || (s.First == 1) != (s.Prev == genesis) {
		return segment{}, errors.New("it is not the beginning of a segment")
	}
	if s.Form != storedForm {
		return segment{}, fmt.Errorf("a newer version of rotator wrote it (form %d)", s.Form)
	}
	if !bytes.Equal(appendSegment(nil, s), append(bytes.Clone(text), '\n')) {
		return segment{}, errors.New("it is not the beginning of a segment")
	}
	return s, nil
}

// appendEnd appends the last line of a closed segment.
func appendEnd(text []byte, c *chain) []byte {
	text = strconv.AppendInt(append(text, endStart...), c.seq, 10)
	text = append(append(text, `,"head":"`...), c.head[:]...)
	return append(text, "\"}\n"...)
}

// segmentEnd is the end of the name of a closed segment.
const segmentEnd = ".zst"

// segmentPath returns the path of closed segment number n of the log at path.
func segmentPath(path string, n int64) string {
	return fmt.Sprintf("%s.%06d%s", path, n, segmentEnd)
}

// draftEnd is added to the name of a closed segment while it is written.
const draftEnd = ".new"

// SegmentOf returns the path of the log to which a file belongs, and the number of the
// segment, if the file has the name of a closed segment.
func SegmentOf(file string) (path string, number int64, ok bool) {
	rest, ok := strings.CutSuffix(file, segmentEnd)
	dot := strings.LastIndexByte(rest, '.')
	if !ok || dot < 1 {
		return "", 0, false
	}
	number, err := strconv.ParseInt(rest[dot+1:], 10, 64)
	if err != nil || number < 1 || segmentPath(rest[:dot], number) != file {
		return "", 0, false
	}
	return rest[:dot], number, true
}

// LogOf returns the path of the log to which a file with this path belongs if it is a closed
// segment or the draft of one. It returns other paths unchanged.
func LogOf(file string) string {
	if log, _, ok := SegmentOf(strings.TrimSuffix(file, draftEnd)); ok {
		return log
	}
	return file
}

// closedSegments returns the numbers of the closed segments of the log at path, in order.
func closedSegments(path string) (numbers []int64, err error) {
	dir, err := os.Open(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	for {
		names, err := dir.Readdirnames(1000)
		for _, name := range names {
			log, number, ok := SegmentOf(name)
			if ok && log == filepath.Base(path) {
				numbers = append(numbers, number)
			}
		}
		if errors.Is(err, io.EOF) {
			slices.Sort(numbers)
			return numbers, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// ClosedSegment is a closed segment of a log, here or elsewhere.
type ClosedSegment struct {
	Number int64
	Name   string // of the file or object, for messages
	Path   string // of the file; "" if it is elsewhere
	// Open returns the compressed content.
	Open func() (io.ReadCloser, error)
}

// Segments returns the closed segments of the log at path, in order.
func Segments(path string) (list []ClosedSegment, err error) {
	numbers, err := closedSegments(path)
	for _, n := range numbers {
		list = append(list, closedSegment(path, n))
	}
	return list, err
}

// closedSegment returns closed segment number n of the log at path.
func closedSegment(path string, n int64) ClosedSegment {
	name := segmentPath(path, n)
	open := func() (io.ReadCloser, error) { return openRegular(name, os.O_RDONLY) }
	return ClosedSegment{Number: n, Name: filepath.Base(name), Path: name, Open: open}
}

// content is the content of a closed segment.
type content struct {
	source io.Closer
	*zstd.Decoder
}

// open opens a segment for reading. Reading returns an error for a damaged file.
func (s ClosedSegment) open() (*content, error) {
	source, err := s.Open()
	if err != nil {
		return nil, err
	}
	decoder, err := newDecoder(source)
	if err != nil {
		_ = source.Close()
		return nil, err
	}
	return &content{source, decoder}, nil
}

func (c *content) Close() error {
	c.Decoder.Close()
	return c.source.Close()
}

// newDecoder returns a decoder that uses one goroutine and little memory.
func newDecoder(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
}

// readClosed reads closed segment number n of the log at path. The segment must be complete.
func (r *reader) readClosed(path string, n int64) error {
	return r.readSegment(closedSegment(path, n))
}

// readSegment reads a closed segment, which must be complete.
func (r *reader) readSegment(s ClosedSegment) error {
	source, err := s.open()
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	rest, err := r.read(source)
	chain := (*ChainError)(nil)
	switch {
	case errors.As(err, &chain):
		chain.Detail = "in " + s.Name + ": " + chain.Detail
		return chain
	case err != nil && (isPathError(err) || errors.As(err, new(*receiverError))):
		return err
	case err != nil:
		return r.broken(fmt.Sprintf("%s is damaged: %v", s.Name, err))
	case len(rest) > 0 || !r.closed:
		return r.broken(s.Name + " is cut short")
	case r.segment.Number != s.Number:
		return r.broken(fmt.Sprintf("%s is segment %d", s.Name, r.segment.Number))
	}
	return nil
}

// isPathError reports whether an error is one of the file system.
func isPathError(err error) bool {
	var failed *fs.PathError
	return errors.As(err, &failed)
}

// repeats reports whether the content of the open segment is the beginning of closed segment
// number n. This is so if a process ended after it had closed the segment.
func repeats(open io.Reader, path string, n int64) (bool, error) {
	closed, err := closedSegment(path, n).open()
	if err != nil {
		return false, err
	}
	defer func() { _ = closed.Close() }()
	return isPrefix(open, closed)
}
