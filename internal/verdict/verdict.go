// Package verdict decides for one source key whether it can be disabled, and states until when it
// must not be deleted. It does no I/O: Decide is a pure function of what passes found and of what
// the caller knows about the key. The caller reads these facts and prints the result.
package verdict

import (
	"slices"
	"time"
)

// Code is the decision about a key.
type Code string

// The codes.
const (
	CanBeDisabled Code = "can-be-disabled"
	DisabledQuiet Code = "disabled-quiet" // it is disabled, and no call has been refused since
	NotProven     Code = "not-proven"
	Cannot        Code = "cannot" // ciphertexts or callers depend on the key
)

// Exit returns the exit code of a decision (docs/exit-codes.md).
func (c Code) Exit() int {
	switch c {
	case CanBeDisabled, DisabledQuiet:
		return 0
	case Cannot:
		return 4
	}
	return 3
}

// Verdict is the decision about one source key. The names of its JSON fields are part of the
// public interface (docs/json.md).
type Verdict struct {
	Key    string `json:"key"` // ARN
	Alias  string `json:"alias,omitempty"`
	Code   Code   `json:"code"`
	Reason string `json:"reason"` // why; the code itself if nothing speaks against it
	// Sentence states the decision with its numbers. Why has further facts, one sentence each.
	Sentence  string   `json:"sentence"`
	Why       []string `json:"why"`
	NextSteps []Step   `json:"next_steps"`
	Delete    Deletion `json:"delete"`
	// Sample is nil if no header decided the key of a slot, or if the sample is not known.
	Sample *Sample  `json:"sample,omitempty"`
	Waived []Waived `json:"waived,omitempty"`
	Exit   int      `json:"exit"`
}

// Step is one thing to do next. Command is empty if there is no command for it.
type Step struct {
	Do      string `json:"do"`
	Command string `json:"command,omitempty"`
}

// Input is what Decide decides on.
type Input struct {
	Now time.Time
	// MaxAge is how old the proof for an enabled key may be. 0 is without limit.
	MaxAge  time.Duration
	JobFile string // for commands in the next steps
	Mode    string // of the job: move, refresh or context; "" is move
	// Destination is the ARN of the destination key.
	Destination string
	Key         Key
	Passes      []Pass // in any order
	// Working is true while a run or a retry is working on the job. What it has not saved yet is
	// not in Passes.
	Working bool
	// VersionsOf names the targets whose old versions must have been read. A pass that did not
	// read them is not complete.
	VersionsOf []string
	LastUsage  Usage
	Trail      Trail
	// Copies are the copies of old ciphertexts, and the kinds that were looked for in vain. It is
	// nil if none were looked for.
	Copies  []Copy
	Waivers []Waiver
	// Places is where the targets are according to the current job file, by their names.
	Places map[string]Place
	// Gone are the statements of the job file about data that it no longer names.
	Gone []Gone
	// Unread names earlier passes whose records cannot be read.
	Unread []string
}

// The modes that move no ciphertext to another key.
const (
	modeRefresh = "refresh"
	modeContext = "context"
)

// Key is a source key.
type Key struct {
	ARN       string
	Given     string // as in the job file
	Symmetric bool
	// State is the state of the key, as in KMS. "" is not known.
	State string
	// Disabled is when the key was disabled, and Deletion when KMS will delete it. Both are zero
	// if they are not known.
	Disabled, Deletion time.Time
}

// The states of a key in which it cannot be used.
const (
	StateDisabled        = "Disabled"
	StatePendingDeletion = "PendingDeletion"
)

// unusable reports whether no caller can use the key.
func (k Key) unusable() bool {
	return k.State == StateDisabled || k.State == StatePendingDeletion
}

// Pass is what one pass found.
type Pass struct {
	// Number is the number of the pass, or 0 for a pass that is not stored. ReadOnly is true for
	// audit and verify, whose numbers are separate.
	Number   int
	ReadOnly bool
	Command  string // that ran the pass
	// Started is when the pass began to read. Ended is zero if it has not ended.
	Started, Ended time.Time
	// Complete is true if the pass read all targets of the job to the end. Incremental is true if
	// it read only what had changed since an earlier pass; it is then never complete. No command
	// makes such passes. OtherJob is true if the job file had other keys, targets or slots; it is
	// then never complete, either.
	Complete, Incremental, OtherJob bool
	// Barred is true if the user chose another pass as the proof.
	Barred bool
	// Sources are the ARNs of the source keys of the pass. The pass proves nothing about other
	// keys. It is nil if all keys but the destination were source keys.
	Sources []string
	Targets []Target
	// Empty names the targets and rules in which no ciphertext was found, without those that may
	// be empty.
	Empty []string
	// Filtered counts the items that a filter of the job file left out although the job file
	// does not state why they contain no ciphertext under a source key.
	Filtered int64
	// Doubts are reasons why the figures are not evidence.
	Doubts []string
	// Samples are the samples of the runs of the pass. It is nil if they are not known.
	Samples []Part
	// Exceptions are at least those failed slots of the pass that waivers may cover.
	Exceptions []Exception
}

