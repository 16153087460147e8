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
	"time"

	"github.com/aws/smithy-go"

	"rotator/internal/outage"
	"rotator/internal/redact"
	"rotator/internal/scan"
)

// Class says what kind of trouble an error is.
type Class int

// The classes of errors.
const (
	ClassNone              Class = iota // no error
	ClassThrottled                      // not applied: the service asks for fewer requests
	ClassBusy                           // not applied: the place of the item in the store is busy, which is nobody else's concern
	ClassTransient                      // not applied, and may succeed soon
	ClassUnknown                        // no answer, or none that says anything: nobody knows whether it was applied
	ClassIncorrectKey                   // KMS: the blob is under another key than the pinned one
	ClassInvalidCiphertext              // KMS: corrupt, another context, or another algorithm; others: a request they call invalid
	ClassDenied                         // access denied: the slot's own trouble, or the run's
	ClassKeyState                       // a key is disabled, gone, or not usable like this
	ClassCredentials                    // who we are is not, or no longer, accepted
	ClassMissing                        // the table or bucket is not there
	ClassStorage                        // the disk that holds the target takes no more writes
	ClassRefused                        // the source will not touch this item
	ClassChanged                        // the item is no longer as it was read
	ClassGone                           // the item no longer exists
	ClassStopped                        // our own context ended
	ClassUnexpected                     // anything else: the slot fails, with the service's code as reason
)

// Doing is what a request is for.
type Doing int

// What requests are for.
const (
	Listing Doing = iota // a page of a target, which cannot be skipped
	Reading              // one item
	Asking               // KMS, about one ciphertext
	Writing              // one item, under a condition
)

// Event is what a request came to, and what was before it.
type Event struct {
	Doing Doing
	Class Class
	// Failures counts how often this very request found the service failing while
	// others were answered, this time included.
	Failures int
	// Refusals is the number of times that the signature of this request was refused while
	// other requests with the same credentials succeeded.
	Refusals int
	// Silence is how long the service has given nobody a usable answer.
	Silence, MaxOutage time.Duration
	// Trouble is how long the run's own trouble (a key, the credentials) has
	// lasted here, and Settle how long it may: KMS is eventually consistent, and
	// credentials are renewed.
	Trouble, Settle time.Duration
	// Denials counts denials with no success between; Allowed says whether
	// anything was ever allowed.
	Denials int
	Allowed bool
}

// Action is what to do next.
type Action string

// The actions.
const (
	Accept      Action = "accept"       // it succeeded
	Again       Action = "again"        // the same request, after a pause
	Slower      Action = "slower"       // the same, and the whole run slows down
	ReadAgain   Action = "read again"   // read the item as it is now, compare with what was sent, decide anew
	AskOpposite Action = "ask opposite" // ask KMS whether the slot is already where it belongs
	FailSlot    Action = "fail slot"    // the slot's own trouble
	LetGo       Action = "let go"       // the item is gone
	Stop        Action = "stop"         // the run's trouble: nothing is marked failed
)

// Decision is an action; Stop says which kind of stop.
type Decision struct {
	Do   Action
	Stop StopKind
}

// When the run's trouble is told from a slot's.
const (
	// attemptsTransient is how often one request is tried while the same service
	// goes on serving others: then the trouble is the request's own.
	attemptsTransient = 8
	// attemptsSignature is the number of times that the signature of a request may be refused
	// although other requests with the same credentials succeed in between. A proxy that
	// changes the name of an object causes this.
	attemptsSignature = 3
	// How many denials with no success between are taken for missing permissions:
	// fewer when nothing has ever succeeded.
	denialsAtFirst = 8
	denialsInARow  = 50
)

