package auditlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"rotator/internal/printable"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// line is one record, without its hash.
type line struct {
	Seq    int64     `json:"seq"` // from 1
	Event  string    `json:"event"`
	At     time.Time `json:"at"`
	Pass   int       `json:"pass"`
	Target string    `json:"target"`
	Ref    string    `json:"ref"`
	Path   string    `json:"path"`
	From   string    `json:"from_key"`
	To     string    `json:"to_key"`
	Before string    `json:"before_sha256"`
	After  string    `json:"after_sha256"`
	// Binding binds the line to its pass (rotate.Record). Lines of older versions have none.
	Binding string `json:"binding_sha256,omitempty"`
	Prev    string `json:"prev"`
	Job     string `json:"job,omitempty"` // only in the first line
}

// lineOf returns the line of a record.
func lineOf(r rotate.Record, event string, seq int64, prev string) line {
	return line{
		Seq:     seq,
		Event:   event,
		At:      r.At,
		Pass:    r.Pass,
		Target:  r.Target,
		Ref:     string(r.Ref),
		Path:    r.Path,
		From:    r.From,
		To:      r.To,
		Before:  r.Before,
		After:   r.After,
		Binding: r.Binding,
		Prev:    prev,
	}
}

// record returns the record of a line.
func (l line) record() rotate.Record {
	return rotate.Record{
		At:      l.At,
		Pass:    l.Pass,
		Target:  l.Target,
		Ref:     scan.Ref(l.Ref),
		Path:    l.Path,
		From:    l.From,
		To:      l.To,
		Before:  l.Before,
		After:   l.After,
		Binding: l.Binding,
	}
}

// The values of line.Event.
const (
	eventLog     = "log" // the first line, which names the job
	eventIntent  = "intent"
	eventRotated = "rotated"
)

// genesis is the "prev" of the first line.
const genesis = "0000000000000000000000000000000000000000000000000000000000000000"

// hashMark is the start of the last member of a line.
const hashMark = `,"hash":"`

// bind appends the text of a line, including the newline, and returns its hash. It refuses
// values that JSON cannot represent exactly, except for the path, which is only for messages
// and may have been truncated within a character.
func bind(text []byte, record line) (longer []byte, hash string, err error) {
	if !utf8.ValidString(record.Path) {
		record.Path = strings.ToValidUTF8(record.Path, "\ufffd")
	}
	for _, field := range [...]string{
		record.Target, record.Ref, record.From, record.To, record.Before, record.After,
		record.Binding,
	} {
		if !utf8.ValidString(field) {
			return text, "", fmt.Errorf("encode an audit record: %q is not UTF-8", field)
		}
	}
	if year := record.At.Year(); year < 0 || year > 9999 { // RFC 3339 has four digits for it
		return text, "", fmt.Errorf("encode an audit record: the year %d", year)
	}
	begin := len(text)
	text, hash = appendHash(appendLine(text, &record), begin)
	return text, hash, nil
}

// bindFirst appends the text of the first line of the log of a job, and returns its hash.
func bindFirst(text []byte, job string, at time.Time) (longer []byte, hash string) {
	begin := len(text)
	text = append(append(append(text, lineStart(1)...), eventLog...), `","at":"`...)
	text = at.AppendFormat(text, time.RFC3339Nano)
	text = appendText(append(text, `","job":`...), job)
	text = appendText(append(text, `,"prev":`...), genesis)
	return appendHash(append(text, '}'), begin)
}

// appendHash adds the hash to the line that starts at text[begin], and a newline.
func appendHash(text []byte, begin int) (longer []byte, hash string) {
	sum := sha256.Sum256(text[begin:])
	text = append(text[:len(text)-1], hashMark...)
	at := len(text)
	text = hex.AppendEncode(text, sum[:])
	return append(text, "\"}\n"...), string(text[at:])
}

// appendLine appends a line as json.Marshal encodes it. It does not use reflection, because a
// run writes two lines per slot.
func appendLine(text []byte, l *line) []byte {
	text = strconv.AppendInt(append(text, `{"seq":`...), l.Seq, 10)
	text = appendText(append(text, `,"event":`...), l.Event)
	text = l.At.AppendFormat(append(text, `,"at":"`...), time.RFC3339Nano)
	text = strconv.AppendInt(append(text, `","pass":`...), int64(l.Pass), 10)
	text = appendText(append(text, `,"target":`...), l.Target)
	text = appendText(append(text, `,"ref":`...), l.Ref)
	text = appendText(append(text, `,"path":`...), l.Path)
	text = appendText(append(text, `,"from_key":`...), l.From)
	text = appendText(append(text, `,"to_key":`...), l.To)
	text = appendText(append(text, `,"before_sha256":`...), l.Before)
	text = appendText(append(text, `,"after_sha256":`...), l.After)
	if l.Binding != "" {
		text = appendText(append(text, `,"binding_sha256":`...), l.Binding)
	}
	text = appendText(append(text, `,"prev":`...), l.Prev)
	return append(text, '}')
}

// appendText appends a string as json.Marshal encodes it, with additional escapes.
func appendText(text []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return printable.AppendJSON(text, s)
		}
	}
	return append(append(append(text, '"'), s...), '"')
}

// parse parses a line and verifies its hash.
func parse(text []byte) (record line, hash string, err error) {
	const tail = len(hashMark) + 2*sha256.Size + len(`"}`)
	at := len(text) - tail
	if at < 1 || !bytes.HasPrefix(text[at:], []byte(hashMark)) ||
		!bytes.HasSuffix(text, []byte(`"}`)) {
		return line{}, "", errors.New("it does not end with its hash")
	}
	body := append(bytes.Clone(text[:at]), '}')
	hash = string(text[at+len(hashMark) : len(text)-2])
	sum := sha256.Sum256(body)
	if hash != hex.EncodeToString(sum[:]) {
		return line{}, "", errors.New("it does not match its own hash")
	}
	if err := json.Unmarshal(body, &record); err != nil {
		return line{}, "", errors.New("it is not a record")
	}
	return record, hash, nil
}
