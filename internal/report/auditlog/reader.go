package auditlog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"
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

var errNotRecord = errors.New("it is not a record")

// reader reads the lines of segments and verifies them. Its memory does not depend on the
// number of lines.
type reader struct {
	chain
	table
	// each is called with every plain line, including its newline, after it was verified. The
	// text is valid only during the call.
	each func(seq int64, text []byte) error

	// accept, if it is set, is called with every line as it is stored. If it returns false,
	// the line is refused.
	accept func(text []byte) bool
	// anywhere is set if the first segment that is read may begin at any line.
	anywhere bool

	job     string  // of the segments, if it is known
	segment segment // that is being read
	old     bool    // its stored form is the plain form
	started bool    // the first line of the segment was read
	closed  bool    // the last line of a closed segment was read
	size    int64   // bytes of the complete lines of the segment, as stored
	plain   int64   // bytes of the plain lines of the segment

	lines   []byte   // plain lines that one stored line stands for
	ends    []int    // of these lines
	change  []byte   // buffer
	long    []byte   // a line that is longer than the buffer of the file
	fields  [][]byte // of a stored line
	numbers []int64
	at      []byte // the last valid time
}

// newReader returns a reader of the segments after the end of a chain.
func newReader(c chain, each func(seq int64, text []byte) error) *reader {
	return &reader{chain: c, each: each}
}

// read reads one segment. rest is the incomplete line at its end. An error about the content
// is a *ChainError.
func (r *reader) read(source io.Reader) (rest []byte, err error) {
	r.table, r.segment = newTable(), segment{}
	r.old, r.started, r.closed = false, false, false
	r.size, r.plain = 0, 0
	lines := bufio.NewReaderSize(source, 64<<10)
	for {
		text, err := r.next(lines)
		switch {
		case errors.Is(err, io.EOF):
			return text, nil
		case err != nil:
			return nil, err
		}
		if err := r.stored(text[:len(text)-1]); err != nil {
			if errors.As(err, new(*ChainError)) || errors.As(err, new(*receiverError)) {
				return nil, err
			}
			return nil, r.broken(err.Error())
		}
		r.size += int64(len(text))
	}
}

// next returns the next line with its newline. The error is io.EOF if it has none.
func (r *reader) next(lines *bufio.Reader) (text []byte, err error) {
	text, err = lines.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return text, err
	}
	r.long = r.long[:0]
	for errors.Is(err, bufio.ErrBufferFull) {
		if r.long = append(r.long, text...); len(r.long) > maxLine {
			return nil, r.broken("it is too long")
		}
		text, err = lines.ReadSlice('\n')
	}
	r.long = append(r.long, text...)
	return r.long, err
}

// broken returns the error for the line after the last valid line.
func (r *reader) broken(detail string) error {
	return &ChainError{Line: r.seq + 1, Detail: detail}
}

// stored reads one stored line.
func (r *reader) stored(text []byte) error {
	switch {
	case r.accept != nil && !r.accept(text):
		return errNotRecord
	case r.closed:
		return errors.New("it is after the end of a closed segment")
	case bytes.HasPrefix(text, []byte(endStart)):
		return r.end(text)
	case !r.started:
		return r.start(text)
	case r.old:
		return r.plainLine(text)
	}
	return r.array(text)
}

// start reads the first line of a segment.
func (r *reader) start(text []byte) error {
	r.started = true
	anywhere := r.anywhere
	r.anywhere = false
	if r.old = !bytes.HasPrefix(text, []byte(segmentStart)); r.old {
		r.segment = segment{Number: 1, First: 1, Prev: genesis}
		if record, _, err := parse(text); err == nil && anywhere && record.Seq > 0 &&
			len(record.Prev) == hashLength {
			r.chain = newChain(record.Seq-1, record.Prev)
		}
		return r.plainLine(text)
	}
	s, err := parseSegment(text)
	if err != nil {
		return err
	}
	if anywhere {
		r.chain = newChain(s.First-1, s.Prev)
	}
	if r.job != "" && s.Job != r.job {
		return fmt.Errorf("it is the log of job %q, and the lines before are of job %q", s.Job,
			r.job)
	}
	r.job = s.Job
	if s.First != r.seq+1 || s.Prev != string(r.head[:]) {
		return errors.New("it does not follow the segment before")
	}
	r.segment = s
	return nil
}

