package ciphertext

import (
	"errors"
	"fmt"
)

// SpliceError says which new blobs cannot be written where the old ones stand, all
// of them at once. The others can be: Splice takes them with nil for these.
type SpliceError struct {
	Failures []SpliceFailure
}

// SpliceFailure is one slot whose new blob cannot be written.
type SpliceFailure struct {
	Index   int // in what Find returned
	Path    string
	Refused *Refused
}

func (e *SpliceError) Error() string {
	first := e.Failures[0]
	return fmt.Sprintf("slot %q: %s (%d slots in all)", first.Path, first.Refused.Detail, len(e.Failures))
}

// ReasonCannotSplice is the reason of a slot whose new blob cannot be written.
const ReasonCannotSplice = "cannot-splice"

// noRoom is why a new blob has no text in most formats.
func noRoom() *Refused {
	return &Refused{
		Reason: ReasonCannotSplice,
		Detail: "the new ciphertext is longer than this format can hold; " +
			"have the application write it again with the new key",
	}
}

// unknownPadding returns the reason why a new blob cannot be written if the old
// one does not show its padding.
func unknownPadding() *Refused {
	return &Refused{
		Reason: ReasonCannotSplice,
		Detail: "the old ciphertext does not show whether its writer adds base64 padding, which " +
			"the new one needs, and the other texts of this slot show no form or both; set " +
			"padding: always or padding: never at the slot, then run rotator retry",
	}
}

// spliceFailures gathers them on the way through an item.
type spliceFailures []SpliceFailure

// add adds a slot. If why is nil, the reason comes from the slot itself.
func (u *spliceFailures) add(index int, s Slot, why *Refused) {
	switch {
	case why != nil:
	case s.Padding == PaddingUnknown:
		why = unknownPadding()
	default:
		why = noRoom()
	}
	*u = append(*u, SpliceFailure{Index: index, Path: s.Path, Refused: why})
}

// take adds the slots of an error that a part of the item gave, whose first slot is
// the one at an offset, and whose paths begin in the item with prefix; it is false
// for any other error.
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
