package checkpoint

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// schema is the version of the records that this program writes. It reads no other.
const schema = 2

// envelope is the stored form of every record: its kind, its schema, and its content
// with a checksum.
type envelope struct {
	Kind    string          `json:"kind"`
	Schema  int             `json:"schema"`
	SHA256  string          `json:"sha256"`
	Content json.RawMessage `json:"content"`
}

// CorruptError means that a record exists but is damaged. It is never treated as
// absent.
type CorruptError struct {
	ID     string
	Detail string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("record %s of the checkpoint is corrupt: %s; restore the checkpoint, "+
		"or begin a new pass with rotator run --restart, which keeps the record "+
		"(slots already moved are recognised)", e.ID, e.Detail)
}

// SchemaError means that another version of rotator wrote the record.
type SchemaError struct {
	ID     string
	Schema int
	Known  int // the last version that this program reads; 0 means schema
}

// Newer reports whether a newer program wrote the record.
func (e *SchemaError) Newer() bool { return e.Schema > e.known() }

func (e *SchemaError) known() int { return cmp.Or(e.Known, schema) }

func (e *SchemaError) Error() string {
	which := "newer"
	if !e.Newer() {
		which = "older"
	}
	return fmt.Sprintf("record %s of the checkpoint has schema %d, but this version of rotator "+
		"reads schema %d: finish the pass with the %s rotator, or begin a new one with rotator "+
		"run --restart, which keeps the record", e.ID, e.Schema, e.known(), which)
}

// IsUnreadable reports whether err means that a record exists and cannot be used.
func IsUnreadable(err error) bool {
	var corrupt *CorruptError
	var other *SchemaError
	return errors.As(err, &corrupt) || errors.As(err, &other)
}

// IsNewer reports whether err means that a newer program wrote a record.
func IsNewer(err error) bool {
	var other *SchemaError
	return errors.As(err, &other) && other.Newer()
}

// Encode returns the stored form of a record whose content is v.
func Encode(kind string, v any) ([]byte, error) {
	content, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", kind, err)
	}
	sum := sha256.Sum256(content)
	return json.Marshal(envelope{
		Kind:    kind,
		Schema:  schema,
		SHA256:  hex.EncodeToString(sum[:]),
		Content: content,
	})
}

// Decode decodes the content of a record of a kind into v. The id is for messages.
// The error is a *CorruptError or a *SchemaError.
func Decode(id, kind string, data []byte, v any) error {
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return &CorruptError{ID: id, Detail: "its content is not a record"}
	}
	sum := sha256.Sum256(e.Content)
	switch {
	case e.Schema < 1:
		return &CorruptError{ID: id, Detail: "it has no schema"}
	case e.Schema != schema:
		return &SchemaError{ID: id, Schema: e.Schema}
	case e.Kind != kind:
		detail := fmt.Sprintf("its kind is %q instead of %q", e.Kind, kind)
		return &CorruptError{ID: id, Detail: detail}
	case e.SHA256 != hex.EncodeToString(sum[:]):
		return &CorruptError{ID: id, Detail: "its checksum does not match"}
	}
	if again, err := json.Marshal(e); err != nil || !bytes.Equal(again, data) {
		return &CorruptError{ID: id, Detail: "its encoding is not that of a record"}
	}
	if err := json.Unmarshal(e.Content, v); err != nil {
		return &CorruptError{ID: id, Detail: "its content does not match its kind"}
	}
	return nil
}
