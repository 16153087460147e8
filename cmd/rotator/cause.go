package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/aws/smithy-go"

	"rotator/internal/awserr"
	"rotator/internal/retry"
)

// causeError is an error with a sentence that states its cause and how to correct it. The
// sentence is printed instead of the chain of errors. With -v the chain is printed too.
type causeError struct {
	cause string
	err   error
}

func (e *causeError) Error() string { return fmt.Sprintf("%s: %v", e.cause, e.err) }
func (e *causeError) Unwrap() error { return e.err }

// headline returns the text of an error with its cause only: that of a *causeError or of
// credentials, or the whole text with every failed operation of the AWS SDK shortened.
func (s streams) headline(err error) string {
	if cause := (*causeError)(nil); errors.As(err, &cause) {
		return cause.cause
	}
	if stop := (*retry.StopError)(nil); errors.As(err, &stop) && stop.Brief {
		return stop.What
	}
	credentials := (*retry.CredentialsError)(nil)
	if errors.As(err, &credentials) && credentials.Cause != "" {
		return credentials.Cause
	}
	if cause := s.identity.cause(err); cause != "" {
		return cause
	}
	text := err.Error()
	var operation *smithy.OperationError
	for next := err; errors.As(next, &operation); next = operation.Err {
		text = strings.Replace(text, operation.Error(), short(operation), 1)
	}
	return text
}

// short returns what went wrong with an operation: the error of the service, or that of
// the connection.
func short(operation *smithy.OperationError) string {
	what := operation.Service() + " " + operation.Operation() + ": "
	if code := awserr.Code(operation.Err); code != "" {
		return what + code + ": " + awserr.Message(operation.Err) + requestID(operation.Err)
	}
	if sending := (*url.Error)(nil); errors.As(operation.Err, &sending) {
		return what + sending.Error()
	}
	return what + operation.Err.Error()
}

// requestID returns the id that a service gave to a request, for AWS Support.
func requestID(err error) string {
	var response interface{ ServiceRequestID() string }
	if errors.As(err, &response) && response.ServiceRequestID() != "" {
		return " (request id " + response.ServiceRequestID() + ")"
	}
	return ""
}
