package reencrypt

import (
	"context"
	"fmt"
	"strings"

	"rotator/internal/ciphertext"
	"rotator/internal/kmsblob"
	"rotator/internal/scan"
)

// Verdict is what is known about one slot.
type Verdict struct {
	// Outcome is empty if the slot is to move. blob is then its new ciphertext.
	Outcome        Outcome
	Blob           []byte
	Key            string // ARN of the key of the slot, if known
	Reason, Detail string
	// Header is true if the header of the blob decided, and KMS was not asked.
	Header bool
	// Origin describes the response that Blob comes from.
	Origin Origin
}

// Origin is what KMS reported with a new ciphertext. Each field can be empty.
type Origin struct {
	RequestID    string
	FromMaterial string // ID of the key material that decrypted the slot
	ToMaterial   string // ID of the key material that encrypted the new ciphertext
}

// Moves reports whether the slot is to move.
func (v Verdict) Moves() bool { return v.Outcome == "" }

// Excepted reports whether the slot belongs in the ledger.
func (v Verdict) Excepted() bool {
	return v.Outcome == Failed || v.Outcome == Foreign || v.Outcome == Conflict
}

// Fits reports whether a verdict shows that the job file describes the slot correctly.
func (v Verdict) Fits() bool {
	switch v.Outcome {
	case "", Rotated, Current, Remaining, Conflict:
		return true
	}
	return false
}

// seenBy returns the verdict of a read-only pass, which moves nothing.
func (v Verdict) seenBy(readOnly bool) Verdict {
	if readOnly && v.Moves() {
		return Verdict{Outcome: Remaining, Key: v.Key}
	}
	return v
}

// describe returns the verdict as text.
func (v Verdict) describe() string {
	switch {
	case v.Moves():
		return "it is to be moved, from under " + v.Key
	case v.Reason != "":
		return fmt.Sprintf("%s (%s)", v.Outcome, v.Reason)
	}
	return fmt.Sprintf("%s, under %s", v.Outcome, v.Key)
}

// Decider decides about slots. An error ends the work on the slot without a verdict: it is a
// *StopError, or that of ctx. Its implementations can be called concurrently.
type Decider interface {
	Decide(ctx context.Context, s Subject) (Verdict, error)
}

// Subject is a slot to decide.
type Subject struct {
	ref      scan.Ref
	slot     ciphertext.Slot
	id       SlotID
	class    class
	readable bool // the header of the blob has a token
	readOnly bool // the slot cannot be written
	// ownRequest excludes the response to another slot.
	ownRequest bool
}

// NewSubject returns the Subject for a slot of an item in a target. readOnly states that the
// target cannot be written.
func NewSubject(
	target string, readOnly bool, ref scan.Ref, slot ciphertext.Slot, id SlotID,
) Subject {
	s := Subject{readOnly: readOnly, ref: ref, slot: slot, id: id}
	s.class.target, s.class.rule = target, slot.Rule
	if slot.Refused == nil {
		s.class.token, s.readable = kmsblob.ReadToken(slot.Blob)
	}
	return s
}

// MaxPath is the maximum length of a path in records, in bytes.
const MaxPath = 4096

// Clip limits the length of a path for records. Names in documents can have any length.
func Clip(path string) string {
	if len(path) <= MaxPath {
		return path
	}
	return strings.ToValidUTF8(path[:MaxPath], "") // without a part of a character
}
