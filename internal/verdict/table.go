package verdict

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rotator/internal/plural"
)

// row is one row of the decision table.
type row struct {
	code   Code
	reason string
	fits   func(*facts) bool
	// sentence follows the name of the key. also states the same fact as a further reason.
	sentence, also func(*facts) string
	steps          func(*facts) []Step
}

// table returns the rows in the order in which they are tested. The last row always fits.
func table() []row {
	rows := append(cannotRows(), notProvenRows()...)
	return append(rows, quietRows()...)
}

// sameKey is the reason of a key that the job does not retire.
const sameKey = "same-key"

// cannotRows are the rows of keys on which ciphertexts or callers depend.
func cannotRows() []row {
	cannot := func(
		reason string, fits func(*facts) bool, sentence func(*facts) string,
		steps func(*facts) []Step,
	) row {
		also := func(f *facts) string { return f.name + " " + sentence(f) }
		return row{Cannot, reason, fits, sentence, also, steps}
	}
	return []row{
		cannot(sameKey, (*facts).staysInUse, (*facts).sameKeyText, noSteps),
		cannot("deleting", func(f *facts) bool {
			return f.Key.State == StatePendingDeletion && f.needed() > 0
		}, (*facts).deleting, (*facts).rescueKey),
		cannot("refused-calls", func(f *facts) bool {
			return f.Key.unusable() && f.refused > 0
		}, (*facts).refusedCalls, (*facts).serveCaller),
		cannot("remaining", func(f *facts) bool { return f.remaining() != nil },
			(*facts).remainingText, (*facts).moveRest),
		cannot("again", func(f *facts) bool { return f.again() != nil }, (*facts).againText,
			(*facts).findWriter),
		cannot("versions", func(f *facts) bool { return f.oldVersions() != nil },
			(*facts).versionsText, (*facts).expireVersions),
		cannot("left-behind", func(f *facts) bool { return len(f.leftBehind()) > 0 },
			(*facts).leftBehindText, (*facts).restore),
	}
}

// notProvenRows are the rows of keys about which too little is known.
func notProvenRows() []row {
	unproven := func(
		reason string, fits func(*facts) bool, why func(*facts) string,
		steps func(*facts) []Step,
	) row {
		sentence := func(f *facts) string { return f.unproven() + " " + why(f) }
		return row{NotProven, reason, fits, sentence, why, steps}
	}
	return []row{
		unproven("no-look", func(f *facts) bool { return f.proof == nil }, (*facts).noLook,
			(*facts).readAll),
		unproven("other-place", func(f *facts) bool { return f.otherPlace() != "" },
			(*facts).otherPlaceText, (*facts).verify),
		unproven("moved", func(f *facts) bool { return f.proof != nil && f.proven().moved > 0 },
			(*facts).movedText, (*facts).verify),
		unproven("stale", func(f *facts) bool { why, _ := f.stale(); return why != fresh },
			(*facts).staleText, (*facts).verifyLater),
		unproven("empty", (*facts).isEmpty, (*facts).emptyText, (*facts).correctRules),
		unproven("filtered", func(f *facts) bool { return f.proof != nil && f.proof.Filtered > 0 },
			(*facts).filteredText, (*facts).stateComplete),
		unproven("left-behind-failed", func(f *facts) bool { return len(f.leftFailed()) > 0 },
			(*facts).leftFailedText, (*facts).restore),
		unproven("headers", func(f *facts) bool { return f.doubt() != "" }, (*facts).headersText,
			(*facts).verifyExact),
		unproven("unreadable", func(f *facts) bool { return f.blocked(ofKey) > 0 },
			(*facts).unreadableText, (*facts).correctContext),
		unproven("unknown-key", func(f *facts) bool { return f.blocked(ofUnknown) > 0 },
			(*facts).unknownText, (*facts).examine),
		unproven("unread", func(f *facts) bool { return f.blocked(ofUnread) > 0 },
			(*facts).unreadText, (*facts).examine),
		unproven("in-use", func(f *facts) bool { return f.used != nil }, (*facts).inUseText,
			(*facts).serveUser),
	}
}

