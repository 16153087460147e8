package retry

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

	"rotator/internal/awserr"
	"rotator/internal/redact"
	"rotator/internal/scan"
)

// Reasons in the ledger for slots whose request failed.
const (
	ReasonAccessDenied = "access-denied"
	ReasonService      = "service-error"
)

// ErrorKind is the kind of an error. It determines what Decide does after a request.
type ErrorKind int

// The kinds of errors.
const (
	// KindNone: the request succeeded.
	KindNone ErrorKind = iota
	// KindThrottled: the request was not applied. The service demands a lower rate.
	KindThrottled
	// KindBusy: the request was not applied because of load on this item or its key range, such
	// as a transaction or a hot DynamoDB partition. Other items are not affected.
	KindBusy
	// KindTransient: the request was not applied. A retry may succeed.
	KindTransient
	// KindUnknown: there is no usable response, so the request may have been applied.
	KindUnknown
	// KindIncorrectKey: KMS reports that the blob is under another key than the source key of
	// the request.
	KindIncorrectKey
	// KindInvalidCiphertext: KMS reports that the blob is corrupt, or that its encryption
	// context or algorithm differs. Other services use it for invalid requests.
	KindInvalidCiphertext
	// KindDenied: access was denied, to one item or to all.
	KindDenied
	// KindKeyState: a key is disabled, deleted, or not valid for the operation.
	KindKeyState
	// KindCredentials: the service does not accept the credentials, or they have expired.
	KindCredentials
	// KindMissing: the table or bucket does not exist.
	KindMissing
	// KindStorage: the disk of a file target cannot be written.
	KindStorage
	// KindRefused: the source refuses to change this item.
	KindRefused
	// KindChanged: the item was changed after it was read.
	KindChanged
	// KindGone: the item no longer exists.
	KindGone
	// KindStopped: the context of the run ended.
	KindStopped
	// KindUnexpected: any other error. The slot fails with the error code of the service as
	// the reason.
	KindUnexpected
)

// CredentialsError is the error of a request that could not be signed because there are no
// credentials.
type CredentialsError struct {
	Err error
	// Cause states why there are no credentials and how to correct this, or is "".
	Cause string
	// Permanent is true if a retry is useless, although errors of this kind, such as
	// connection errors, are usually temporary.
	Permanent bool
}

func (e *CredentialsError) Error() string { return fmt.Sprintf("get credentials: %v", e.Err) }
func (e *CredentialsError) Unwrap() error { return e.Err }

// Classify returns the kind of an error of a source or of KMS. It compares error codes as text,
// because the SDK returns most of them as smithy.GenericAPIError: throttling, denied access and
// validation are not modeled for ReEncrypt. For responses without a code, the HTTP status
// decides.
func Classify(err error) ErrorKind {
	switch {
	case err == nil:
		return KindNone
	case HeldOf(err) != nil:
		return KindTransient
	case foreignResponse(err):
		return KindUnknown
	case errors.Is(err, scan.ErrChanged):
		return KindChanged
	case errors.Is(err, scan.ErrGone):
		return KindGone
	case errors.Is(err, scan.ErrContended):
		return KindBusy
	}
	if refused := (*scan.RefusedError)(nil); errors.As(err, &refused) {
		return KindRefused
	}
	if missing := (*scan.MissingError)(nil); errors.As(err, &missing) {
		return KindMissing
	}
	if signature := (*signatureError)(nil); errors.As(err, &signature) {
		return KindUnexpected
	}
	if storage := (*scan.StorageError)(nil); errors.As(err, &storage) {
		return KindStorage
	}
	if credentials := (*CredentialsError)(nil); errors.As(err, &credentials) {
		switch class := Classify(credentials.Err); {
		case class == KindStopped:
			return KindStopped
		case credentials.Permanent:
			return KindCredentials
		case class == KindTransient || class == KindUnknown || class == KindThrottled:
			return KindTransient // the request itself was not sent
		}
		return KindCredentials
	}
	if skewed(err) {
		return KindTransient
	}
	if class := kindOfCode(awserr.Code(err)); class != KindNone {
		return class
	}
	if class := kindOfStatus(err); class != KindNone {
		return class
	}
	if errors.Is(err, context.Canceled) {
		return KindStopped
	}
	if unsent(err) {
		return KindTransient
	}
	if transport(err) {
		return KindUnknown
	}
	return KindUnexpected
}

// skewed reports whether the SDK attributes a refused signature to a wrong local clock. In this
// case the SDK signs the next request with the time of the service (aws/retry,
// wrapAsClockSkew).
func skewed(err error) bool {
	var refused interface{ RetryableError() bool }
	return errors.As(err, &refused) && refused.RetryableError() &&
		kindOfCode(awserr.Code(err)) == KindCredentials
}

