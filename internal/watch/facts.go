// Package watch asks AWS how the source keys of a job are used: KMS for the state, the last use,
// the grants, aliases and rotation of each key, and CloudTrail for its callers. It only reads. A
// call that fails does not end the others: the result names what could not be seen.
//
// The caller owns the clients and knows the requests of rotator itself (Own). The result is
// plain data.
package watch

import (
	"slices"
	"strings"
	"time"
)

// The delays that AWS documents for its facts.
const (
	// UsageDelay is the longest time until GetKeyLastUsage reports a use.
	UsageDelay = time.Hour
	// TrailDelay is the time within which CloudTrail typically delivers an event.
	TrailDelay = 15 * time.Minute
	// TrailHistory is how long CloudTrail keeps events for LookupEvents.
	TrailHistory = 90 * 24 * time.Hour
)

// Own is what is known about the requests to KMS that rotator sent.
type Own struct {
	// RequestIDs has the ids of at least the last 1,000 requests, or of fewer if there are not
	// more. It is empty if none are known.
	RequestIDs map[string]bool
	// Gaps is a time before which RequestIDs may lack requests; zero if it lacks none.
	Gaps time.Time
	// Last is a time after which rotator sent no request; zero if it is not known.
	Last time.Time
}

// Result is what one round found. The names of its JSON fields, and of those of its parts, are
// part of the public interface (docs/watch.md).
type Result struct {
	Job     string    `json:"job"`
	Version string    `json:"version"`
	Asked   time.Time `json:"asked"`
	// Since is the begin of the period that Status is about.
	Since  time.Time `json:"since"`
	Status Status    `json:"status"` // the worst one of the keys
	Keys   []Key     `json:"keys"`

	requests map[string]*event // that concern a key, by their id
}

// Status is what is known about the use of a key.
type Status string

// The statuses, the worst one last.
const (
	Quiet   Status = "quiet"   // no use and no refused call of another caller is known
	Unknown Status = "unknown" // neither KMS nor CloudTrail reported on the use of the key
	Refused Status = "refused" // calls of another caller were refused
	Used    Status = "used"    // another caller used the key
)

// rank orders the statuses.
func (s Status) rank() int {
	return map[Status]int{Quiet: 0, Unknown: 1, Refused: 2, Used: 3}[s]
}

// Key is what was found about one source key.
type Key struct {
	ARN      string `json:"key"`
	Given    string `json:"given"` // as in the job file
	Status   Status `json:"status"`
	Sentence string `json:"sentence"`
	// State is the state of the key in KMS, or "" if it could not be read. Created, Disabled and
	// Deletion are zero if they are not known. Disabled is the time since which the key cannot be
	// used, from CloudTrail.
	State    string    `json:"state,omitempty"`
	Spec     string    `json:"spec,omitempty"`
	Created  time.Time `json:"created,omitzero"`
	Disabled time.Time `json:"disabled,omitzero"`
	Deletion time.Time `json:"deletion,omitzero"`

	LastUsage Usage     `json:"last_usage"`
	Trail     Trail     `json:"trail"`
	Grants    []Grant   `json:"grants"`   // null if they could not be read
	Aliases   []string  `json:"aliases"`  // null if they could not be read
	Rotation  *Rotation `json:"rotation"` // null if it could not be read, or for an asymmetric key
	// CannotSee has an entry for each fact that could not be read.
	CannotSee []Unseen `json:"cannot_see"`
	// Facts are sentences on the facts above, each with the delay of its source.
	Facts []Fact `json:"facts"`
}

// Fact is one sentence about a key.
type Fact struct {
	About    string `json:"about"`
	Sentence string `json:"sentence"`
}

// Blind reports whether nothing is known about the use of the key.
func (k *Key) Blind() bool { return k.LastUsage.Asked.IsZero() && k.Trail.Asked.IsZero() }

// unusable reports whether no caller can use the key.
func (k *Key) unusable() bool { return k.State == "Disabled" || k.State == "PendingDeletion" }

// name returns the alias in the job file, if it names the key, otherwise the last part of the ARN.
func (k *Key) name() string {
	if i := strings.Index(k.Given, "alias/"); i >= 0 &&
		(k.Aliases == nil || slices.Contains(k.Aliases, k.Given[i:])) {
		return k.Given[i:]
	}
	if k.ARN == "" {
		return k.Given
	}
	return k.ARN[strings.LastIndexByte(k.ARN, ':')+1:]
}

