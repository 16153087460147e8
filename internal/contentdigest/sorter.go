package contentdigest

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
)

// Line is one item in a list of digests.
type Line struct {
	Target int    `json:"target"` // index in Header.Targets
	Ref    string `json:"ref"`
	Digest string `json:"digest,omitempty"` // hexadecimal; empty if the item is not covered
	// NotCovered is the reason why the item is not covered, or "".
	NotCovered string `json:"not_covered,omitempty"`
}

// compare compares the addresses of two lines.
func (l Line) compare(other Line) int {
	return cmp.Or(cmp.Compare(l.Target, other.Target), cmp.Compare(l.Ref, other.Ref))
}

const (
	// memoryLimit is the maximum size of the lines that a Sorter keeps in memory, in bytes.
	memoryLimit = 32 << 20
	// lineOverhead is the size of a line in memory without its texts.
	lineOverhead = 80
	// maxRuns is the number of sorted files above which they are merged into one.
	maxRuns = 64
	// maxLine is the maximum length of a line in a file, in bytes. The keys of an item have at
	// most 3 KB, and JSON can need 6 bytes for each of these.
	maxLine = 1 << 20
)

// Sorter sorts lines by their addresses. It keeps a limited number of them in memory and writes
// the others to temporary files. These have no name, so the system deletes them when the process
// ends. A Sorter is not safe for concurrent use.
type Sorter struct {
	directory string
	limit     int
	lines     []Line
	size      int
	runs      []*os.File // each is sorted
}

// NewSorter returns a Sorter that creates its temporary files in a directory.
func NewSorter(directory string) *Sorter {
	return &Sorter{directory: directory, limit: memoryLimit}
}

// Add adds a line.
func (s *Sorter) Add(l Line) error {
	s.lines = append(s.lines, l)
	s.size += len(l.Ref) + len(l.Digest) + len(l.NotCovered) + lineOverhead
	if s.size < s.limit {
		return nil
	}
	return s.spill()
}

// Restart removes all lines.
func (s *Sorter) Restart() error {
	s.lines, s.size = nil, 0
	var failed error
	for _, run := range s.runs {
		failed = cmp.Or(failed, run.Close())
	}
	s.runs = nil
	return failed
}

// spill writes the lines in memory to a temporary file.
func (s *Sorter) spill() error {
	slices.SortFunc(s.lines, Line.compare)
	run, err := s.write(fromSlice(s.lines))
	if err != nil {
		return err
	}
	s.runs = append(s.runs, run)
	s.lines, s.size = s.lines[:0], 0
	if len(s.runs) < maxRuns {
		return nil
	}
	merged, err := s.write(merge(s.runs, nil))
	if err != nil {
		return err
	}
	if err := s.Restart(); err != nil {
		_ = merged.Close()
		return err
	}
	s.runs = []*os.File{merged}
	return nil
}

// write writes lines to a new file without a name.
func (s *Sorter) write(lines iter.Seq2[Line, error]) (file *os.File, err error) {
	if file, err = os.CreateTemp(s.directory, ".rotator-content-digest-*"); err != nil {
		return nil, err
	}
	if err = os.Remove(file.Name()); err == nil {
		err = writeLines(file, lines)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

func writeLines(w io.Writer, lines iter.Seq2[Line, error]) error {
	buffer := bufio.NewWriterSize(w, 1<<16)
	encoder := json.NewEncoder(buffer)
	for line, err := range lines {
		if err != nil {
			return err
		}
		if err := encoder.Encode(line); err != nil {
			return err
		}
	}
	return buffer.Flush()
}

// Sorted iterates over all lines in the order of their addresses. The last element can be an
// error.
func (s *Sorter) Sorted() iter.Seq2[Line, error] {
	slices.SortFunc(s.lines, Line.compare)
	return merge(s.runs, s.lines)
}

// fromSlice iterates over lines without errors.
func fromSlice(lines []Line) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		for _, line := range lines {
			if !yield(line, nil) {
				return
			}
		}
	}
}

// fromFile iterates over the lines of a sorted file, from its beginning.
func fromFile(file *os.File) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		reader := bufio.NewReader(io.NewSectionReader(file, 0, 1<<62))
		for {
			text, err := readLine(reader)
			if errors.Is(err, io.EOF) {
				return
			}
			var line Line
			if err == nil {
				err = json.Unmarshal(text, &line)
			}
			if !yield(line, err) || err != nil {
				return
			}
		}
	}
}

// readLine reads a line of at most maxLine bytes. The error is io.EOF at the end of the input.
func readLine(reader *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		part, err := reader.ReadSlice('\n')
		if text = append(text, part...); len(text) > maxLine {
			return nil, fmt.Errorf("a line is longer than %d bytes", maxLine)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(text) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return text, err
		}
	}
}

// merge iterates over the lines of sorted files and of a sorted slice.
func merge(files []*os.File, lines []Line) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		var inputs mergeHeap
		defer func() { inputs.stop() }()
		sequences := []iter.Seq2[Line, error]{fromSlice(lines)}
		for _, file := range files {
			sequences = append(sequences, fromFile(file))
		}
		for _, sequence := range sequences {
			next, stop := iter.Pull2(sequence)
			in := &mergeInput{next: next, stop: stop}
			in.advance()
			if !in.ended {
				inputs = append(inputs, in)
			}
		}
		heap.Init(&inputs)
		for len(inputs) > 0 {
			first := inputs[0]
			if !yield(first.line, first.err) || first.err != nil {
				return
			}
			if first.advance(); first.ended {
				heap.Pop(&inputs)
				continue
			}
			heap.Fix(&inputs, 0)
		}
	}
}

// mergeInput is one input of a merge with its next line.
type mergeInput struct {
	next  func() (Line, error, bool)
	stop  func()
	line  Line
	err   error
	ended bool
}

func (m *mergeInput) advance() {
	var more bool
	m.line, m.err, more = m.next()
	m.ended = !more
}

// mergeHeap implements heap.Interface. An error comes before all lines.
type mergeHeap []*mergeInput

func (h mergeHeap) Len() int      { return len(h) }
func (h mergeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h mergeHeap) Less(i, j int) bool {
	if failed := h[i].err != nil; failed || h[j].err != nil {
		return failed
	}
	return h[i].line.compare(h[j].line) < 0
}
func (h *mergeHeap) Push(x any) { *h = append(*h, x.(*mergeInput)) }
func (h *mergeHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	last.stop()
	return last
}

func (h mergeHeap) stop() {
	for _, in := range h {
		in.stop()
	}
}
