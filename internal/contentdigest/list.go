package contentdigest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"
	"time"
)

// Header is the first line of a list of digests. Two lists can be compared if everything but Pass
// and Began is equal.
type Header struct {
	Kind   string `json:"kind"` // ListKind
	Scheme string `json:"scheme"`
	Job    string `json:"job"`
	// Fingerprint is that of the job file. Destination is the ARN of the destination key.
	Fingerprint string    `json:"fingerprint"`
	Destination string    `json:"destination"`
	Targets     []string  `json:"targets"`
	Began       time.Time `json:"began"` // when reading began
}

// ListKind is Header.Kind of every list.
const ListKind = "rotator content digests"

// trailer is the last line of a list.
type trailer struct {
	Lines  int64  `json:"lines"`  // number of items
	SHA256 string `json:"sha256"` // of all bytes before this line
}

// WriteList writes a list: the header, the lines, which must be sorted, and the trailer.
func WriteList(w io.Writer, h Header, lines iter.Seq2[Line, error]) error {
	sum := sha256.New()
	both := io.MultiWriter(w, sum)
	if err := json.NewEncoder(both).Encode(h); err != nil {
		return err
	}
	var end trailer
	err := writeLines(both, func(yield func(Line, error) bool) {
		for line, err := range lines {
			end.Lines++
			if !yield(line, err) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	end.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return json.NewEncoder(w).Encode(end)
}

// List is an open file that WriteList wrote.
type List struct {
	Header
	file *os.File
}

// OpenList opens a list and reads its header. The error wraps fs.ErrNotExist if there is no file.
func OpenList(path string) (*List, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	l := &List{file: file}
	text, err := readLine(bufio.NewReader(file))
	if err != nil || json.Unmarshal(text, &l.Header) != nil || l.Kind != ListKind {
		_ = file.Close()
		return nil, fmt.Errorf("%s is not a list of content digests written by rotator", path)
	}
	return l, nil
}

// Close closes the file.
func (l *List) Close() { _ = l.file.Close() }

// Lines iterates over the items of the list. The last element is an error if the file was
// changed or truncated.
func (l *List) Lines() iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r := listReader{
			reader: bufio.NewReaderSize(io.NewSectionReader(l.file, 0, 1<<62), 1<<16),
			sum:    sha256.New(),
		}
		if err := r.skipHeader(); err != nil {
			yield(Line{}, err)
			return
		}
		for {
			line, more, err := r.next()
			if err != nil {
				yield(Line{}, fmt.Errorf("read %s: %w", l.file.Name(), err))
				return
			}
			if !more || !yield(line, nil) {
				return
			}
		}
	}
}

// listReader reads the lines of a list and checks them.
type listReader struct {
	reader *bufio.Reader
	sum    hash.Hash
	lines  int64
	last   Line
}

func (r *listReader) skipHeader() error {
	text, err := readLine(r.reader)
	_, _ = r.sum.Write(text)
	return err
}

// next returns the next line. more is false after the trailer.
func (r *listReader) next() (line Line, more bool, err error) {
	text, err := readLine(r.reader)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return line, false, err
	}
	if bytes.HasPrefix(text, []byte(`{"lines":`)) {
		return line, false, r.end(text)
	}
	_, _ = r.sum.Write(text)
	if err := json.Unmarshal(text, &line); err != nil {
		return line, false, err
	}
	if r.lines++; r.lines > 1 && r.last.compare(line) > 0 {
		return line, false, errors.New("the lines are not sorted")
	}
	r.last = line
	return line, true, nil
}

// end checks the trailer.
func (r *listReader) end(text []byte) error {
	var end trailer
	if err := json.Unmarshal(text, &end); err != nil {
		return err
	}
	if end.Lines != r.lines || end.SHA256 != hex.EncodeToString(r.sum.Sum(nil)) {
		return errors.New("the file was changed after rotator wrote it")
	}
	if _, err := r.reader.ReadByte(); !errors.Is(err, io.EOF) {
		return errors.New("text follows the last line")
	}
	return nil
}
