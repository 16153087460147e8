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

// StopKind says why a run cannot go on. Each kind has its exit code in
// cmd/rotator.
type StopKind string

// The kinds of stops. All of them leave a pass that can be resumed.
const (
	StopInterrupted StopKind = "interrupted" // a signal or a deadline
	StopUnavailable StopKind = "unavailable" // a service stayed away too long
	StopAccess      StopKind = "access"      // denied, key unusable, credentials refused
	StopStorage     StopKind = "storage"     // checkpoint, ledger or audit log cannot be written
	StopFenced      StopKind = "fenced"      // another run works on this pass
	StopJob         StopKind = "job"         // the job file does not fit what is there
	StopInternal    StopKind = "internal"    // what must not happen did
	StopEarly       StopKind = "early"       // too many slots failed, or the first ones all did
	StopAnswer      StopKind = "answer"      // an answer of KMS cannot belong to its request
)

// StopError ends the run: nothing that was under way is marked failed.
type StopError struct {
	Kind StopKind
	What string // what was being done
	Err  error
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
