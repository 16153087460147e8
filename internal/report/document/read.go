package document

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxSize is the maximum size of a saved document in bytes.
const maxSize = 64 << 20

// ReadError is the error of a saved document that cannot be used.
type ReadError struct {
	File   string // "" if it is not known
	Detail string
}

func (e *ReadError) Error() string {
	if e.File == "" {
		return e.Detail
	}
	return e.File + ": " + e.Detail
}

// Read reads a saved document and checks its figures. The error is a *ReadError with the name, or
// the error of r.
func Read(name string, r io.Reader) (*Document, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return nil, err
	}
	refuse := func(format string, args ...any) (*Document, error) {
		return nil, &ReadError{File: name, Detail: fmt.Sprintf(format, args...)}
	}
	if len(data) > maxSize {
		return refuse("it is larger than %d bytes, so it is not a report", maxSize)
	}
	if why := malformed(data); why != "" {
		return refuse("%s", why)
	}
	var head struct {
		Schema, Kind json.RawMessage
		Slots        json.RawMessage `json:"slots"`
	}
	if json.Unmarshal(data, &head) != nil {
		return refuse("it is not a JSON object, so it is not a report")
	}
	if why := foreign(head.Schema, head.Kind); why != "" {
		return refuse("%s", why)
	}
	d := &Document{}
	if err := json.Unmarshal(data, d); err != nil {
		return refuse("%s", mismatch(err))
	}
	if err := d.Check(); err != nil {
		return refuse("it cannot be used: %v", err)
	}
	return d, nil
}

// malformed returns why a text is not one JSON value, with an offset, or "".
func malformed(data []byte) string {
	if len(data) == 0 {
		return "the file is empty"
	}
	var syntax *json.SyntaxError
	var value json.RawMessage
	err := json.Unmarshal(data, &value)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &syntax) && syntax.Offset >= int64(len(data)):
		return fmt.Sprintf("it is truncated: the JSON ends at byte %d, within a value", len(data))
	case errors.As(err, &syntax):
		return fmt.Sprintf("it is not JSON: at byte %d: %v", syntax.Offset, err)
	}
	return fmt.Sprintf("it is not JSON: %v", err)
}

// foreign returns why a document is not one that this version reads, or "".
func foreign(schema, kind json.RawMessage) string {
	var of, version string
	if json.Unmarshal(kind, &of) != nil || of != Kind {
		if kind == nil {
			return fmt.Sprintf("it is not a report: it has no member kind with the value %q; save "+
				"one with rotator report -o json", Kind)
		}
		return fmt.Sprintf("it is not a report: its kind is %s, not %q", kind, Kind)
	}
	if json.Unmarshal(schema, &version) != nil {
		return "it has no version of the schema"
	}
	major, _, found := strings.Cut(version, ".")
	number, err := strconv.Atoi(major)
	own, _, _ := strings.Cut(Schema, ".")
	switch {
	case !found || err != nil || number < 1:
		return fmt.Sprintf("its version of the schema, %q, is not MAJOR.MINOR", version)
	case major != own:
		return fmt.Sprintf("it was made by a newer rotator: its schema is %s, and this rotator "+
			"reads %s.x", version, own)
	}
	return ""
}

// mismatch describes a value of another type than the document has.
func mismatch(err error) string {
	var typed *json.UnmarshalTypeError
	if errors.As(err, &typed) {
		return fmt.Sprintf("at byte %d: %s is a JSON %s", typed.Offset, typed.Field, typed.Value)
	}
	return err.Error()
}
