package ciphertext

import (
	"errors"
	"fmt"

	"rotator/internal/plural"
)

// SpliceError lists all blobs that cannot be written to their slots. Splice can write
// the others if these are nil.
type SpliceError struct {
	Failures []SpliceFailure
}

// SpliceFailure is one slot whose new blob cannot be written.
type SpliceFailure struct {
	Index   int // in the result of Find
	Path    string
	Refused *Refused
}

func (e *SpliceError) Error() string {
	first := e.Failures[0]
	return fmt.Sprintf("slot %q: %s (%s in total)", first.Path, first.Refused.Detail,
		plural.Count(len(e.Failures), "slot"))
}

// ReasonCannotSplice is the reason of a slot whose new blob cannot be written.
const ReasonCannotSplice = "cannot-splice"

// tooLong is the reason why most formats cannot encode a new blob.
func tooLong() *Refused {
	return refuse(ReasonCannotSplice, "the new ciphertext is longer than this format allows; "+
		"have the application write the value again with the new key")
}

// unknownPadding is the reason why a new blob cannot be encoded if the old one does not
// show its padding.
func unknownPadding() *Refused {
	return refuse(ReasonCannotSplice, "the new ciphertext needs base64 padding, but the old one "+
		"does not show whether its writer pads, and the other texts of this slot show neither or "+
		"both. Set padding: always or padding: never at the slot, then run rotator retry")
}

// spliceFailures collects the failures of an item.
type spliceFailures []SpliceFailure

// add adds a slot. If why is nil, the padding of the slot determines the reason.
func (u *spliceFailures) add(index int, s Slot, why *Refused) {
	switch {
	case why != nil:
	case s.Padding == PaddingUnknown:
		why = unknownPadding()
	default:
		why = tooLong()
	}
	*u = append(*u, SpliceFailure{Index: index, Path: s.Path, Refused: why})
}

// take adds the failures of a *SpliceError for a part of the item. offset is the index
// of the first slot of the part, and prefix precedes its paths. take returns false for
// any other error.
func (u *spliceFailures) take(err error, offset int, prefix string) bool {
	var spliceErr *SpliceError
	if !errors.As(err, &spliceErr) {
		return false
	}
	for _, s := range spliceErr.Failures {
		u.add(s.Index+offset, Slot{Path: prefix + s.Path}, s.Refused)
	}
	return true
}

func (u spliceFailures) err() error {
	if len(u) == 0 {
		return nil
	}
	return &SpliceError{Failures: u}
}
