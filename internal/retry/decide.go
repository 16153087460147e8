package retry

import "time"

// Operation is what a request is for.
type Operation int

// What requests are for.
const (
	Listing Operation = iota // a page of a target, which cannot be skipped
	Reading                  // one item
	Asking                   // KMS, about one ciphertext
	Writing                  // one item, under a condition
)

// Event is what a request came to, and what was before it.
type Event struct {
	Operation Operation
	Kind      ErrorKind
	// Failures counts how often this very request found the service failing while
	// others were answered, this time included.
	Failures int
	// Refusals is the number of times that the signature of this request was refused while
	// other requests with the same credentials succeeded.
	Refusals int
	// Unanswered is the time since the last usable response of the service to any request.
	// MaxOutage is its limit.
	Unanswered, MaxOutage time.Duration
	// UnusableFor is how long the run's own trouble (a key, the credentials) has
	// lasted here, and Settle how long it may: KMS is eventually consistent, and
	// credentials are renewed.
	UnusableFor, Settle time.Duration
	// Denials is the number of denials since the last success. Allowed reports whether there
	// was any success.
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
	ItemGone    Action = "let go"       // the item is gone
	Stop        Action = "stop"         // the run's trouble: nothing is marked failed
)

// Decision is an action; Stop says which kind of stop.
type Decision struct {
	Do   Action
	Stop StopKind
}

// Limits that separate an error of the whole run from an error of one slot.
const (
	// MaxAttempts is how often one request is tried while the same service
	// goes on serving others: then the trouble is the request's own.
	MaxAttempts = 8
	// attemptsSignature is the number of times that the signature of a request may be refused
	// although other requests with the same credentials succeed in between. A proxy that
	// changes the name of an object causes this.
	attemptsSignature = 3
	// How many denials with no success between are taken for missing permissions:
	// fewer when nothing has ever succeeded.
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
		return e.passing()
	case KindKeyState, KindCredentials:
		switch {
		case e.Kind == KindCredentials && e.Operation == Reading &&
			e.Refusals > attemptsSignature:
			return Decision{Do: FailSlot} // the credentials are valid for other requests
		case e.Kind == KindKeyState && (e.Operation == Reading || e.Operation == Writing):
			return e.denied() // the store's own encryption of one item, such as an object
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

// passing decides on what may pass by itself.
func (e Event) passing() Decision {
	switch {
	case e.Kind == KindBusy && e.Operation != Listing && e.Unanswered > e.MaxOutage:
		return Decision{Do: FailSlot} // the store serves others
	case e.Unanswered > e.MaxOutage:
		return Decision{Stop, StopUnavailable}
	case e.Kind == KindThrottled:
		return Decision{Do: Slower}
	case e.Operation == Writing && e.Kind == KindUnknown:
		return Decision{Do: ReadAgain}
	case e.Kind != KindBusy && (e.Operation == Reading || e.Operation == Asking) && e.Failures >= MaxAttempts:
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
	case e.Operation == Listing || e.Denials >= most:
		return Decision{Stop, StopAccess}
	case e.Operation == Asking:
		return Decision{Do: AskOpposite}
	}
	return Decision{Do: FailSlot}
}