// end reads the last line of a closed segment.
func (r *reader) end(text []byte) error {
	if !bytes.Equal(text, bytes.TrimSuffix(appendEnd(nil, &r.chain), []byte("\n"))) {
		return errors.New("the end of its segment does not match its lines")
	}
	r.closed = true
	return nil
}

// plainLine reads a plain line.
func (r *reader) plainLine(text []byte) error {
	record, hash, err := parse(text)
	if err == nil {
		err = record.follows(&r.chain)
	}
	if err != nil {
		return err
	}
	if record.Event == eventLog {
		r.job = record.Job
	}
	r.chain = newChain(record.Seq, hash)
	r.lines = append(append(r.lines[:0], text...), '\n')
	r.plain += int64(len(r.lines))
	return r.pass(r.seq, r.lines)
}

// receiverError is an error of the function that receives the plain lines. It says nothing about
// the log.
type receiverError struct{ err error }

func (e *receiverError) Error() string { return e.err.Error() }
func (e *receiverError) Unwrap() error { return e.err }

// pass passes one plain line on.
func (r *reader) pass(seq int64, text []byte) error {
	if err := r.each(seq, text); err != nil {
		return &receiverError{err}
	}
	return nil
}

// array reads a line in the stored form.
func (r *reader) array(text []byte) error {
	if err := r.split(text); err != nil {
		return err
	}
	kind, count := string(r.fields[0]), len(r.fields)
	before := r.chain
	r.lines, r.ends = r.lines[:0], r.ends[:0]
	var err error
	switch {
	case kind == `"r"` && count == 4:
		err = r.ranges(r.fields[2])
	case kind == `"l"` && count == 3 && r.seq == 0:
		r.emit(eventLog, func(line []byte) []byte {
			return appendText(append(line, `,"job":`...), r.segment.Job)
		})
	case kind == `"i"` && count == 15:
		err = r.intent()
	case kind == `"w"` && count == 12:
		if err = r.members(); err == nil {
			r.emit(eventRotated, func(line []byte) []byte { return append(line, r.change...) })
		}
	default:
		return errNotRecord
	}
	check := r.fields[count-1]
	if err == nil && !r.matches(check) {
		err = errors.New("it does not match its hash, or does not follow the line before")
	}
	if err != nil {
		r.chain = before
		return err
	}
	return r.deliver(before.seq)
}

// matches reports whether CHECK, a JSON string, is the beginning of the hash of the last line.
func (r *reader) matches(check []byte) bool {
	const last = checkLength + 1
	return len(check) == last+1 && check[0] == '"' && check[last] == '"' &&
		bytes.Equal(check[1:last], r.head[:checkLength])
}

// deliver passes the plain lines after line number seq on.
func (r *reader) deliver(seq int64) error {
	begin := 0
	for i, end := range r.ends {
		if err := r.pass(seq+int64(i)+1, r.lines[begin:end]); err != nil {
			return err
		}
		begin = end
	}
	return nil
}

// split divides a stored line into its fields.
func (r *reader) split(text []byte) error {
	r.fields = r.fields[:0]
	if len(text) < 2 || text[0] != '[' || text[len(text)-1] != ']' {
		return errNotRecord
	}
	for rest := text[1:]; len(rest) > 0; {
		n, err := fieldLength(rest)
		if err != nil || n >= len(rest) || n == 0 || rest[n] != ',' && rest[n] != ']' ||
			rest[n] == ']' && n+1 != len(rest) || len(r.fields) > 15 {
			return errNotRecord
		}
		r.fields = append(r.fields, rest[:n])
		rest = rest[n+1:]
	}
	if len(r.fields) < 3 || len(r.fields[1]) < 2 {
		return errNotRecord
	}
	return r.time(r.fields[1])
}

// fieldLength returns the length of the JSON string or number at the beginning of a text. A
// string must be as appendText writes it.
func fieldLength(text []byte) (int, error) {
	if text[0] != '"' {
		n := bytes.IndexAny(text, ",]")
		return max(n, 0), nil
	}
	usual := true
	for n := 1; n < len(text); n++ {
		switch c := text[n]; {
		case c == '"':
			if usual {
				return n + 1, nil
			}
			return n + 1, escaped(text[:n+1])
		case c == '\\' && n+1 < len(text):
			n++
			usual = usual && (text[n] == '"' || text[n] == '\\')
		case !verbatim(c):
			usual = false
		}
	}
	return 0, errNotRecord
}

