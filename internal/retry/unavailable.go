package retry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"rotator/internal/awserr"
	"rotator/internal/outage"
)

// HeldError is the error of a request that was not sent because of an outage of the service.
// Another request detects the end of the outage. *outage.HeldError implements it.
type HeldError interface {
	error
	// Await blocks until the request may be sent, at most for limit.
	Await(ctx context.Context, limit time.Duration) error
}

// HeldOf returns the HeldError in err, or nil.
func HeldOf(err error) HeldError {
	var held HeldError
	if errors.As(err, &held) {
		return held
	}
	return nil
}

// Unavailable returns the error that ends a run because a service gave no usable response for
// too long. The error of the request names the service more precisely than the caller can.
func Unavailable(service string, waited time.Duration, err error) *StopError {
	var away *outage.Error
	var held *outage.HeldError
	cause := err
	switch {
	case errors.As(err, &away):
		service, cause = away.Service, away.Err
	case errors.As(err, &held):
		service, cause = held.Service, held.Err
	}
	text := outage.Cause(cause)
	if credentials := (*CredentialsError)(nil); errors.As(cause, &credentials) ||
		errors.As(err, &credentials) {
		text = cmp.Or(credentials.Cause, outage.CauseOf(cause))
	}
	if held != nil && held.Err != nil {
		err = held.Err // the error of the last request that was sent
	}
	return &StopError{Kind: StopUnavailable, Err: err, Brief: true,
		What: fmt.Sprintf("%s gave no usable answer for %s: %s", service, waited, text)}
}

// foreignResponse reports whether err is the error of a response that another server sent in
// place of the service.
func foreignResponse(err error) bool {
	var foreign *outage.ForeignError
	return errors.As(err, &foreign)
}

// Judge returns the verdict on a service from the result of a request (outage.Config).
func Judge(err error) outage.Verdict {
	var outer, inner *CredentialsError
	if errors.As(err, &outer) && errors.As(outer.Err, &inner) {
		return outage.Nothing // the credentials for the request for credentials are missing
	}
	if foreignResponse(err) {
		return outage.Unusable
	}
	switch Classify(err) {
	case KindStopped:
		return outage.Nothing
	case KindThrottled:
		return outage.Throttled
	case KindTransient, KindUnknown:
		if status := awserr.Status(err); status >= 300 && status < 500 {
			return outage.Usable
		}
		return outage.Unusable
	}
	return outage.Usable
}
