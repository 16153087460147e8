// Package checkpoint stores the progress of a job, so that another process can continue after a run
// ends: the current pass, the cursor of each partition, the counts, and the ledger of slots that
// could not be moved.
//
// The package defines the records and the order in which they become durable. Callers do the work:
// they report to the Tracker when a page begins and when every slot of the page has an outcome.
//
// Records are kept in a Store. DynamoDB and S3 use the AWS SDK, File uses a bbolt file, and Memory
// uses a map. The rest of the package works with any Store.
package checkpoint

import (
	"context"
	"errors"
	"fmt"
)

// Store keeps small records by id. Several processes, and several goroutines of
// one process, may use the same store concurrently. Every implementation
// guarantees the following:
//
//   - An Entry that Create or Replace returns is durable, unless the
//     implementation states otherwise: it survives the end of the process and a
//     loss of power.
//   - A Fetch that begins after a Create or Replace has returned sees the write,
//     in every process (read-after-write consistency).
//   - If several calls create the same id, or replace the same Entry, at most one
//     succeeds. The others return ErrConflict.
//   - After any other error of a write, it is unknown whether the write was
//     applied.
//   - A record that cannot be read is never reported as absent. If it is not in
//     the form that the store writes, Fetch returns a *CorruptError with an Entry
//     that can be replaced. Its Data is the part that could be read.
//
// An id consists of letters, digits and "._/-". Data has at most MaxRecord bytes.
type Store interface {
	// Fetch returns the record, or ErrNotFound.
	Fetch(ctx context.Context, id string) (Entry, error)
	// Create stores a new record. The error is ErrConflict if the id exists.
	Create(ctx context.Context, id string, data []byte) (Entry, error)
	// Replace replaces the data of the record. The error is ErrConflict if the
	// record has changed since e was returned.
	Replace(ctx context.Context, e Entry, data []byte) (Entry, error)
}

// MaxRecord is the maximum size of a record in bytes. A record of this size and
// its id fit into one DynamoDB item (400 KB).
const MaxRecord = 300 << 10

// Entry is one version of a record.
type Entry struct {
	ID   string
	Data []byte
	// version identifies the version for compare-and-swap. Only the store
	// interprets it. It is empty in an Entry that no store returned.
	version string
}

// Exists reports whether a store returned the entry. It is false for the zero Entry.
func (e Entry) Exists() bool { return e.version != "" }

// The errors that every Store returns.
var (
	ErrNotFound = errors.New("no such record")
	ErrConflict = errors.New("the record was changed by another process")
)

// conflictError is an ErrConflict of a store that knows the record with which a write collided.
// The next attempt then need not read it.
type conflictError struct{ now Entry }

func (e *conflictError) Error() string { return ErrConflict.Error() }

func (e *conflictError) Is(target error) bool { return target == ErrConflict }

// LocationError means that the table or bucket of a checkpoint does not exist, or
// cannot hold a checkpoint. It is never treated as an empty checkpoint.
type LocationError struct {
	Location string // "table rotator-state"
	Detail   string // the problem and its solution
}

func (e *LocationError) Error() string { return e.Location + ": " + e.Detail }

// ServiceError means that a request to the service that holds a checkpoint failed.
type ServiceError struct {
	Operation string // "read jobs/a/head from the checkpoint table t"
	Err       error
}

func (e *ServiceError) Error() string { return e.Operation + ": " + e.Err.Error() }
func (e *ServiceError) Unwrap() error { return e.Err }

// undecided reports whether the outcome of a write is unknown although its condition failed: the
// failure may be the response to a repeated request whose first attempt was applied. reading is the
// error of the read that looked for the write.
func undecided(reading error) bool {
	return reading != nil && !errors.Is(reading, ErrNotFound) && !IsUnreadable(reading)
}

// checkSize returns an error if a record has more than MaxRecord bytes.
func checkSize(id string, data []byte) error {
	if len(data) > MaxRecord {
		return fmt.Errorf("record %s has %d bytes, more than %d", id, len(data), MaxRecord)
	}
	return nil
}

// ErrFenced means that another run has changed the checkpoint: it has taken over a partition, or
// has begun another pass. This run must not save anything more.
var ErrFenced = errors.New(
	"another run has taken over a partition of this run, or has started a new pass")