// quietRows are the rows of keys that are not needed.
func quietRows() []row {
	quiet := func(
		code Code, reason string, fits func(*facts) bool, sentence func(*facts) string,
		steps func(*facts) []Step,
	) row {
		return row{code, reason, fits, sentence, sentence, steps}
	}
	return []row{
		quiet(DisabledQuiet, "disabled-quiet", func(f *facts) bool {
			return f.Key.unusable() && f.watched()
		}, (*facts).quietText, (*facts).keepWatching),
		quiet(CanBeDisabled, "disabled", func(f *facts) bool { return f.Key.unusable() },
			(*facts).disabledText, (*facts).keepWatching),
		quiet(CanBeDisabled, "can-be-disabled", func(*facts) bool { return true },
			(*facts).canBeDisabledText, (*facts).disable),
	}
}

func ofKey(n failed) int64     { return n.ofKey }
func ofUnknown(n failed) int64 { return n.unknown }
func ofUnread(n failed) int64  { return n.unread }
func isLeft(c counts) bool     { return c.under > 0 }
func isFound(c counts) bool    { return c.found > 0 }

// staysInUse reports whether the job leaves its ciphertexts under the key.
func (f *facts) staysInUse() bool {
	return f.Key.ARN == f.Destination || f.Mode == modeRefresh || f.Mode == modeContext
}

// remaining returns the pass that left ciphertexts under the key, or nil: the proof, or any pass if
// no pass was complete.
func (f *facts) remaining() *Pass {
	if f.proof == nil {
		return f.later(isLeft)
	}
	if f.proven().under > 0 {
		return f.proof
	}
	return nil
}

// needed returns the number of ciphertexts known to be under the key.
func (f *facts) needed() int64 {
	n := f.blocked(ofKey)
	if p := f.remaining(); p != nil {
		n += f.counts[p].under
	}
	if p := f.again(); p != nil {
		n += f.counts[p].found
	}
	for _, d := range f.leftBehind() {
		n += d.known()
	}
	return n
}

// again returns the newest pass since base that found ciphertexts under the key, or nil. Without a
// proof, only targets count that base has read too.
func (f *facts) again() *Pass {
	if f.proof != nil {
		return f.later(isFound)
	}
	for _, p := range f.since {
		found := func(t Target) bool {
			k := t.Keys[f.Key.ARN]
			return k.Slots > k.Unreadable && (f.base.names(t.Name) || f.base.reads(&t, true))
		}
		if f.base != nil && p != f.base && slices.ContainsFunc(p.Targets, found) {
			return p
		}
	}
	return nil
}

// oldVersions returns the newest pass that counted old versions under the key, or nil.
func (f *facts) oldVersions() *Pass {
	has := func(c counts) bool { return c.versions > 0 }
	if p := f.later(has); p != nil {
		return p
	}
	if f.proof != nil && has(f.proven()) {
		return f.proof
	}
	return nil
}

func (f *facts) isEmpty() bool {
	return f.proof != nil && (len(f.proof.Empty) > 0 || f.proven().seen == 0)
}

// doubt returns the first reason why the figures of the proof are not evidence, or "".
func (f *facts) doubt() string {
	if f.proof == nil {
		return ""
	}
	for _, part := range f.proof.Samples {
		switch {
		case part.Disagreed > 0:
			return fmt.Sprintf("KMS disagreed with %s of %s that were checked.",
				plural.Digits(part.Disagreed), count(part.Checked, "ciphertext header"))
		case part.Population > 0 && part.Checked < sampleOf(part.Population):
			return fmt.Sprintf("Of %s that were decided by their header, KMS was asked about "+
				"only %s.", count(part.Population, "slot"), plural.Digits(part.Checked))
		}
	}
	if len(f.proof.Doubts) > 0 {
		return sentence(f.proof.Doubts[0])
	}
	return ""
}

// unproven begins the sentences of keys about which too little is known.
func (f *facts) unproven() string { return "is not yet proven to be unused." }

func (f *facts) sameKeyText() string {
	switch f.Mode {
	case modeRefresh:
		return "stays in use. This job moves its ciphertexts to its newest key material."
	case modeContext:
		return "stays in use. This job changes the encryption context of its ciphertexts."
	}
	return "stays in use. It is also the destination key of this job."
}

func (f *facts) deleting() string {
	n := f.needed()
	return fmt.Sprintf("is scheduled for deletion%s, and %s %s on it. Cancel the deletion.",
		onDate(f.Key.Deletion), count(n, "ciphertext"), plural.Form(n, "depends", "depend"))
}

func (f *facts) refusedCalls() string {
	text := fmt.Sprintf("is disabled, and a caller still needs it. %s refused since %s. "+
		"The last one was by %s",
		have(f.refused, "call"), sinceWhen(f.Key.Disabled), f.last.name())
	return text + fmt.Sprintf(" at %s.", stamp(f.last.Last))
}