// RefusesCredentials reports whether a service refused the credentials or the signature of
// a request, including because of a wrong clock.
func RefusesCredentials(err error) bool { return kindOfCode(awserr.Code(err)) == KindCredentials }

// CodeSignature is the error code for a request that was changed after it was signed, or
// signed with a wrong key.
const CodeSignature = "SignatureDoesNotMatch"

// unsent reports whether the request did not reach the service.
func unsent(err error) bool {
	var name *net.DNSError
	return errors.As(err, &name) || errors.Is(err, syscall.ECONNREFUSED)
}

func kindOfCode(code string) ErrorKind {
	switch strings.TrimPrefix(code, "KMS.") { // S3 returns errors of KMS with this prefix
	case "ThrottlingException", "ThrottlingError", "Throttling", "ThrottledException",
		"RequestThrottled", "RequestThrottledException", "TooManyRequestsException",
		"LimitExceededException", "RequestLimitExceeded",
		"ProvisionedThroughputExceededException", "ProvisionedThroughputExceeded", "SlowDown":
		return KindThrottled
	case "TransactionConflict", "TransactionConflictException", "ReplicatedWriteConflictException":
		return KindBusy
	case "KMSInternalException", "DependencyTimeoutException", "InternalServerError",
		"InternalError", "InternalFailure", "ServiceUnavailable", "RequestTimeout",
		"RequestTimeoutException":
		return KindUnknown
	case "KeyUnavailableException", "OperationAborted", "ConditionalRequestConflict":
		return KindTransient
	case "IncorrectKeyException":
		return KindIncorrectKey
	case "InvalidCiphertextException", "ValidationException", "ValidationError":
		return KindInvalidCiphertext
	case "AccessDeniedException", "AccessDenied", "AllAccessDisabled", "AccountProblem",
		"OptInRequired":
		return KindDenied
	case "DisabledException", "NotFoundException", "KMSInvalidStateException",
		"InvalidKeyUsageException", "InvalidGrantTokenException":
		return KindKeyState
	case "ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException",
		"InvalidClientTokenId", "InvalidAccessKeyId", "InvalidSignatureException",
		CodeSignature, "IncompleteSignature", "MissingAuthenticationTokenException",
		"InvalidIdentityToken", "IDPRejectedClaim", "InvalidToken", "TokenRefreshRequired",
		"RequestTimeTooSkewed", "RequestExpired":
		return KindCredentials
	case "ResourceNotFoundException", "ResourceNotFound", "NoSuchBucket", "PermanentRedirect",
		"TemporaryRedirect", "AuthorizationHeaderMalformed":
		return KindMissing // the last three codes mean a bucket in another Region
	}
	return KindNone
}

// kindOfStatus returns the kind of an error by its HTTP status, for responses without an error
// code: those of some servers and proxies, and all responses to HEAD.
func kindOfStatus(err error) ErrorKind {
	code := awserr.Code(err)
	switch status := awserr.Status(err); {
	case status == http.StatusTooManyRequests:
		return KindThrottled
	case status >= http.StatusInternalServerError:
		return KindUnknown
	case status == http.StatusMovedPermanently:
		return KindMissing
	case code != "" && code != "Forbidden" && code != awserr.UnknownCode:
		return KindNone
	case status >= http.StatusBadRequest && awserr.WithoutCode(err):
		return KindUnknown
	case status == http.StatusForbidden:
		return KindDenied
	}
	return KindNone
}

// transport reports whether the request or its response was lost, or the response is incomplete.
func transport(err error) bool {
	var network net.Error
	var serialization *smithy.DeserializationError
	return errors.As(err, &network) || errors.As(err, &serialization) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED) ||
		errors.Is(err, syscall.EPIPE)
}

// DeniedReason reports whether a reason in the ledger means that access was denied.
func DeniedReason(reason string) bool {
	if reason == "" || reason == ReasonAccessDenied || reason == "forbidden" {
		return reason != ""
	}
	return kindOfCode(strings.ToUpper(reason[:1])+reason[1:]) == KindDenied
}

// ReasonOf returns the reason and the detail of an error for the ledger. The reason is the error
// code of the service, if there is one. The text of an error is never used, because it can
// contain parts of the request. Codes that look like a secret are redacted.
func ReasonOf(err error) (reason, detail string) {
	if refused := (*scan.RefusedError)(nil); errors.As(err, &refused) {
		return refused.Reason, refused.Detail
	}
	if code := redact.Code(awserr.Code(err)); code != "" {
		return strings.ToLower(code[:1]) + code[1:], "the service answered " + code
	}
	return ReasonService, "the service could not be asked"
}
