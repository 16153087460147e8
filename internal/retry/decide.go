package retry

import "time"

// Operation is the purpose of a request.
type Operation int

// The operations.
const (
	Listing Operation = iota // reads a page of a target, which cannot be skipped
	Reading                  // reads one item
	Asking                   // asks KMS about one ciphertext
	Writing                  // writes one item under a condition
)

// Event is the result of a request and its history, the input of Decide.
type Event struct {
	Operation Operation
	Kind      ErrorKind
	// Failures is the number of failures of this request, including the last one, between
	// which other requests to the service were answered.
	Failures int
	// Refusals is the number of times that the signature of this request was refused while
	// other requests with the same credentials succeeded.
	Refusals int
	// Unanswered is the time since the last usable response of the service to any request.
	// MaxOutage is its limit.
	Unanswered, MaxOutage time.Duration
	// UnusableFor is the time since this request first failed because of a key or the
	// credentials. Settle is its limit. Such errors can be temporary: the state of keys in KMS
	// is eventually consistent, and credentials are renewed.
	UnusableFor, Settle time.Duration
	// Denials is the number of denials since the last success. Allowed reports whether there
	// was any success.
	Denials int
	Allowed bool
}

// Action is what the caller must do after a request.
type Action string

// The actions.
const (
	// Accept: the request succeeded.
	Accept Action = "accept"
	// Again: send the same request after a delay.
	Again Action = "again"
	// Slower: send the same request after a delay. The limiter lowers the rate of the run.
	Slower Action = "slower"
	// ReadAgain: read the current item, compare it with the write, and decide its slots again.
	ReadAgain Action = "read again"
	// AskOpposite: ask KMS whether the slot is already under the destination key.
	AskOpposite Action = "ask opposite"
	// FailSlot: the error concerns only this slot. It fails.
	FailSlot Action = "fail slot"
	// ItemGone: the item no longer exists.
	ItemGone Action = "let go"
	// Stop: the error concerns the whole run. No slot is marked as failed.
	Stop Action = "stop"
)

// Decision is the result of Decide. Stop is the kind of stop if Do is the action Stop.
type Decision struct {
	Do   Action
	Stop StopKind
}

// Limits that separate an error of the whole run from an error of one slot.
const (
	// MaxAttempts is the maximum number of attempts for a request while the service answers
	// other requests. After that, the error is attributed to the request.
	MaxAttempts = 8
	// attemptsSignature is the number of times that the signature of a request may be refused
	// although other requests with the same credentials succeed in between. A proxy that
	// changes the name of an object causes this.
	attemptsSignature = 3
	// denialsAtFirst is the number of denials after which the run stops because of missing
	// permissions, if no request has succeeded yet. denialsInARow is the number of denials
	// since the last success.
	denialsAtFirst = 8
	denialsInARow  = 50
)

// Decide returns what follows from the result of a request. No other code decides this. Decide
// is a pure function: it reads no clock and sends no request.
func Decide(e Event) Decision {
	switch e.Kind {
	case KindNone:
		return Decision{Do: Accept}
	case KindStopped:
		return Decision{Stop, StopInterrupted}
	case KindThrottled, KindBusy, KindTransient, KindUnknown:
		return e.temporary()
	case KindKeyState, KindCredentials:
		switch {
		case e.Kind == KindCredentials && e.Operation == Reading &&
			e.Refusals > attemptsSignature:
			return Decision{Do: FailSlot} // the credentials are valid for other requests
		case e.Kind == KindKeyState && (e.Operation == Reading || e.Operation == Writing):
			// the key with which the store encrypts this item, for example with SSE-KMS
			return e.denied()
		case e.UnusableFor < e.Settle:
			return Decision{Do: Again}
		}
		return Decision{Stop, StopAccess}
	case KindMissing:
		return Decision{Stop, StopJob}
	case KindStorage:
		return Decision{Stop, StopStorage}
	case KindDenied:
		return e.denied()
	case KindChanged:
		return Decision{Do: ReadAgain}
	case KindGone:
		return Decision{Do: ItemGone}
	}
	switch {
	case e.Operation == Listing && e.Kind == KindInvalidCiphertext:
		return Decision{Stop, StopJob}
	case e.Operation == Listing:
		return Decision{Stop, StopInternal}
	case e.Operation == Asking && (e.Kind == KindIncorrectKey || e.Kind == KindInvalidCiphertext):
		return Decision{Do: AskOpposite}
	}
	return Decision{Do: FailSlot}
}

// temporary decides about errors that can be temporary.
func (e Event) temporary() Decision {
	switch {
	case e.Kind == KindBusy && e.Operation != Listing && e.Unanswered > e.MaxOutage:
		return Decision{Do: FailSlot} // the store answers requests for other items
	case e.Unanswered > e.MaxOutage:
		return Decision{Stop, StopUnavailable}
	case e.Kind == KindThrottled:
		return Decision{Do: Slower}
	case e.Operation == Writing && e.Kind == KindUnknown:
		return Decision{Do: ReadAgain}
	case e.Kind != KindBusy && (e.Operation == Reading || e.Operation == Asking) &&
		e.Failures >= MaxAttempts:
		return Decision{Do: FailSlot}
	}
	return Decision{Do: Again}
}

// denied decides whether a denial concerns one slot or the whole run.
func (e Event) denied() Decision {
	most := denialsAtFirst
	if e.Allowed {
		most = denialsInARow
	}
	switch {
	case e.Operation == Listing || e.Denials >= most:
		return Decision{Stop, StopAccess}
	case e.Operation == Asking:
		return Decision{Do: AskOpposite}
	}
	return Decision{Do: FailSlot}
}
