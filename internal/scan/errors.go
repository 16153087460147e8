package scan

import (
	"errors"
	"fmt"
)

// ErrChanged reports that the item changed after it was read. Nothing was written.
var ErrChanged = errors.New("the item changed after it was read")

// ErrGone reports that the item no longer exists. Nothing was written.
var ErrGone = errors.New("the item no longer exists")

// ErrContended reports that the store refused the request because of load on one item or one
// range of keys: the item is in a transaction, or a partition of the table receives more
// requests than it can serve. Nothing was written. The error implies nothing about other
// items.
var ErrContended = errors.New("the store refused the write because of load on this item")

// RefusedError reports that a source does not rewrite an item because it could not preserve
// all other properties of the item (an archived object, metadata that cannot be sent again).
// The item is unchanged and its slots count as failed.
type RefusedError struct {
	Reason string // one word for the ledger: "archived", "sse-c"
	Detail string // a sentence: the cause and what to do about it
}

func (e *RefusedError) Error() string { return fmt.Sprintf("%s: %s", e.Reason, e.Detail) }

// MissingError reports that the target does not exist or cannot be used as the job file
// describes it: there is no such table or bucket, or a slot is a key attribute.
type MissingError struct {
	Field  string // the field of the target that names it, such as "dynamodb.table"
	Detail string // a sentence: the cause and how to correct it
}

func (e *MissingError) Error() string { return e.Detail }

// StorageError reports that the storage accepts no more writes: its disk is full, over quota,
// mounted read-only or failing. The cause is not an item, so the run ends. It can be resumed
// when the storage is writable again.
type StorageError struct{ Err error }

func (e *StorageError) Error() string { return e.Err.Error() }
func (e *StorageError) Unwrap() error { return e.Err }
