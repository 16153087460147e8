package scan

import (
	"errors"
	"fmt"
)

// ErrChanged: the item is no longer as it was read, so nothing was written.
var ErrChanged = errors.New("the item changed after it was read")

// ErrGone: the item no longer exists, so nothing was written.
var ErrGone = errors.New("the item no longer exists")

// ErrContended: the store refused the request because of the place that it was for (an
// item in a transaction, a partition of a table that gets more than its share). It
// did nothing, and says nothing about other places.
var ErrContended = errors.New("the place of the item in the store is busy")

// RefusedError says that a source will not touch an item because it could not
// keep everything else of it (an archived object, metadata that cannot be sent
// back). The item is left as it is and its slots count as failed.
type RefusedError struct {
	Reason string // a word for the ledger: "archived", "sse-c"
	Detail string // a sentence: what is in the way, and what to do about it
}

func (e *RefusedError) Error() string { return fmt.Sprintf("%s: %s", e.Reason, e.Detail) }

// MissingError says that the place itself is not there or not usable as the job
// file describes it: no such table or bucket, a slot on a key attribute.
type MissingError struct {
	Field  string // the field of the target that names it, such as "dynamodb.table"
	Detail string // a sentence: what is wrong, and how to mend it
}

func (e *MissingError) Error() string { return e.Detail }

// StorageError says that the place takes no more writes: its disk is full, over
// quota, mounted read-only, or failing. No item is to blame, so the run ends, and
// goes on when the place is writable again.
type StorageError struct{ Err error }

func (e *StorageError) Error() string { return e.Err.Error() }
func (e *StorageError) Unwrap() error { return e.Err }