func (f *facts) remainingText() string {
	p := f.remaining()
	c := f.counts[p]
	began := "cannot be disabled."
	switch f.Key.State {
	case StateDisabled:
		began = "is disabled, but ciphertexts still depend on it."
	case StatePendingDeletion:
		began = "is scheduled for deletion, but ciphertexts still depend on it."
	}
	seen := count(c.seen, "ciphertext")
	if !f.complete(p) {
		seen += " that " + p.Name() + " read"
	}
	return fmt.Sprintf("%s %s of the %s in %s %s on it: %s.", began, plural.Digits(c.under), seen,
		count(int64(len(p.Targets)), "place"), plural.Form(c.under, "depends", "depend"),
		where(c.byTarget))
}

func (f *facts) againText() string {
	p := f.again()
	n := f.counts[p].found
	return fmt.Sprintf("cannot be disabled. %s found %s under it after %s had left none there. "+
		"A writer still uses the key.", upper(p.Name()), count(n, "ciphertext"), f.base.Name())
}

func (f *facts) versionsText() string {
	c := f.counts[f.oldVersions()]
	return fmt.Sprintf("cannot be disabled. %s of objects %s on it: %s.",
		count(c.versions, "old version"), plural.Form(c.versions, "depends", "depend"),
		where(c.versionsByTarget))
}

func (f *facts) noLook() string {
	const none = "No pass has read all targets of this job to the end."
	if len(f.since) == 0 {
		return none
	}
	p := f.since[0]
	switch {
	case p.OtherJob:
		return none + " " + upper(p.Name()) + " belongs to another version of the job file."
	case !f.asked(p):
		return none + " The key was not a source key of " + p.Name() + "."
	case isRead(p) && !p.HasVersions(f.VersionsOf):
		return none + " " + upper(p.Name()) + " did not read the old versions of objects."
	case p.Incremental:
		return none + " " + upper(p.Name()) + " read only what had changed since an earlier pass."
	}
	return fmt.Sprintf("%s %s has read %s so far.", none, upper(p.Name()),
		count(f.counts[p].seen, "ciphertext"))
}

func (f *facts) movedText() string {
	return fmt.Sprintf("%s moved %s. Only a later pass that finds no ciphertext to move proves it.",
		upper(f.proof.Name()), count(f.proven().moved, "ciphertext"))
}

func (f *facts) staleText() string {
	began := fmt.Sprintf("%s began at %s", upper(f.proof.Name()), stamp(f.proof.Started))
	why, run := f.stale()
	switch {
	case why == staleRun && run.Ended.IsZero():
		return began + ", and " + run.Name() + " has not ended."
	case why == staleRun:
		return fmt.Sprintf("%s, before %s ended at %s.", began, run.Name(), stamp(run.Ended))
	case why == staleRead:
		return fmt.Sprintf("%s, before %s ended at %s, which found %s under this key.", began,
			run.Name(), stamp(run.Ended), count(f.counts[run].under, "ciphertext"))
	case why == staleWorking:
		return began + ", and a run is working on the job now. What it does is not known until " +
			"it has ended."
	case why == staleFuture:
		return began + ", which is in the future. Check the clocks."
	}
	return fmt.Sprintf("%s, %s ago. The result counts for %s, because callers can use the key at "+
		"any time.", began, span(f.Now.Sub(f.proof.Started)), span(f.MaxAge))
}

func (f *facts) emptyText() string {
	if len(f.proof.Empty) == 0 {
		return "No ciphertext was found in any place. That proves nothing, even where the job " +
			"file allows it."
	}
	return fmt.Sprintf("No ciphertext was found in %s. Check path, prefix and format.",
		listed(f.proof.Empty))
}

func (f *facts) filteredText() string {
	return fmt.Sprintf("The filters of the job file left out %s, and complete does not state why "+
		"these contain no ciphertext under this key.", count(f.proof.Filtered, "item"))
}

func (f *facts) headersText() string {
	return "Some figures of " + f.proof.Name() + " are not evidence. " + f.doubt()
}

func (f *facts) unreadableText() string {
	n := f.blocked(ofKey)
	return fmt.Sprintf("KMS cannot decrypt %s under this key. The encryption context in the job "+
		"file may be wrong.", count(n, "ciphertext"))
}

