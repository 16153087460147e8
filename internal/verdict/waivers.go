package verdict

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Waiver states that one failed slot does not block a verdict. It counts only while the slot has
// the same ciphertext, and until its date has passed.
type Waiver struct {
	Target, Ref, Path string
	Blob              string // SHA-256 of the ciphertext in hexadecimal
	Reason, By        string
	Until             time.Time // it counts before this time
	Line              int       // in its file
}

// Waived is a failed slot that a waiver covers.
type Waived struct {
	Target string    `json:"target"`
	Ref    string    `json:"ref"`
	Path   string    `json:"path"`
	Blob   string    `json:"blob_sha256"`
	Reason string    `json:"reason"` // of the waiver
	By     string    `json:"by"`
	Until  time.Time `json:"until"`

	class class
}

// Exception is one failed slot of a pass.
type Exception struct {
	Target, Ref, Path string
	Blob              string // as in Waiver; "" if no ciphertext could be read
	Origin            string // as in Target.Origins
}

// address is where a slot is.
type address struct{ target, ref, path string }

func (w Waiver) address() address    { return address{w.Target, w.Ref, w.Path} }
func (e Exception) address() address { return address{e.Target, e.Ref, e.Path} }

// covers reports whether the waiver counts for a slot. A slot without a digest cannot be waived,
// because its content may have changed.
func (w Waiver) covers(e Exception, now time.Time) bool {
	return w.address() == e.address() && e.Blob != "" && w.Blob == e.Blob && now.Before(w.Until)
}

// waivedOf returns the slots of a pass that may be under a key and that waivers cover.
func waivedOf(p *Pass, key Key, waivers []Waiver, now time.Time) (list []Waived) {
	for _, e := range p.Exceptions {
		class := key.classOf(e.Origin)
		if class == classOther || class == classNoKey {
			continue
		}
		i := slices.IndexFunc(waivers, func(w Waiver) bool { return w.covers(e, now) })
		if i < 0 {
			continue
		}
		w := waivers[i]
		list = append(list, Waived{
			Target: w.Target,
			Ref:    w.Ref,
			Path:   w.Path,
			Blob:   w.Blob,
			Reason: w.Reason,
			By:     w.By,
			Until:  w.Until,
			class:  class,
		})
	}
	return list
}

// NotesOn returns a note for each waiver that has no effect: its date has passed, the slot has
// another ciphertext, or no such slot failed.
func NotesOn(waivers []Waiver, failed []Exception, now time.Time) (notes []string) {
	at := map[address][]Exception{}
	for _, e := range failed {
		at[e.address()] = append(at[e.address()], e)
	}
	for _, w := range waivers {
		same := func(e Exception) bool { return e.Blob == w.Blob }
		list := at[w.address()]
		why := ""
		switch {
		case !now.Before(w.Until):
			why = "its date has passed"
		case len(list) == 0:
			why = "no such slot failed"
		case !slices.ContainsFunc(list, same):
			why = "the slot now has another value than the one that was waived"
		}
		if why != "" {
			notes = append(notes, fmt.Sprintf("the waiver on line %d has no effect (%s %s %s): %s",
				w.Line, w.Target, w.Ref, w.Path, why))
		}
	}
	return notes
}

// Limits of a file of waivers.
const (
	maxWaiverBytes   = 16 << 20
	maxWaiverErrors  = 20
	maxWaiverRecords = 100_000
)

// columns are the columns of a file of waivers, in this order.
func columns() []string {
	return []string{"target", "ref", "path", "blob_sha256", "reason", "by", "until"}
}

// LineError is a mistake in a file of waivers.
type LineError struct {
	Line   int // from 1
	Detail string
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Detail) }