// Decide is the one place that says what follows from an error. It knows no clock
// and asks nobody.
func Decide(e Event) Decision {
	switch e.Class {
	case ClassNone:
		return Decision{Do: Accept}
	case ClassStopped:
		return Decision{Stop, StopInterrupted}
	case ClassThrottled, ClassBusy, ClassTransient, ClassUnknown:
		return e.passing()
	case ClassKeyState, ClassCredentials:
		switch {
		case e.Class == ClassCredentials && e.Doing == Reading && e.Refusals > attemptsSignature:
			return Decision{Do: FailSlot} // the credentials are valid for other requests
		case e.Class == ClassKeyState && (e.Doing == Reading || e.Doing == Writing):
			return e.denied() // the store's own encryption of one item, such as an object
		case e.Trouble < e.Settle:
			return Decision{Do: Again}
		}
		return Decision{Stop, StopAccess}
	case ClassMissing:
		return Decision{Stop, StopJob}
	case ClassStorage:
		return Decision{Stop, StopStorage}
	case ClassDenied:
		return e.denied()
	case ClassChanged:
		return Decision{Do: ReadAgain}
	case ClassGone:
		return Decision{Do: LetGo}
	}
	switch {
	case e.Doing == Listing && e.Class == ClassInvalidCiphertext:
		return Decision{Stop, StopJob}
	case e.Doing == Listing:
		return Decision{Stop, StopInternal}
	case e.Doing == Asking && (e.Class == ClassIncorrectKey || e.Class == ClassInvalidCiphertext):
		return Decision{Do: AskOpposite}
	}
	return Decision{Do: FailSlot}
}

// passing decides on what may pass by itself.
func (e Event) passing() Decision {
	switch {
	case e.Class == ClassBusy && e.Doing != Listing && e.Silence > e.MaxOutage:
		return Decision{Do: FailSlot} // the store serves others
	case e.Silence > e.MaxOutage:
		return Decision{Stop, StopUnavailable}
	case e.Class == ClassThrottled:
		return Decision{Do: Slower}
	case e.Doing == Writing && e.Class == ClassUnknown:
		return Decision{Do: ReadAgain}
	case e.Class != ClassBusy && (e.Doing == Reading || e.Doing == Asking) && e.Failures >= attemptsTransient:
		return Decision{Do: FailSlot}
	}
	return Decision{Do: Again}
}

// denied tells a slot that may not be touched from a run that may not touch
// anything.
func (e Event) denied() Decision {
	most := denialsAtFirst
	if e.Allowed {
		most = denialsInARow
	}
	switch {
	case e.Doing == Listing || e.Denials >= most:
		return Decision{Stop, StopAccess}
	case e.Doing == Asking:
		return Decision{Do: AskOpposite}
	}
	return Decision{Do: FailSlot}
}

// CredentialsError says that there are no credentials to sign a request with.
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