func (f *facts) unknownText() string {
	n := f.blocked(ofUnknown)
	text := fmt.Sprintf("%s failed, and %s may be under this key.", count(n, "slot"),
		plural.Form(n, "it", "they"))
	if !f.Key.Symmetric {
		text += " Ciphertexts under an asymmetric key have no header that identifies the key."
	}
	return text
}

func (f *facts) unreadText() string {
	n := f.blocked(ofUnread)
	return fmt.Sprintf("%s could not be read, so KMS was not asked about %s.",
		count(n, "item or slot"), plural.Form(n, "it", "them"))
}

func (f *facts) inUseText() string {
	return fmt.Sprintf("No ciphertext was found under it, but it was used at %s by %s, after %s "+
		"had begun.", stamp(f.used.Last), f.used.name(), f.proof.Name())
}

// none states that no ciphertext depends on the key, with its basis.
func (f *facts) none() string {
	return fmt.Sprintf("None of the %s in %s depends on it, as of %s, when %s began",
		count(f.proven().seen, "ciphertext"), count(int64(len(f.proof.Targets)), "place"),
		stamp(f.proof.Started), f.proof.Name())
}

func (f *facts) quietText() string {
	days := f.Trail.Asked.Sub(f.Key.Disabled)
	if f.Key.State == StatePendingDeletion {
		return fmt.Sprintf("is scheduled for deletion%s. No call has been refused for %s. %s.%s",
			onDate(f.Key.Deletion), span(days), f.none(), lateText(days))
	}
	return fmt.Sprintf("is disabled. No call has been refused for %s. %s.%s", span(days), f.none(),
		lateText(days))
}

// trailDelay is the time within which CloudTrail typically delivers an event (AWS CloudTrail User
// Guide, "How CloudTrail works").
const trailDelay = 15 * time.Minute

// lateText states that refused calls can be missing, if the key has been disabled for a short time.
func lateText(disabled time.Duration) string {
	if disabled >= trailDelay {
		return ""
	}
	return " CloudTrail typically delivers events within 15 minutes, so refused calls can be " +
		"missing."
}

func (f *facts) disabledText() string {
	state := "is disabled."
	if f.Key.State == StatePendingDeletion {
		state = "is scheduled for deletion" + onDate(f.Key.Deletion) + "."
	}
	return state + " " + f.none() + ". It is not known whether calls have been refused since it " +
		"was disabled."
}

func (f *facts) canBeDisabledText() string {
	return "can be disabled. " + f.none() + f.usesText()
}

// usesText states what is known about uses by other callers. It ends the sentence of none.
func (f *facts) usesText() string {
	u := f.LastUsage
	switch {
	case u.Asked.IsZero() && f.Trail.Asked.IsZero():
		return ". Other uses of the key were not checked."
	case u.Asked.IsZero() && (f.Trail.Partial || f.Trail.From.After(f.proof.Started)):
		return ". CloudTrail did not show all uses of the key since then."
	case u.Asked.IsZero():
		return ", and CloudTrail shows no use by another caller since then."
	case u.Early:
		return ". It is too early to know other uses: ask again one hour after rotator's last " +
			"request."
	case u.At.IsZero():
		return ", and no use of the key is known."
	case u.Unclear:
		return ". Its last use, at " + stamp(u.At) + ", can be a request of rotator or of " +
			"another caller."
	case u.ByRotator:
		return ", and no other caller has used it since rotator's last request, at " +
			stamp(u.At) + "."
	}
	return ", and no caller has used it since " + stamp(u.At) + "."
}

// name returns how a caller is named in a sentence, with the operation.
func (c *Caller) name() string {
	name := "an unknown caller"
	if c.ARN != "" {
		name = c.ARN[strings.LastIndex(c.ARN, ":")+1:]
	}
	if c.Operation != "" {
		name += " (" + c.Operation + ")"
	}
	return name
}

// Name returns how a pass is named within a sentence.
func (p *Pass) Name() string {
	switch {
	case p.Number == 0 && p.Command != "":
		return "this " + p.Command
	case p.Number == 0:
		return "this pass"
	case p.ReadOnly:
		return fmt.Sprintf("read-only pass %d", p.Number)
	}
	return fmt.Sprintf("pass %d", p.Number)
}

// sinceWhen returns a time for "since", if it is known.
func sinceWhen(t time.Time) string {
	if t.IsZero() {
		return "then"
	}
	return day(t)
}