// escaped returns an error if a JSON string is not as appendText writes it.
func escaped(text []byte) error {
	var s string
	if !utf8.Valid(text) || json.Unmarshal(text, &s) != nil ||
		!bytes.Equal(appendText(nil, s), text) {
		return errNotRecord
	}
	return nil
}

// time checks the time of a line.
func (r *reader) time(text []byte) error {
	if bytes.Equal(text, r.at) {
		return nil
	}
	at, err := time.Parse(`"`+time.RFC3339Nano+`"`, string(text))
	if err != nil || !bytes.Equal(appendTime(nil, at), text) {
		return errNotRecord
	}
	r.at = append(r.at[:0], text...)
	return nil
}

// members rebuilds the common members of an intent and its second line from the fields.
func (r *reader) members() error {
	f := r.fields[2:11]
	if pass, err := strconv.Atoi(string(f[0])); err != nil || strconv.Itoa(pass) != string(f[0]) {
		return errNotRecord
	}
	var names [3][]byte
	for i, at := range [...]int{1, 4, 5} {
		var err error
		if names[i], err = r.name(f[at]); err != nil {
			return err
		}
	}
	for _, at := range [...]int{2, 3, 6, 7, 8} {
		if f[at][0] != '"' {
			return errNotRecord
		}
	}
	text := append(append(r.change[:0], `,"pass":`...), f[0]...)
	text = append(append(text, `,"target":`...), names[0]...)
	text = append(append(text, `,"ref":`...), f[2]...)
	text = append(append(text, `,"path":`...), f[3]...)
	text = append(append(text, `,"from_key":`...), names[1]...)
	text = append(append(text, `,"to_key":`...), names[2]...)
	text = append(append(text, `,"before_sha256":`...), f[6]...)
	text = append(append(text, `,"after_sha256":`...), f[7]...)
	if len(f[8]) > 2 {
		text = append(append(text, `,"binding_sha256":`...), f[8]...)
	}
	r.change = text
	return nil
}

// intent reads an intent.
func (r *reader) intent() error {
	if err := r.members(); err != nil {
		return err
	}
	request := r.fields[11]
	from, err := r.name(r.fields[12])
	if err != nil || request[0] != '"' {
		return errNotRecord
	}
	to, err := r.name(r.fields[13])
	if err != nil {
		return err
	}
	r.emit(eventIntent, func(line []byte) []byte {
		line = append(line, r.change...)
		for _, member := range [...]struct {
			name  string
			value []byte
		}{{`,"request_id":`, request}, {`,"from_material":`, from}, {`,"to_material":`, to}} {
			if len(member.value) > 2 {
				line = append(append(line, member.name...), member.value...)
			}
		}
		return line
	})
	r.intend(r.seq, r.change)
	return nil
}

// ranges reads the second lines of intents.
func (r *reader) ranges(field []byte) (err error) {
	if len(field) < 3 || field[0] != '"' {
		return errNotRecord
	}
	if r.numbers, err = parseRanges(r.numbers[:0], field[1:len(field)-1]); err != nil {
		return err
	}
	for _, intent := range r.numbers {
		change, ok := r.intents[intent]
		if !ok {
			return fmt.Errorf("it confirms line %d, which is not an open intent", intent)
		}
		r.emit(eventRotated, func(line []byte) []byte { return append(line, change...) })
		r.forget(intent)
	}
	return nil
}

// emit rebuilds the next plain line. members appends the members between "at" and "prev".
func (r *reader) emit(event string, members func(line []byte) []byte) {
	start := len(r.lines)
	r.lines = r.link(members(r.begin(r.lines, event, r.fields[1])), start)
	r.ends = append(r.ends, len(r.lines))
	r.plain += int64(len(r.lines) - start)
	r.forget(r.seq - window)
}

// hashOf returns the hash of a plain line with its newline.
func hashOf(text []byte) []byte {
	end := len(text) - len("\"}\n")
	return text[end-hashLength : end]
}

// continues reports whether an incomplete text is the beginning of the line after the last
// one. A file system may have left zeros after it when the power failed.
func (r *reader) continues(text []byte) bool {
	if r.old {
		return begins(text, r.seq+1)
	}
	text = bytes.TrimRight(text, "\x00")
	for _, kind := range [...]string{`["l","`, `["i","`, `["r","`, `["w","`} {
		if bytes.HasPrefix(text, []byte(kind)) || bytes.HasPrefix([]byte(kind), text) {
			return true
		}
	}
	return false
}
