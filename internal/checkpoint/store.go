// Package checkpoint remembers where a pass stopped, so that another process
// can go on from there: which pass a job is at, how far each partition is, what
// was counted, and which slots ended in the ledger.
//
// It owns the records and the order in which they become durable. Callers own
// the work: they tell the Tracker when a page begins and when every slot of it
// has an outcome. The package knows nothing of AWS, and imports nothing of ours.
package checkpoint

import (
	"context"
	"errors"
	"fmt"
)

// Store keeps small records by id, for several processes at once. Every
// implementation has to promise:
//
//   - What Create and Replace return is durable: it survives the process and
//     the loss of power.
//   - A Fetch that begins after a Create or Replace has returned sees it, in
//     whatever process (read-after-write).
//   - Of several Creates of one id, or Replaces of one Entry, at most one
//     succeeds; the others get ErrConflict.
//   - Any other error means: nobody knows whether it was done. Unreadable is
//     never reported as absent.
//   - What is there and is not in the form in which the store keeps records is a
//     *CorruptError. The Entry that comes with it can be replaced, and has what
//     could be read as its Data.
//
// Ids are made of letters, digits and "._/-"; data is at most MaxRecord bytes.
type Store interface {
	// Fetch returns the record, or ErrNotFound.
	Fetch(ctx context.Context, id string) (Entry, error)
	// Create makes a record that must not exist yet; ErrConflict when it does.
	Create(ctx context.Context, id string, data []byte) (Entry, error)
	// Replace puts data in the place of what e was when it was fetched, created
	// or replaced; ErrConflict when the record is no longer that.
	Replace(ctx context.Context, e Entry, data []byte) (Entry, error)
}

// MaxRecord is the most bytes that one record may have: what fits into an item
// of DynamoDB (400 KB) with room for its id.
const MaxRecord = 300 << 10

// Entry is one record as it stood at one moment.
type Entry struct {
	ID   string
	Data []byte
	// version is the handle of compare-and-swap, known to the store alone. It
	// is empty in an Entry that no store made.
	version string
}

// Exists is false for the zero Entry.
func (e Entry) Exists() bool { return e.version != "" }

// Sentinels of every store.
var (
	ErrNotFound = errors.New("no such record")
	ErrConflict = errors.New("the record was changed by another process")
)

// LocationError says that the table or bucket of a checkpoint is not there, or is
// not what it must be. It is never taken for an empty checkpoint.
type LocationError struct {
	Location string // "table rotator-state"
	Detail   string // what is wrong, and how to mend it
}

func (e *LocationError) Error() string { return e.Location + ": " + e.Detail }

// ServiceError says that the service that holds a checkpoint did not do what it was
// asked.
type ServiceError struct {
	Operation string // "read jobs/a/head from the checkpoint table t"
	Err       error
}

func (e *ServiceError) Error() string { return e.Operation + ": " + e.Err.Error() }
func (e *ServiceError) Unwrap() error { return e.Err }

// undecided says whether a refused condition leaves open if the write was applied:
// the refusal may answer a repetition of it, and looking for its traces failed.
func undecided(reading error) bool {
	return reading != nil && !errors.Is(reading, ErrNotFound) && !IsUnreadable(reading)
}

// fits refuses a record that is larger than every store can take.
func checkSize(id string, data []byte) error {
	if len(data) > MaxRecord {
		return fmt.Errorf("record %s has %d bytes, more than %d", id, len(data), MaxRecord)
	}
	return nil
}

// ErrFenced means that another run works on the same pass: our view of it is no
// longer true, so nothing may be saved.
var ErrFenced = errors.New("another run has moved this checkpoint")
