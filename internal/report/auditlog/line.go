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
	"rotator/internal/reencrypt"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// line is one plain line, without its hash.
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
	// The members of rotate.Record.Origin are only in intents. Lines of older versions have
	// none.
	Request      string `json:"request_id,omitempty"`
	FromMaterial string `json:"from_material,omitempty"`
	ToMaterial   string `json:"to_material,omitempty"`
	Prev         string `json:"prev"`
	Job          string `json:"job,omitempty"` // only in the first line
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
		Origin: reencrypt.Origin{
			RequestID:    l.Request,
			FromMaterial: l.FromMaterial,
			ToMaterial:   l.ToMaterial,
		},
	}
}

// The values of line.Event.
const (
	eventLog     = "log" // the first line, which names the job
	eventIntent  = "intent"
	eventRotated = "rotated"
)

// hashLength is the length of a hash in a line: a SHA-256 in hexadecimal.
const hashLength = 2 * sha256.Size

// genesis is the "prev" of the first line.
const genesis = "0000000000000000000000000000000000000000000000000000000000000000"

// hashMark is the start of the last member of a line.
const hashMark = `,"hash":"`

// chain is the end of a chain of plain lines.
type chain struct {
	seq  int64 // number of the last line; 0 for none
	head [hashLength]byte
}

// newChain returns the end of a chain after line number seq, which has the given hash.
func newChain(seq int64, head string) chain {
	c := chain{seq: seq}
	copy(c.head[:], head)
	return c
}

// begin appends the start of the plain line after the chain. at is a JSON string.
func (c *chain) begin(text []byte, event string, at []byte) []byte {
	text = appendLineStart(text, c.seq+1)
	text = append(append(text, event...), `","at":`...)
	return append(text, at...)
}

// link completes the plain line that starts at text[start] with "prev", "hash" and a newline,
// and adds it to the chain.
func (c *chain) link(text []byte, start int) []byte {
	text = append(append(append(text, `,"prev":"`...), c.head[:]...), `"}`...)
	sum := sha256.Sum256(text[start:])
	hex.Encode(c.head[:], sum[:])
	c.seq++
	text = append(append(text[:len(text)-1], hashMark...), c.head[:]...)
	return append(text, "\"}\n"...)
}

// valid returns an error for a record that JSON cannot represent exactly. The path is only
// for messages and may have been truncated within a character.
func valid(r rotate.Record) error {
	for _, field := range [...]string{
		r.Target, string(r.Ref), r.From, r.To, r.Before, r.After, r.Binding,
		r.Origin.RequestID, r.Origin.FromMaterial, r.Origin.ToMaterial,
	} {
		if !utf8.ValidString(field) {
			return fmt.Errorf("encode an audit record: %q is not UTF-8", field)
		}
	}
	if year := r.At.Year(); year < 0 || year > 9999 { // RFC 3339 has four digits for it
		return fmt.Errorf("encode an audit record: the year %d", year)
	}
	return nil
}

// appendTime appends a time as a JSON string.
func appendTime(text []byte, at time.Time) []byte {
	return append(at.AppendFormat(append(text, '"'), time.RFC3339Nano), '"')
}

// appendChange appends the members that an intent and its second line have in common, as
// json.Marshal encodes them. It does not use reflection, because a run writes two lines per
// slot.
func appendChange(text []byte, r *rotate.Record) []byte {
	text = strconv.AppendInt(append(text, `,"pass":`...), int64(r.Pass), 10)
	text = appendText(append(text, `,"target":`...), r.Target)
	text = appendText(append(text, `,"ref":`...), string(r.Ref))
	text = appendPath(append(text, `,"path":`...), r.Path)
	text = appendText(append(text, `,"from_key":`...), r.From)
	text = appendText(append(text, `,"to_key":`...), r.To)
	text = appendText(append(text, `,"before_sha256":`...), r.Before)
	text = appendText(append(text, `,"after_sha256":`...), r.After)
	if r.Binding != "" {
		text = appendText(append(text, `,"binding_sha256":`...), r.Binding)
	}
	return text
}

// appendOrigin appends the members that only an intent has.
func appendOrigin(text []byte, o *reencrypt.Origin) []byte {
	if o.RequestID != "" {
		text = appendText(append(text, `,"request_id":`...), o.RequestID)
	}
	if o.FromMaterial != "" {
		text = appendText(append(text, `,"from_material":`...), o.FromMaterial)
	}
	if o.ToMaterial != "" {
		text = appendText(append(text, `,"to_material":`...), o.ToMaterial)
	}
	return text
}

// appendText appends a string as json.Marshal encodes it, with additional escapes.
func appendText(text []byte, s string) []byte {
	for i := range len(s) {
		if !verbatim(s[i]) {
			return printable.AppendJSON(text, s)
		}
	}
	return append(append(append(text, '"'), s...), '"')
}

// appendPath appends a path, which may end within a character.
func appendPath(text []byte, path string) []byte {
	return appendText(text, strings.ToValidUTF8(path, "\ufffd"))
}

// verbatim reports whether a byte of a string is the same in JSON.
func verbatim(c byte) bool {
	return c >= 0x20 && c <= 0x7e && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
}

// appendLineStart appends the beginning of plain line number seq.
func appendLineStart(text []byte, seq int64) []byte {
	text = strconv.AppendInt(append(text, `{"seq":`...), seq, 10)
	return append(text, `,"event":"`...)
}

// lineStart returns the beginning of plain line number seq.
func lineStart(seq int64) string { return string(appendLineStart(nil, seq)) }

// parse parses a plain line, without the newline, and verifies its hash.
func parse(text []byte) (record line, hash string, err error) {
	body, hash, err := hashed(text)
	if err != nil {
		return line{}, "", err
	}
	if err := json.Unmarshal(body, &record); err != nil {
		return line{}, "", errors.New("it is not a record")
	}
	return record, hash, nil
}

// hashed verifies the hash of a line of JSON whose last member is its hash. It returns the
// line without the hash.
func hashed(text []byte) (body []byte, hash string, err error) {
	const tail = len(hashMark) + hashLength + len(`"}`)
	at := len(text) - tail
	if at < 1 || !bytes.HasPrefix(text[at:], []byte(hashMark)) ||
		!bytes.HasSuffix(text, []byte(`"}`)) {
		return nil, "", errors.New("it does not end with its hash")
	}
	body = append(bytes.Clone(text[:at]), '}')
	hash = string(text[at+len(hashMark) : len(text)-2])
	sum := sha256.Sum256(body)
	if hash != hex.EncodeToString(sum[:]) {
		return nil, "", errors.New("it does not match its own hash")
	}
	return body, hash, nil
}

// follows returns an error if a line does not follow the end of a chain.
func (l line) follows(c *chain) error {
	switch {
	case l.Seq != c.seq+1:
		return fmt.Errorf("its number is %d", l.Seq)
	case l.Prev != string(c.head[:]):
		return errors.New("it does not follow the line before")
	}
	return nil
}

// appendHash adds the hash to the line of JSON that starts at text[begin], and a newline.
func appendHash(text []byte, begin int) []byte {
	sum := sha256.Sum256(text[begin:])
	text = append(text[:len(text)-1], hashMark...)
	return append(hex.AppendEncode(text, sum[:]), "\"}\n"...)
}
