// Package retry decides what happens after each request: whether to retry it, to fail its slot,
// or to stop the run. Classify maps an error to an ErrorKind, and Decide is the table of the
// consequences. Retrier is the only retry loop of rotator; the retries of the AWS SDK are
// disabled. StopError ends a run, and DenialCounter separates a slot to which access is denied
// from missing permissions of the whole run.
package retry

import (
	"errors"
	"fmt"
)

// StopKind is the reason why a run stops. cmd/rotator maps each kind to an exit code.
type StopKind string

// The kinds of stops. The pass can be resumed after each of them.
const (
	StopInterrupted StopKind = "interrupted" // a signal or a deadline
	StopUnavailable StopKind = "unavailable" // a service was unavailable for too long
	StopAccess      StopKind = "access"      // access denied, key unusable, credentials refused
	StopStorage     StopKind = "storage"     // checkpoint, ledger or audit log cannot be written
	StopFenced      StopKind = "fenced"      // another run has taken over the pass
	StopJob         StopKind = "job"         // the job file does not match the targets or the pass
	StopInternal    StopKind = "internal"    // an error in rotator
	StopEarly       StopKind = "early"       // too many slots failed, or the first were all alike
	StopAnswer      StopKind = "answer"      // a response of KMS does not belong to its request
)

// StopError is an error that stops the run. Unfinished slots are not marked as failed.
type StopError struct {
	Kind StopKind
	What string // the operation that failed, or with Brief or without Err the whole message
	Err  error  // the cause, or nil
	// NoPass is true if there is no pass that a later run can resume.
	NoPass bool
	// Brief is true if What states the cause too, which Err explains in full.
	Brief bool
}

func (e *StopError) Error() string {
	if e.Err == nil {
		return e.What
	}
	return fmt.Sprintf("%s: %v", e.What, e.Err)
}

func (e *StopError) Unwrap() error { return e.Err }

// Stopped reports whether err contains a StopError.
func Stopped(err error) bool {
	stop := (*StopError)(nil)
	return errors.As(err, &stop)
}
