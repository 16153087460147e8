package watch

import (
	"fmt"
	"strings"
	"time"

	"rotator/internal/plural"
)

// conclude sets the status and the sentences of a key. since is the begin of the period.
func (k *Key) conclude(since time.Time) {
	k.Status = k.status(since)
	k.Sentence = k.name() + " " + k.sentence(since)
	k.Facts = []Fact{}
	add := func(about, sentence string) {
		if sentence != "" {
			k.Facts = append(k.Facts, Fact{about, sentence})
		}
	}
	add("state", k.stateSentence())
	add("last use", k.LastUsage.sentence())
	add("calls", k.Trail.Sentence())
	add("grants", k.grantSentence())
	add("aliases", k.aliasSentence())
	add("rotation", k.Rotation.sentence())
}

// status decides about the key. Only calls since the begin of the period count.
func (k *Key) status(since time.Time) Status {
	u := k.LastUsage
	if u.By != ByRotator && !u.At.IsZero() && !u.At.Before(since) {
		return Used
	}
	refused := false
	for _, c := range k.Trail.Callers {
		if c.used() {
			return Used
		}
		refused = refused || c.Refused
	}
	switch {
	case refused:
		return Refused
	case k.Trail.Asked.IsZero() && (u.Asked.IsZero() || u.Early || k.unusable()):
		return Unknown // nothing reports refused calls, or uses of the last hour
	}
	return Quiet
}

// sentence states the decision.
func (k *Key) sentence(since time.Time) string {
	switch k.Status {
	case Used:
		return k.usedSentence()
	case Refused:
		return k.refusedSentence()
	case Unknown:
		return "is not known to be unused: " + k.unknownBecause() + "."
	}
	from, u := since, k.LastUsage
	if k.Trail.From.After(from) && (k.unusable() || u.Asked.IsZero() || u.Early) {
		from = k.Trail.From // the last use does not cover the time before
	}
	if k.unusable() {
		if k.Disabled.After(from) {
			from = k.Disabled // no call was refused before
		}
		return fmt.Sprintf("is %s. No call is known to have been refused since %s%s.",
			k.stateText(), at(from), days(from, k.Trail.Asked))
	}
	text := fmt.Sprintf("has no known use by another caller than rotator since %s%s.", at(from),
		days(from, k.Trail.Asked))
	if k.Trail.Asked.IsZero() {
		text += " Its callers could not be read."
	}
	return text
}

// unknownBecause states why nothing is known about the use of a key.
func (k *Key) unknownBecause() string {
	u := k.LastUsage
	switch {
	case u.Asked.IsZero():
		return "neither its last use nor its callers could be read"
	case k.unusable():
		return "it is " + k.stateText() + ", and CloudTrail, which has the refused calls, could " +
			"not be read"
	}
	return "its callers could not be read, and it is too early for its last use: ask again at " +
		at(u.AskAgain) + ", in " + minutes(u.AskAgain.Sub(u.Asked))
}

// usedSentence names the newest use by another caller.
func (k *Key) usedSentence() string {
	for _, c := range k.Trail.Callers {
		newest := k.LastUsage.By == ByRotator || !k.LastUsage.At.After(c.Last.Add(time.Second))
		if c.used() && newest {
			return fmt.Sprintf("is in use: %s called %s %s, the last time at %s.%s", c.Name(),
				c.Operation, plural.Count(c.Calls, "time"), at(c.Last), c.rotatorNote())
		}
	}
	u := k.LastUsage
	switch {
	case u.Caller != "":
		return fmt.Sprintf("is in use: %s called %s at %s.", u.Caller, u.Operation, at(u.At))
	case u.By == ByUnknown:
		return fmt.Sprintf("was used at %s (%s), by rotator or another caller: the request is not "+
			"among those that rotator is known to have sent.", at(u.At), u.Operation)
	}
	return fmt.Sprintf("is in use: a caller other than rotator called %s at %s. CloudTrail has "+
		"not named it.", u.Operation, at(u.At))
}

// refusedSentence names the newest refused call.
func (k *Key) refusedSentence() string {
	var n int64
	var last *Caller
	for i := range k.Trail.Callers {
		if c := &k.Trail.Callers[i]; c.Refused {
			n += c.Calls
			if last == nil || c.Last.After(last.Last) {
				last = c
			}
		}
	}
	text := fmt.Sprintf("%s %s refused, the last one at %s, when %s called %s (%s).%s",
		plural.Count(n, "call"), plural.Form(n, "was", "were"), at(last.Last), last.Name(),
		last.Operation, last.Result, last.rotatorNote())
	if k.unusable() {
		return "is " + k.stateText() + ", and a caller still needs it: " + text
	}
	return "has refused calls: " + text
}

// Name names the caller, and the AWS service through which it called.
func (c Caller) Name() string {
	if c.Via != "" {
		return c.ARN + " (through " + c.Via + ")"
	}
	return c.ARN
}

func (c Caller) rotatorNote() string {
	if !c.Rotator {
		return ""
	}
	return " The user agent is that of rotator, but the request is not in the records of this job."
}

