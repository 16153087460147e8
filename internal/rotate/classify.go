package rotate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/aws/smithy-go"

	"rotator/internal/scan"
)

// Class says what kind of trouble an error is, and so what to do about it.
type Class int

// The classes of errors. For a write, Transient means that nobody knows whether
// it was applied: the item is read again and compared before anything else.
const (
	ClassNone              Class = iota // no error
	ClassThrottled                      // try again, slower; not applied
	ClassTransient                      // server error, time-out, lost connection: try again
	ClassIncorrectKey                   // KMS: the blob is under another key than the pinned one
	ClassInvalidCiphertext              // KMS: corrupt, another context, or another algorithm
	ClassDenied                         // access denied: the slot's own trouble, or the run's
	ClassKeyState                       // a key is disabled, gone, or not usable like this
	ClassCredentials                    // who we are is not, or no longer, accepted
	ClassMissing                        // the table or bucket is not there
	ClassRefused                        // the source will not touch this item
	ClassChanged                        // the item is no longer as it was read
	ClassGone                           // the item no longer exists
	ClassStopped                        // our own context ended
	ClassUnexpected                     // anything else: the slot fails, with the service's code as reason
)

// CredentialsError says that there are no credentials to sign a request with.
type CredentialsError struct{ Err error }

func (e *CredentialsError) Error() string { return fmt.Sprintf("get credentials: %v", e.Err) }
func (e *CredentialsError) Unwrap() error { return e.Err }

// Classify sorts any error that a source or KMS gives. Codes are matched as
// text because most of them arrive as smithy.GenericAPIError (throttling,
// access denied and validation are not modeled for ReEncrypt), and the HTTP
// status decides where a server sends no code.
func Classify(err error) Class {
	switch {
	case err == nil:
		return ClassNone
	case errors.Is(err, scan.ErrChanged):
		return ClassChanged
	case errors.Is(err, scan.ErrGone):
		return ClassGone
	}
	if refused := (*scan.RefusedError)(nil); errors.As(err, &refused) {
		return ClassRefused
	}
	if missing := (*scan.MissingError)(nil); errors.As(err, &missing) {
		return ClassMissing
	}
	if credentials := (*CredentialsError)(nil); errors.As(err, &credentials) {
		if class := Classify(credentials.Err); class == ClassTransient || class == ClassThrottled || class == ClassStopped {
			return class
		}
		return ClassCredentials
	}
	if class := classifyCode(code(err)); class != ClassNone {
		return class
	}
	if class := classifyStatus(err); class != ClassNone {
		return class
	}
	if errors.Is(err, context.Canceled) {
		return ClassStopped
	}
	if transport(err) {
		return ClassTransient
	}
	return ClassUnexpected
}

// code returns the service's error code, "" when the error is not a service's.
func code(err error) string {
	if api := (smithy.APIError)(nil); errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func classifyCode(code string) Class {
	switch code {
	case "ThrottlingException", "ThrottlingError", "Throttling", "ThrottledException", "RequestThrottled",
		"RequestThrottledException", "TooManyRequestsException", "LimitExceededException", "RequestLimitExceeded",
		"ProvisionedThroughputExceededException", "ProvisionedThroughputExceeded", "SlowDown",
		"TransactionConflict", "TransactionConflictException", "ReplicatedWriteConflictException":
		return ClassThrottled
	case "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException", "InternalServerError",
		"InternalError", "InternalFailure", "ServiceUnavailable", "RequestTimeout", "RequestTimeoutException":
		return ClassTransient
	case "IncorrectKeyException":
		return ClassIncorrectKey
	case "InvalidCiphertextException", "ValidationException", "ValidationError":
		return ClassInvalidCiphertext
	case "AccessDeniedException", "AccessDenied":
		return ClassDenied
	case "DisabledException", "NotFoundException", "KMSInvalidStateException", "InvalidKeyUsageException",
		"InvalidGrantTokenException":
		return ClassKeyState
	case "ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId",
		"InvalidAccessKeyId", "InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature",
		"MissingAuthenticationTokenException", "InvalidIdentityToken", "IDPRejectedClaim", "InvalidToken", "TokenRefreshRequired", "RequestTimeTooSkewed", "RequestExpired":
		return ClassCredentials
	case "ResourceNotFoundException", "ResourceNotFound", "NoSuchBucket":
		return ClassMissing
	}
	return ClassNone
}

// classifyStatus is for servers, proxies and HEAD answers that give no code.
func classifyStatus(err error) Class {
	var answered interface{ HTTPStatusCode() int }
	if !errors.As(err, &answered) {
		return ClassNone
	}
	switch status := answered.HTTPStatusCode(); {
	case status == http.StatusTooManyRequests:
		return ClassThrottled
	case status >= http.StatusInternalServerError:
		return ClassTransient
	case code(err) != "" && code(err) != "UnknownError" && code(err) != "Forbidden":
		return ClassNone
	case status == http.StatusForbidden:
		return ClassDenied
	}
	return ClassNone
}

// transport is true when the request or its answer got lost on the way, or the
// answer was cut short.
func transport(err error) bool {
	var network net.Error
	var serialization *smithy.DeserializationError
	return errors.As(err, &network) || errors.As(err, &serialization) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EPIPE)
}

// reasonOf makes the word for the ledger out of an error: the service's own
// code where there is one. The text of an error never goes there, since it may
// repeat what was sent.
func reasonOf(err error) (reason, detail string) {
	if refused := (*scan.RefusedError)(nil); errors.As(err, &refused) {
		return refused.Reason, refused.Detail
	}
	if code := code(err); code != "" {
		return strings.ToLower(code[:1]) + code[1:], "the service answered " + code
	}
	return reasonService, "the service could not be asked"
}
