// Package document defines the report document: everything that rotator knows about a job, as one
// value. All forms of a report are renderings of a document, and depend on nothing else. The
// package reads saved documents, checks them, compares two of them, and merges several.
package document

import (
	"encoding/json"
	"io"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/copies"
	"rotator/internal/report"
	"rotator/internal/verdict"
)

// Schema is the version of the document, MAJOR.MINOR. A minor version only adds members.
const Schema = "1.1"

// Kind is the value of Document.Kind.
const Kind = "rotator.report"

// Document is a report. Its JSON members are those of a result (report.Summary) and those below.
// The names of the members are part of the public interface (docs/json.md).
type Document struct {
	Schema    string    `json:"schema"`
	Kind      string    `json:"kind" jsonschema:"enum=rotator.report"`
	Generated time.Time `json:"generated"`
	report.Summary
	// Inventory counts the slots by target and key.
	Inventory []Holding `json:"inventory"`
	// Passes are the stored passes of the job in the order of time. The last one that is marked
	// as Reported is the pass of this report.
	Passes     []Pass     `json:"passes"`
	Exceptions Exceptions `json:"exceptions"`
	// Copies are the copies of old ciphertexts. It is nil if AWS was not asked.
	Copies      []copies.Row `json:"copies" jsonschema:"nullable"`
	CopiesAsked time.Time    `json:"copies_asked,omitzero"`
	// LastMove is a time after which rotator moved no ciphertext, if it is known.
	LastMove time.Time `json:"last_move,omitzero"`
	// KeyUse is the use of the source keys. It is absent if AWS was not asked.
	KeyUse []KeyUse `json:"key_use,omitempty"`
	// Bound states how many headers can be wrong: the joint bound of the samples of all runs and
	// of all merged reports. It is absent if no header decided the key of a slot.
	Bound    *verdict.Sample `json:"header_bound,omitempty"`
	Scope    Scope           `json:"scope"`
	Timeline []Point         `json:"timeline"`
	Logs     []Log           `json:"logs"`
	// Parts are the reports from which this one was merged.
	Parts []Part `json:"parts,omitempty"`
}

// Holding counts the slots of one target under one key.
type Holding struct {
	Job    string `json:"job,omitempty"` // of a merged report
	Key    string `json:"key"`           // ARN; "" if the key of the slots is not known
	Alias  string `json:"alias,omitempty"`
	Role   Role   `json:"role" jsonschema:"enum=source,enum=destination,enum=foreign,enum=none"`
	Target string `json:"target"`
	Place  string `json:"place"`
	Kind   string `json:"kind,omitempty"` // of the place
	Format string `json:"format,omitempty"`
	// Before counts the slots that the first complete pass found. It is nil if no other pass is
	// known. After counts them after the pass of the report.
	Before *int64 `json:"before" jsonschema:"nullable"`
	After  int64  `json:"after"`
	// ByHeader counts those slots that the pass found under the key by their header alone. Found
	// counts all slots that the pass found under it.
	Found    int64 `json:"found"`
	ByHeader int64 `json:"by_header"`
}

// ByKMS counts the slots that the pass found under the key because KMS named it.
func (h Holding) ByKMS() int64 {
	if h.Key == "" {
		return 0
	}
	return h.Found - h.ByHeader
}

// Role is what a key is for the job.
type Role string

// The roles.
const (
	Source      Role = "source"
	Destination Role = "destination"
	Foreign     Role = "foreign"
	NoKey       Role = "none" // the key of the slots is not known
)

// Pass is one stored pass.
type Pass struct {
	Job      string    `json:"job,omitempty"` // of a merged report
	Kind     string    `json:"kind"`          // "pass" or "read-only pass"
	Number   int       `json:"number"`        // 0 if it is not stored
	Command  string    `json:"command"`
	Status   string    `json:"status"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended,omitzero"`
	Caller   string    `json:"caller,omitempty"`
	Account  string    `json:"account,omitempty"`
	Hosts    []string  `json:"hosts,omitempty"`
	Version  string    `json:"version,omitempty"`
	Exact    bool      `json:"exact,omitempty"`
	OtherJob bool      `json:"other_job,omitempty"` // the job file had another meaning
	Reported bool      `json:"reported,omitempty"`  // this report is about the pass
	// Slots and KMS are as in a result. Found counts the slots under a source key as the pass
	// found them, and Left those after the pass.
	Slots report.Slots `json:"slots"`
	KMS   report.KMS   `json:"kms"`
	Found int64        `json:"found"`
	Left  int64        `json:"left"`
}

// MaxListed is the maximum number of exceptions in a document.
const MaxListed = 200

// Exceptions are the slots that are failed, foreign or in conflict.
type Exceptions struct {
	Total int64 `json:"total"`
	// Listed are at most MaxListed of them, and LeftOut counts the others.
	Listed  []checkpoint.LedgerEntry `json:"listed"`
	LeftOut int64                    `json:"left_out"`
}

// Scope states what the report covers.
type Scope struct {
	LookedAt    []string `json:"looked_at"`
	NotLookedAt []string `json:"not_looked_at"`
	CannotSee   []string `json:"cannot_see"`
}

// Point is a number of slots under the source keys at some time.
type Point struct {
	At    time.Time `json:"at"`
	Under int64     `json:"under_source"`
	Moved int64     `json:"moved"` // by all passes until then
	Pass  int       `json:"pass"`  // index in Passes
}

// Log describes an audit log as the checkpoint has recorded it.
type Log struct {
	Job   string `json:"job,omitempty"` // of a merged report
	Pass  int    `json:"pass"`
	Host  string `json:"host"`
	Name  string `json:"name"`
	Lines int64  `json:"lines"`
	Head  string `json:"head"` // hash of the last line
}

// Part is one report of a merged report.
type Part struct {
	File      string    `json:"file"`
	Job       string    `json:"job"`
	Account   string    `json:"account,omitempty"`
	Command   string    `json:"command"`
	Generated time.Time `json:"generated"`
	AsOf      time.Time `json:"as_of"`
	Slots     int64     `json:"slots"`
}

// JSON writes the document as one indented JSON object.
func (d *Document) JSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(d)
}

// ContentSentences states for each target with a content digest what it shows.
func (d *Document) ContentSentences() []string { return report.ContentSentences(d.Targets) }

// RoleOf returns the role of a key.
func (d *Document) RoleOf(arn string) Role {
	switch {
	case arn == "":
		return NoKey
	case arn == d.DestinationKey:
		return Destination
	}
	for _, k := range d.SourceKeys {
		if k.Key == arn {
			return Source
		}
	}
	return Foreign
}

// AliasOf returns the name of a source key in the job file, or "".
func (d *Document) AliasOf(arn string) string {
	for _, k := range d.SourceKeys {
		if k.Key == arn && k.Given != arn {
			return k.Given
		}
	}
	return ""
}
