// Package ciphertext knows where ciphertexts hide in an item and how to put new
// ones back. A Format finds slots and splices new blobs in; it does no I/O,
// keeps no state and reads no clock, so it can be fuzzed, and the same item
// always gives the same answer.
package ciphertext

import (
	"fmt"

	"rotator/internal/scan"
)

// NoRule is the Rule of a slot that no rule of the job file names: a ciphertext that was
// found by its header.
const NoRule = -1

// Slot is one place in an item that holds one KMS ciphertext blob.
type Slot struct {
	// Path says where in the item, for people and for the ledger:
	// "profile.docs[2].key". It is empty when the slot is the whole body.
	Path string
	// Rule is which slot of the job file found it, from 0: slots of one rule share
	// where their contexts come from. Formats without slots in the job file have one,
	// and auto has one for each format.
	Rule int
	// Blob is the CiphertextBlob, decoded; nil when Refused is set.
	Blob []byte
	// Context and DestinationContext are the encryption contexts under which
	// the blob stands now and shall stand afterwards. Nil means none.
	Context            map[string]string
	DestinationContext map[string]string
	// Padding is what a slot in base64 shows about the padding of its writer.
	Padding Padding
	// StaleKey is the path of a string next to the slot that names a source key:
	// its ARN, its id, or an alias. A reader that sends it to Decrypt fails after
	// the slot has moved. It is empty if there is none, and in formats that change
	// such strings.
	StaleKey string
	// Refused says why the slot cannot be moved. It never holds the blob.
	Refused *Refused
	// Held is the CiphertextBlob of a refused slot, if one could be decoded. Only
	// its header is used, to identify the key.
	Held []byte
}

// Refused is the typed reason why a slot, or what stands in its place, cannot
// be moved. It counts as a failed slot.
type Refused struct {
	Reason string // a word for the ledger: "not-base64", "missing-context"
	Detail string // a sentence that names the field and says what to do
}

func (r *Refused) Error() string { return fmt.Sprintf("%s: %s", r.Reason, r.Detail) }

// Format finds the slots of an item and puts new blobs into them.
type Format interface {
	// Name is the word used in the job file.
	Name() string
	// Find returns the slots of the item in an order that depends on the item
	// alone. No slot is an empty result, not an error. It never panics,
	// whatever the bytes.
	Find(item scan.Item) []Slot
	// Splice returns a copy of the payload in which blobs[i] stands in the
	// place of the i-th slot of Find(item); a nil blob leaves that slot alone.
	// No other byte changes, and splicing the same blobs returns the same
	// bytes. A *SpliceError names the blobs that cannot be written there; any other
	// error means that the item cannot be rewritten safely at all.
	Splice(item scan.Item, blobs [][]byte) (scan.Payload, error)
	// Guards returns the places of the item on which the slots with moves(i)
	// depend: those of their contexts, and those by which the format recognised
	// the item. slots is the result of Find(item). Guards may include places that
	// Splice replaces, and duplicates. It does not include places in the body of
	// an object, because a write replaces the whole body.
	Guards(item scan.Item, slots []Slot, moves func(i int) bool) []scan.Guard
}