// ReadWaivers reads a CSV file (RFC 4180) with a header line. The error joins a *LineError for each
// of the first mistakes.
func ReadWaivers(r io.Reader) ([]Waiver, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxWaiverBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxWaiverBytes:
		return nil, &LineError{1, fmt.Sprintf("the file is larger than %d bytes", maxWaiverBytes)}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if !utf8.Valid(data) {
		return nil, &LineError{lineOfInvalid(data), "it is not UTF-8; save the file as UTF-8"}
	}
	reader := csv.NewReader(bytes.NewReader(data))
	reader.FieldsPerRecord = -1
	header, err := reader.Read()
	if errors.Is(err, io.EOF) {
		return nil, &LineError{1, "the file is empty; it must begin with the line " +
			strings.Join(columns(), ",")}
	}
	if err != nil {
		return nil, lineError(err)
	}
	if !slices.Equal(header, columns()) {
		line, _ := reader.FieldPos(0)
		return nil, &LineError{line, "the first line must be " + strings.Join(columns(), ",")}
	}
	return readRecords(reader)
}

// readRecords reads the lines after the header.
func readRecords(reader *csv.Reader) (waivers []Waiver, err error) {
	var mistakes []error
	lines := map[Waiver]int{}
	for len(mistakes) < maxWaiverErrors {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.Join(append(mistakes, lineError(err))...)
		}
		line, _ := reader.FieldPos(0)
		w, wrong := parseWaiver(record)
		identity := Waiver{Target: w.Target, Ref: w.Ref, Path: w.Path, Blob: w.Blob}
		earlier, twice := lines[identity]
		switch {
		case wrong != "":
		case twice:
			wrong = fmt.Sprintf("line %d waives the same ciphertext", earlier)
		case len(waivers) == maxWaiverRecords:
			wrong = fmt.Sprintf("the file has more than %d waivers", maxWaiverRecords)
		}
		if wrong != "" {
			mistakes = append(mistakes, &LineError{line, wrong})
			continue
		}
		lines[identity] = line
		w.Line = line
		waivers = append(waivers, w)
	}
	return waivers, errors.Join(mistakes...)
}

// parseWaiver parses one record. wrong describes a mistake, or is "".
func parseWaiver(record []string) (w Waiver, wrong string) {
	if len(record) != len(columns()) {
		return w, fmt.Sprintf("it has %d fields, but must have %d (%s)", len(record),
			len(columns()), strings.Join(columns(), ","))
	}
	w = Waiver{
		Target: record[0],
		Ref:    record[1],
		Path:   record[2],
		Blob:   record[3],
		Reason: record[4],
		By:     record[5],
	}
	for i, name := range columns() {
		if name != "path" && strings.TrimSpace(record[i]) == "" {
			return w, name + " is empty"
		}
	}
	if digest, err := hex.DecodeString(w.Blob); err != nil || len(digest) != 32 ||
		strings.ToLower(w.Blob) != w.Blob {
		return w, "blob_sha256 must have 64 hexadecimal digits in lower case, as in the ledger"
	}
	w.Until, wrong = parseUntil(record[6])
	return w, wrong
}

// parseUntil parses a date, which counts to its end in UTC, or a time.
func parseUntil(text string) (until time.Time, wrong string) {
	if date, err := time.Parse(time.DateOnly, text); err == nil {
		return date.AddDate(0, 0, 1), ""
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at.UTC(), ""
	}
	return until, fmt.Sprintf("until is %q, but must be a date such as 2027-01-31 or a time such "+
		"as 2027-01-31T12:00:00Z", text)
}

// lineError returns an error of the CSV reader as a *LineError.
func lineError(err error) error {
	if parse := (*csv.ParseError)(nil); errors.As(err, &parse) {
		return &LineError{parse.Line, fmt.Sprintf("it is not CSV: %v (column %d)", parse.Err,
			parse.Column)}
	}
	return err
}

// lineOfInvalid returns the line of the first bytes that are not UTF-8.
func lineOfInvalid(data []byte) int {
	valid := bytes.ToValidUTF8(data, []byte{0})
	at := 0
	for at < len(valid) && at < len(data) && valid[at] == data[at] {
		at++
	}
	return 1 + bytes.Count(data[:at], []byte("\n"))
}
