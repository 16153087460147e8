// Package awserr reads the errors of the AWS SDK: the code and the HTTP status of a response, and
// the time after which a service asks to retry. No other package reads them.
package awserr

import (
	"errors"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// UnknownCode is the code that the SDK gives to an error response without a code.
const UnknownCode = "UnknownError"

// Code returns the error code of a service, or "" for another error.
func Code(err error) string {
	if api := (smithy.APIError)(nil); errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// Status returns the HTTP status of a response with an error, or 0 without a response.
func Status(err error) int {
	var answered interface{ HTTPStatusCode() int }
	if errors.As(err, &answered) {
		return answered.HTTPStatusCode()
	}
	return 0
}

// Message returns the message of a service, or "" for another error.
func Message(err error) string {
	if api := (smithy.APIError)(nil); errors.As(err, &api) {
		return api.ErrorMessage()
	}
	return ""
}

// Header returns a header of the response with an error, or "".
func Header(err error, name string) string {
	var answered *smithyhttp.ResponseError
	if !errors.As(err, &answered) || answered.Response == nil ||
		answered.Response.Response == nil {
		return ""
	}
	return answered.Response.Header.Get(name)
}

// WithoutCode reports whether an error response to a request for KMS or DynamoDB has no
// error code. These services always send one, so the response is that of another server, such
// as a proxy.
func WithoutCode(err error) bool {
	var operation *smithy.OperationError
	if !errors.As(err, &operation) ||
		operation.ServiceID != "KMS" && operation.ServiceID != "DynamoDB" {
		return false
	}
	return Code(err) == "" || Code(err) == UnknownCode
}