// stateText returns the state for a sentence.
func (k *Key) stateText() string {
	switch k.State {
	case "PendingDeletion":
		return "scheduled for deletion at " + at(k.Deletion)
	case "":
		return "in an unknown state"
	}
	return strings.ToLower(k.State)
}

func (k *Key) stateSentence() string {
	if k.State == "" {
		return ""
	}
	text := k.State
	switch {
	case !k.Disabled.IsZero():
		text += ", not usable since " + at(k.Disabled)
	case k.unusable():
		text += "; CloudTrail has no record of when it was disabled"
	}
	if !k.Deletion.IsZero() {
		text += ", to be deleted at " + at(k.Deletion)
	}
	return text + fmt.Sprintf(". It is a key of spec %s, created at %s.", k.Spec, at(k.Created))
}

// lateUsage is the delay of the last use.
const lateUsage = "KMS can report a use up to 1 hour late."

func (u Usage) sentence() string {
	var text string
	switch {
	case u.Asked.IsZero():
		return ""
	case u.At.IsZero():
		text = "KMS knows of no use since " + at(u.Tracking) + ", when it began to record uses."
	default:
		text = fmt.Sprintf("%s at %s, by %s (request %s).", u.Operation, at(u.At), u.by(),
			u.RequestID)
	}
	text += " " + lateUsage
	if u.Early && u.By != ByOther {
		text += fmt.Sprintf(" It is too early to know of uses after the last request of rotator: "+
			"ask again at %s, in %s.", at(u.AskAgain), minutes(u.AskAgain.Sub(u.Asked)))
	}
	return text
}

// by describes the caller of the last use.
func (u Usage) by() string {
	switch {
	case u.By == ByRotator:
		return "rotator itself"
	case u.Caller != "":
		return u.Caller
	case u.By == ByUnknown:
		return "rotator or another caller"
	}
	return "another caller"
}

// lateTrail is the delay and the gaps of CloudTrail.
const lateTrail = "Events typically appear within 15 minutes. CloudTrail does not record all " +
	"refused calls."

// Sentence states what was read, and what was not read. It is "" if CloudTrail did not answer.
func (t Trail) Sentence() string {
	if t.Asked.IsZero() {
		return ""
	}
	found := "no call by another caller"
	if n := t.calls(); n > 0 {
		found = plural.Count(n, "call") + " by other callers"
	}
	text := fmt.Sprintf("CloudTrail has %s from %s to %s (%s, %s of KMS, %s of rotator).", found,
		at(t.From), at(t.Asked), plural.Count(t.Pages, "page"), plural.Count(t.Events, "event"),
		plural.Count(t.Own+t.OwnByAgent, "call"))
	if t.OwnByAgent > 0 {
		text += fmt.Sprintf(" Of the calls of rotator, %d only by the user agent.", t.OwnByAgent)
	}
	switch t.Why {
	case "":
	case "more-pages":
		text += fmt.Sprintf(" Older events were not read: rotator read %s of more; set a higher "+
			"--pages, or a later --since.", plural.Count(t.Pages, "page"))
	case "unreadable-events":
		text += " Some events could not be parsed."
	default:
		text += fmt.Sprintf(" Older events were not read: %s after %s.",
			strings.ReplaceAll(t.Why, "-", " "), plural.Count(t.Pages, "page"))
	}
	return text + " " + lateTrail
}

// calls returns the number of calls of other callers.
func (t Trail) calls() (n int64) {
	for _, c := range t.Callers {
		n += c.Calls
	}
	return n
}

func (k *Key) grantSentence() string {
	if k.Grants == nil {
		return ""
	}
	if len(k.Grants) == 0 {
		return "none"
	}
	var grantees []string
	for _, g := range k.Grants {
		grantees = append(grantees, fmt.Sprintf("%s (%s)", g.Grantee,
			strings.Join(g.Operations, ", ")))
	}
	return fmt.Sprintf("%d: %s. A grant can be missing for a few minutes after it was created.",
		len(grantees), strings.Join(grantees, "; "))
}

func (k *Key) aliasSentence() string {
	if k.Aliases == nil {
		return ""
	}
	if len(k.Aliases) == 0 {
		return "none"
	}
	return strings.Join(k.Aliases, ", ")
}

func (r *Rotation) sentence() string {
	if r == nil {
		return ""
	}
	text := "automatic rotation is off"
	if r.Enabled {
		text = fmt.Sprintf("automatic rotation every %d days, next at %s", r.PeriodDays, at(r.Next))
	}
	if n := len(r.Materials); n > 0 {
		text += fmt.Sprintf("; %s", plural.Count(n, "key material"))
	}
	return text
}

// minutes returns a duration, rounded up to minutes.
func minutes(d time.Duration) string {
	return plural.Count(int64((max(d, 0)+time.Minute-1)/time.Minute), "minute")
}

// at formats a time.
func at(t time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return t.UTC().Format(time.RFC3339)
}

// days returns ", for N days" for a period of at least a day.
func days(from, to time.Time) string {
	if n := int(to.Sub(from).Hours() / 24); n > 0 && !to.IsZero() {
		return ", for " + plural.Count(n, "day")
	}
	return ""
}