// Target is what a pass found in one target.
type Target struct {
	Name string
	// Place is nil if an earlier version made the pass. Two places with the same name are then
	// taken to be the same.
	Place *Place
	Slots Slots
	// Keys counts the slots by the ARN of the key under which they were found.
	Keys map[string]KeySlots
	// Origins counts failed slots by what is known about their key: an ARN, a header token with
	// the prefix "token:", or one of the constants.
	Origins map[string]int64
	// Versions counts the old versions of objects by the ARN of their key, without those that KMS
	// cannot decrypt. It is nil if the pass did not read old versions. VersionOrigins is Origins
	// for old versions.
	Versions       map[string]int64
	VersionOrigins map[string]int64
	// RowsInPart and Bodies count rows and objects of which only a part was read.
	RowsInPart, Bodies int64
}

// Slots counts slots by outcome. Seen is the sum of the others.
type Slots struct {
	Seen, Rotated, Current, Remaining, Foreign, Failed, Conflict, Gone int64
}

// KeySlots counts the slots that were found under one key.
type KeySlots struct {
	Slots      int64
	Moved      int64 // that are no longer under the key
	Unreadable int64 // that KMS cannot decrypt
	ByHeader   int64 // whose key only their header names
}

// The values of Target.Origins and Exception.Origin that name no key.
const (
	OriginUnread  = "unread"  // no ciphertext could be read, so KMS was not asked
	OriginNone    = "none"    // it has no header of a ciphertext under a symmetric key
	OriginUnknown = "unknown" // nothing is known
	originToken   = "token:"
)

// Usage is the last successful use of a key (GetKeyLastUsage).
type Usage struct {
	Asked     time.Time // zero if KMS was not asked, or refused to answer
	At        time.Time // zero if no use is known
	Operation string
	Caller    string // "" if it is not known
	// ByRotator is true if rotator itself made the request.
	ByRotator bool
	// Unclear is true if rotator sent requests at that time whose ids are not known, so that the
	// use can be one of them.
	Unclear bool
	// Early is true if KMS was asked too early to know the uses after the last request of
	// rotator.
	Early bool
}

// Trail is what CloudTrail knows about calls of others than rotator.
type Trail struct {
	Asked time.Time // zero if it was not asked, or refused to answer
	// From is the time of the oldest event that was read. Partial is true if not all events
	// since then were read.
	From    time.Time
	Partial bool
	Callers []Caller
}

// Caller is one caller of one operation with the key.
type Caller struct {
	ARN       string
	Operation string
	Refused   bool
	Calls     int64
	Last      time.Time
}

// Decide decides about the key. The first row of the table that fits is the decision
// (docs/results.md).
func Decide(in Input) Verdict {
	f := study(in)
	rows := table()
	at := slices.IndexFunc(rows, func(r row) bool { return r.fits(f) })
	first := rows[at]
	v := Verdict{
		Key:       in.Key.ARN,
		Alias:     in.Key.alias(),
		Code:      first.code,
		Reason:    first.reason,
		Sentence:  f.name + " " + first.sentence(f),
		Why:       []string{},
		NextSteps: first.steps(f),
		Delete:    f.deletion(first.code),
		Sample:    f.sample(),
		Waived:    f.waived,
		Exit:      first.code.Exit(),
	}
	if first.reason == sameKey {
		return v
	}
	for _, other := range rows[at+1:] {
		if other.code == first.code && first.code.Exit() != 0 && other.fits(f) {
			v.Why = append(v.Why, other.also(f))
		}
	}
	v.Why = append(v.Why, f.why(first.code)...)
	return v
}

// Worst returns the exit code of several verdicts. Without any verdict it returns the code of
// NotProven.
func Worst(verdicts []Verdict) int {
	worst := 0
	for _, v := range verdicts {
		worst = max(worst, v.Exit)
	}
	if len(verdicts) == 0 {
		return NotProven.Exit()
	}
	return worst
}
