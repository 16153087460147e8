package auditlog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"rotator/internal/plural"
)

// ChainError reports the first line that breaks the chain.
type ChainError struct {
	Line   int64 // from 1
	Detail string
}

func (e *ChainError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Detail) }

// maxLine is the maximum length of a line in bytes: enough for the longest S3 key or DynamoDB
// primary key, escaped.
const maxLine = 1 << 20

// Verify reads a log and returns the number of its lines and the hash of the last line. It
// returns a *ChainError for the first line that breaks the chain.
func Verify(r io.Reader) (lines int64, head string, err error) {
	return verify(r, func(int64, string) {})
}

// verify implements Verify. It calls each with the number and the hash of each line.
func verify(r io.Reader, each func(int64, string)) (lines int64, head string, err error) {
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
		if err == nil {
			err = record.follows(lines, head)
		}
		if err != nil {
			return lines, head, &ChainError{Line: lines + 1, Detail: err.Error()}
		}
		lines, head = lines+1, hash
		each(lines, hash)
	}
}

// follows returns an error if a line does not follow line number seq, which has
// the given hash.
func (l line) follows(seq int64, hash string) error {
	switch {
	case l.Seq != seq+1:
		return fmt.Errorf("its number is %d", l.Seq)
	case l.Prev != hash:
		return errors.New("it does not follow the line before")
	}
	return nil
}

// VerifyFile verifies the log at path, and that it contains the marks. Without marks, missing
// lines at the end are not detected.
func VerifyFile(path string, marks ...Mark) (found int64, err error) {
	file, err := openRegular(path, os.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }()
	hashes := map[int64]string{}
	for _, m := range marks {
		hashes[m.Lines] = ""
	}
	found, _, err = verify(file, func(number int64, hash string) {
		if _, marked := hashes[number]; marked {
			hashes[number] = hash
		}
	})
	if err != nil {
		return found, fmt.Errorf("%s: %w", path, err)
	}
	for _, m := range marks {
		switch {
		case found < m.Lines:
			return found, fmt.Errorf("%s: it has %s, but the checkpoint has recorded %d: the "+
				"end is cut off", path, plural.Count(found, "line"), m.Lines)
		case m.Lines > 0 && hashes[m.Lines] != m.Hash:
			return found, fmt.Errorf("%s: %w", path, &ChainError{
				Line: m.Lines,
				Detail: "it differs from the line that the checkpoint has " +
					"recorded: the log was replaced",
			})
		}
	}
	return found, nil
}

// Is reports whether a text is an audit log or a part of one: consecutive lines, of which the
// last may be incomplete.
func Is(text []byte) bool {
	if !bytes.HasPrefix(text, []byte(`{"seq":`)) {
		return false
	}
	var before line
	hash, lines := "", 0
	for len(text) > 0 {
		end := bytes.IndexByte(text, '\n')
		if end < 0 {
			return lines > 0 && begins(text, before.Seq+1)
		}
		record, own, err := parse(text[:end])
		if err != nil || lines > 0 && record.follows(before.Seq, hash) != nil {
			return false
		}
		before, hash, text = record, own, text[end+1:]
		lines++
	}
	return true
}
