// Package ciphertext finds the KMS ciphertexts in an item and replaces them.
//
// Compile checks the description of a target, a Spec, and Bind makes a Format of it when
// the keys of the job are known. Format.Find returns the slots of an item, and
// Format.Splice writes new ciphertexts into them. Formats do no I/O, have no state and
// read no clock, so the same item always has the same slots.
package ciphertext

import (
	"fmt"

	"rotator/internal/scan"
)

// NoRule is the Rule of a slot that was found by the header of its ciphertext and not by a
// rule of the job file.
const NoRule = -1

// Slot is a location in an item that holds one KMS ciphertext blob.
type Slot struct {
	// Path is the location in the item, for messages and for the ledger:
	// "profile.docs[2].key". It is empty if the slot is the whole body.
	Path string
	// Rule is the index, from 0, of the rule that found the slot; see Compiled.Rules.
	// All slots of a rule take their contexts from the same sources.
	Rule int
	// Blob is the decoded CiphertextBlob. It is nil if Refused is set.
	Blob []byte
	// Context is the encryption context of the blob, and DestinationContext that of the
	// new blob. Nil means no encryption context.
	Context            map[string]string
	DestinationContext map[string]string
	// Padding is the base64 padding that the slot shows.
	Padding Padding
	// StaleKey is the path of a string next to the slot that names a source key by its
	// ARN, key ID or alias. A reader that passes this string to Decrypt fails after the
	// slot has moved. StaleKey is empty if there is no such string, and in formats that
	// update it.
	StaleKey string
	// Refused is the reason why the slot cannot be moved, or nil. It never contains the
	// blob.
	Refused *Refused
	// Held is the CiphertextBlob of a refused slot, if it could be decoded. Only its
	// header is used, to identify the key.
	Held []byte
}

// Refused is the reason why a slot cannot be moved. A refused slot counts as failed.
type Refused struct {
	Reason string // a word for the ledger: "not-base64", "missing-context"
	Detail string // the problem, the field and how to fix it, as a sentence
}

func (r *Refused) Error() string { return fmt.Sprintf("%s: %s", r.Reason, r.Detail) }

// refuse returns a Refused with a formatted detail.
func refuse(reason, format string, args ...any) *Refused {
	return &Refused{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// Format finds the slots of an item and writes new blobs into them. Its methods may be
// called concurrently.
type Format interface {
	// Name returns the name of the format in the job file.
	Name() string
	// Find returns the slots of an item, in an order that depends only on the item. An
	// item without slots is not an error. Find must not panic on any input.
	Find(item scan.Item) []Slot
	// Splice returns a copy of the payload with blobs[i] in the i-th slot of Find(item).
	// If blobs[i] is nil, the slot is unchanged. No byte outside of the changed slots and
	// their siblings changes, and splicing the present blobs changes nothing. A
	// *SpliceError lists the blobs that cannot be written. After any other error, the
	// item cannot be rewritten at all.
	Splice(item scan.Item, blobs [][]byte) (scan.Payload, error)
	// Guards returns the values of an item on which the slots with moves(i) depend: those
	// of their contexts, and those by which the format recognised the item. slots is the
	// result of Find(item). Guards may return duplicates and values that Splice replaces.
	// It does not return values in the body of an object, because a write replaces the
	// whole body.
	Guards(item scan.Item, slots []Slot, moves func(i int) bool) []scan.Guard
}