// account returns the account in the ARN of the key, or "".
func (k *Key) account() string {
	if parts := strings.Split(k.ARN, ":"); len(parts) > 4 {
		return parts[4]
	}
	return ""
}

// By is the caller of the last use of a key.
type By string

// The kinds of callers.
const (
	ByRotator By = "rotator" // a request of rotator itself, by its request id
	ByOther   By = "other"
	// ByUnknown is a use at a time when rotator sent requests whose ids are not known, or of a
	// time of which no request of rotator is known at all.
	ByUnknown By = "unknown"
)

// Usage is the last successful use of a key (GetKeyLastUsage).
type Usage struct {
	// Asked is zero if KMS did not answer.
	Asked time.Time `json:"asked,omitzero"`
	// Tracking is when KMS began to record uses of the key.
	Tracking  time.Time `json:"tracking_since,omitzero"`
	At        time.Time `json:"at,omitzero"` // zero if no use is known
	Operation string    `json:"operation,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
	EventID   string    `json:"event_id,omitempty"`
	By        By        `json:"by,omitempty"`
	// Caller is the caller of the use, if CloudTrail named it.
	Caller string `json:"caller,omitempty"`
	// Early is true if KMS was asked less than UsageDelay after the last request of rotator. It
	// may then not know of a later use. Ask again at AskAgain.
	Early    bool      `json:"early,omitempty"`
	AskAgain time.Time `json:"ask_again,omitzero"`
}

// Trail is what the event history of CloudTrail has about a key.
type Trail struct {
	// Asked is zero if CloudTrail did not answer at all.
	Asked time.Time `json:"asked,omitzero"`
	// From is the time from which on the history was read. Partial is true if it was not read
	// from the beginning of the period on; Why states the reason.
	From    time.Time `json:"from,omitzero"`
	Partial bool      `json:"partial,omitempty"`
	Why     string    `json:"why,omitempty"`
	// Pages and Events count what this round has read.
	Pages  int `json:"pages"`
	Events int `json:"events"` // of KMS
	// Own are the requests of rotator with the key, by their ids. OwnByAgent are further
	// requests with the user agent of rotator until Own.Last. Neither are in Callers.
	Own        int `json:"own"`
	OwnByAgent int `json:"own_by_user_agent"`

	Callers []Caller `json:"callers"`
}

// Caller is one caller of one operation with one result. Operations that only manage or describe
// a key are left out.
type Caller struct {
	ARN string `json:"caller"` // of the role, user or service
	// Via is the AWS service that made the call for the caller.
	Via       string `json:"via,omitempty"`
	Operation string `json:"operation"`
	// Result is the error code, or "" for a success.
	Result  string `json:"result,omitempty"`
	Refused bool   `json:"refused"`
	// Rotator is true if the user agent is that of rotator, but the records of the job have no
	// such request.
	Rotator bool      `json:"rotator,omitempty"`
	Calls   int64     `json:"calls"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

// used reports whether the calls are uses of the key. A dry run is none.
func (c Caller) used() bool { return c.Result == "" }

// Grant is a grant on a key.
type Grant struct {
	ID         string    `json:"id"`
	Name       string    `json:"name,omitempty"`
	Grantee    string    `json:"grantee"`
	Operations []string  `json:"operations"`
	Created    time.Time `json:"created,omitzero"`
}

// Rotation is the rotation status of a symmetric key.
type Rotation struct {
	Enabled    bool       `json:"enabled"`
	PeriodDays int        `json:"period_days,omitempty"`
	Next       time.Time  `json:"next,omitzero"`
	Materials  []Material `json:"materials,omitempty"` // as KMS lists them
}

// Material is one material of a key.
type Material struct {
	ID      string    `json:"id"`
	State   string    `json:"state"`
	Rotated time.Time `json:"rotated,omitzero"` // zero for the first material
}

// Unseen is a fact that could not be read.
type Unseen struct {
	What       string `json:"what"`
	Permission string `json:"permission"`
	// Reason is access-denied, throttled, no-answer, not-supported or the error code.
	Reason   string `json:"reason"`
	Sentence string `json:"sentence"`
}