// Classify sorts any error that a source or KMS gives. Codes are matched as
// text because most of them arrive as smithy.GenericAPIError (throttling,
// access denied and validation are not modeled for ReEncrypt), and the HTTP
// status decides where a server sends no code.
func Classify(err error) Class {
	switch {
	case err == nil:
		return ClassNone
	case heldOf(err) != nil:
		return ClassTransient
	case foreignResponse(err):
		return ClassUnknown
	case errors.Is(err, scan.ErrChanged):
		return ClassChanged
	case errors.Is(err, scan.ErrGone):
		return ClassGone
	case errors.Is(err, scan.ErrContended):
		return ClassBusy
	}
	if refused := (*scan.RefusedError)(nil); errors.As(err, &refused) {
		return ClassRefused
	}
	if missing := (*scan.MissingError)(nil); errors.As(err, &missing) {
		return ClassMissing
	}
	if signature := (*signatureError)(nil); errors.As(err, &signature) {
		return ClassUnexpected
	}
	if storage := (*scan.StorageError)(nil); errors.As(err, &storage) {
		return ClassStorage
	}
	if credentials := (*CredentialsError)(nil); errors.As(err, &credentials) {
		switch class := Classify(credentials.Err); {
		case class == ClassStopped:
			return ClassStopped
		case credentials.Permanent:
			return ClassCredentials
		case class == ClassTransient || class == ClassUnknown || class == ClassThrottled:
			return ClassTransient // the request itself was not sent
		}
		return ClassCredentials
	}
	if skewed(err) {
		return ClassTransient
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
	if unsent(err) {
		return ClassTransient
	}
	if transport(err) {
		return ClassUnknown
	}
	return ClassUnexpected
}

// skewed says whether the SDK takes our clock for the reason why a signature was
// refused. It signs the next request by the clock of the service (aws/retry,
// wrapAsClockSkew).
func skewed(err error) bool {
	var refused interface{ RetryableError() bool }
	return errors.As(err, &refused) && refused.RetryableError() && classifyCode(code(err)) == ClassCredentials
}

// RefusesCredentials reports whether a service refused the credentials or the signature of
// a request, including because of a wrong clock.
func RefusesCredentials(err error) bool { return classifyCode(code(err)) == ClassCredentials }

// codeSignature is the error code for a request that was changed after it was signed, or
// signed with a wrong key.
const codeSignature = "SignatureDoesNotMatch"

// ServiceCode returns the error code of a service, or "".
func ServiceCode(err error) string { return code(err) }

// unsent is true when no service has seen the request.
func unsent(err error) bool {
	var name *net.DNSError
	return errors.As(err, &name) || errors.Is(err, syscall.ECONNREFUSED)
}

// code returns the service's error code, "" when the error is not a service's.
func code(err error) string {
	if api := (smithy.APIError)(nil); errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func classifyCode(code string) Class {
	switch strings.TrimPrefix(code, "KMS.") { // S3 names the errors of its KMS like this
	case "ThrottlingException", "ThrottlingError", "Throttling", "ThrottledException", "RequestThrottled",
		"RequestThrottledException", "TooManyRequestsException", "LimitExceededException", "RequestLimitExceeded",
		"ProvisionedThroughputExceededException", "ProvisionedThroughputExceeded", "SlowDown":
		return ClassThrottled
	case "TransactionConflict", "TransactionConflictException", "ReplicatedWriteConflictException":
		return ClassBusy
	case "KMSInternalException", "DependencyTimeoutException", "InternalServerError", "InternalError", "InternalFailure",
		"ServiceUnavailable", "RequestTimeout", "RequestTimeoutException":
		return ClassUnknown
	case "KeyUnavailableException", "OperationAborted", "ConditionalRequestConflict":
		return ClassTransient
	case "IncorrectKeyException":
		return ClassIncorrectKey
	case "InvalidCiphertextException", "ValidationException", "ValidationError":
		return ClassInvalidCiphertext
	case "AccessDeniedException", "AccessDenied", "AllAccessDisabled", "AccountProblem", "OptInRequired":
		return ClassDenied
	case "DisabledException", "NotFoundException", "KMSInvalidStateException", "InvalidKeyUsageException",
		"InvalidGrantTokenException":
		return ClassKeyState
	case "ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId",
		"InvalidAccessKeyId", "InvalidSignatureException", codeSignature, "IncompleteSignature",
		"MissingAuthenticationTokenException", "InvalidIdentityToken", "IDPRejectedClaim", "InvalidToken", "TokenRefreshRequired", "RequestTimeTooSkewed", "RequestExpired":
		return ClassCredentials
	case "ResourceNotFoundException", "ResourceNotFound", "NoSuchBucket", "PermanentRedirect", "TemporaryRedirect",
		"AuthorizationHeaderMalformed": // the last three: a bucket of another Region
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
		return ClassUnknown
	case status == http.StatusMovedPermanently:
		return ClassMissing
	case code(err) != "" && code(err) != outage.WithoutCode && code(err) != "Forbidden":
		return ClassNone
	case status >= http.StatusBadRequest && withoutCode(err):
		return ClassUnknown
	case status == http.StatusForbidden:
		return ClassDenied
	}
	return ClassNone
}

// withoutCode reports whether an error response to a request for KMS or DynamoDB has no
// error code. These services always send one, so the response is that of another server,
// such as a proxy.
func withoutCode(err error) bool {
	var operation *smithy.OperationError
	if !errors.As(err, &operation) || operation.ServiceID != "KMS" && operation.ServiceID != "DynamoDB" {
		return false
	}
	return code(err) == "" || code(err) == outage.WithoutCode
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

// DeniedReason reports whether a reason in the ledger means that access was denied.
func DeniedReason(reason string) bool {
	if reason == "" || reason == reasonAccessDenied || reason == "forbidden" {
		return reason != ""
	}
	return classifyCode(strings.ToUpper(reason[:1])+reason[1:]) == ClassDenied
}

// reasonOf makes the word for the ledger out of an error: the service's own
// code where there is one. The text of an error never goes there, since it may
// repeat what was sent, and of a code nothing that looks like a secret.
func reasonOf(err error) (reason, detail string) {
	if refused := (*scan.RefusedError)(nil); errors.As(err, &refused) {
		return refused.Reason, refused.Detail
	}
	if code := redact.Code(code(err)); code != "" {
		return strings.ToLower(code[:1]) + code[1:], "the service answered " + code
	}
	return reasonService, "the service could not be asked"
}
