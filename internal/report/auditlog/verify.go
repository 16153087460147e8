package auditlog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
)

// ChainError names the first line that does not fit.
type ChainError struct {
	Line   int64 // from 1
	Detail string
}

func (e *ChainError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Detail) }

// maxLine bounds a line: the longest S3 key or DynamoDB primary key, escaped,
// with room for the rest.
const maxLine = 1 << 20

// Verify reads a whole log and returns how many lines it has and the hash of
// the last. The first line that does not fit is a *ChainError.
func Verify(r io.Reader) (lines int64, head string, err error) {
	head = genesis
	reader := bufio.NewReaderSize(r, maxLine)
	for {
		text, err := reader.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(text) == 0:
			return lines, head, nil
		case errors.Is(err, io.EOF):
			return lines, head, &ChainError{Line: lines + 1, Detail: "it is cut short"}
		case errors.Is(err, bufio.ErrBufferFull):
			return lines, head, &ChainError{Line: lines + 1, Detail: "it is too long"}
		case err != nil:
			return lines, head, err
		}
		record, hash, err := parse(text[:len(text)-1])
		switch {
		case err != nil:
			return lines, head, &ChainError{Line: lines + 1, Detail: err.Error()}
		case record.Seq != lines+1:
			return lines, head, &ChainError{Line: lines + 1, Detail: fmt.Sprintf("it says that it is line %d", record.Seq)}
		case record.Prev != head:
			return lines, head, &ChainError{Line: lines + 1, Detail: "it does not follow the line before"}
		}
		lines, head = lines+1, hash
	}
}

// VerifyFile verifies the log at path, and that line number lines has the hash
// that was kept elsewhere: without that, lines cut off at the end do not show.
func VerifyFile(path string, lines int64, head string) (found int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }()
	kept := &hashAt{line: lines}
	found, _, err = Verify(io.TeeReader(file, kept))
	switch {
	case err != nil:
		return found, fmt.Errorf("%s: %w", path, err)
	case found < lines:
		return found, fmt.Errorf("%s: it has %d lines, and the checkpoint knows of %d: the end is cut off", path, found, lines)
	case lines > 0 && kept.hash() != head:
		return found, fmt.Errorf("%s: %w", path, &ChainError{Line: lines, Detail: "it is not the line that the checkpoint knows: the log was replaced"})
	}
	return found, nil
}

// hashAt remembers one line of what is written to it.
type hashAt struct {
	line, at int64
	text     []byte
}

func (h *hashAt) Write(p []byte) (int, error) {
	for _, b := range p {
		if h.at == h.line-1 && b != '\n' {
			h.text = append(h.text, b)
		}
		if b == '\n' {
			h.at++
		}
	}
	return len(p), nil
}

func (h *hashAt) hash() string {
	_, hash, err := parse(h.text)
	if err != nil {
		return ""
	}
	return hash
}
