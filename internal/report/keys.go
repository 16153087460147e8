package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/plural"
)

// SourceKey reports whether one source key can be disabled. It is independent
// of Summary.Converged: it ignores slots under other keys and slots that cannot
// be under this key.
type SourceKey struct {
	Key   string `json:"key"`   // ARN
	Given string `json:"given"` // as in the job file; empty with source.any
	// Slots is the number of slots under the key, according to KMS or the header
	// of the ciphertext.
	Slots    int64  `json:"slots"`
	Answer   string `json:"answer"` // whether the key can be disabled
	Reason   string `json:"reason"`
	Sentence string `json:"sentence"`
}

// The values of SourceKey.Answer: the key can be disabled, it cannot be
// disabled, or the pass proves neither.
const (
	Yes             = "yes"
	No              = "no"
	AnswerNotProven = "not proven"
)

// The values of SourceKey.Reason.
const (
	ReasonCanBeDisabled = "can-be-disabled"
	ReasonRemaining     = "remaining"   // slots are under the key
	ReasonVersions      = "versions"    // old versions of objects are under the key
	ReasonSameKey       = "same-key"    // it is also the destination key
	ReasonNoLook        = "no-look"     // the pass did not read all targets to the end
	ReasonMoved         = "moved"       // this pass moved slots
	ReasonEmpty         = "empty"       // no ciphertext was found in a target or by a rule
	ReasonFiltered      = "filtered"    // include and exclude skipped items
	ReasonHeaders       = "headers"     // some figures are not evidence; see the notes
	ReasonUnreadable    = "unreadable"  // KMS cannot decrypt ciphertexts under the key
	ReasonUnknownKey    = "unknown-key" // the key of failed slots is unknown
	ReasonUnread        = "unread"      // slots could not be read, so no request was sent to KMS
)

// Check returns an error if the sentence does not fit the answer, or the answer the number of
// slots.
func (k SourceKey) Check() error {
	phrases := map[string][]string{
		Yes:             {" can be disabled. "},
		No:              {" cannot be disabled. ", " stays in use: "},
		AnswerNotProven: {" is not yet proven to be unused. "},
	}[k.Answer]
	said := func(phrase string) bool { return strings.Contains(k.Sentence, phrase) }
	switch {
	case phrases == nil:
		return fmt.Errorf("answer: %q", k.Answer)
	case !slices.ContainsFunc(phrases, said):
		return fmt.Errorf("sentence: it does not fit the answer %q", k.Answer)
	case k.Answer == Yes && k.Slots > 0:
		return fmt.Errorf("answer: %q, but %d slots are under the key", k.Answer, k.Slots)
	}
	return nil
}

// keyFacts holds the facts on which the sentence about a key is based.
type keyFacts struct {
	key         checkpoint.Key
	destination string // ARN
	mode        Mode
	counts      checkpoint.Counts
	byTarget    []targetSlots
	complete    bool
	pass        int
	asOf        time.Time
	unproven    int
	filtered    int64               // items that include and exclude skipped, without complete
	versions    []checkpoint.Counts // old versions of objects
	doubtful    bool
}

type targetSlots struct {
	target string
	slots  int64
}

// decideKey decides whether a key can be disabled. It is a pure function of the
// facts. The first reason that applies decides.
func decideKey(f keyFacts) SourceKey {
	under := left(f.counts, f.key.ARN)
	if !f.movesCounted() {
		under = 0 // the counts include the moved slots
	}
	s := SourceKey{
		Key:   f.key.ARN,
		Given: f.key.Given,
		Slots: under + f.counts.Keys[f.key.ARN].Unreadable,
	}
	name := keyName(f.key)
	notProven := func(reason, format string, args ...any) SourceKey {
		s.Answer, s.Reason = AnswerNotProven, reason
		s.Sentence = name + " is not yet proven to be unused. " + fmt.Sprintf(format, args...)
		return s
	}
	unread, unknown, unreadable, uncounted := f.blocking()
	switch {
	case f.key.ARN == f.destination:
		s.Answer, s.Reason = No, ReasonSameKey
		s.Sentence = name + " stays in use: " + f.mode.stays()
	case under > 0:
		s.Answer, s.Reason = No, ReasonRemaining
		s.Sentence = f.cannotBeDisabled(name, under)
	case f.oldVersions() > 0:
		s.Answer, s.Reason = No, ReasonVersions
		s.Sentence = fmt.Sprintf("%s cannot be disabled. %s of objects %s on it.", name,
			plural.Count(f.oldVersions(), "old version"),
			plural.Form(f.oldVersions(), "depends", "depend"))
	case !f.complete:
		return notProven(ReasonNoLook, "The pass did not read all targets to the end.")
	case f.counts.Slots.Rotated > 0:
		return notProven(ReasonMoved, "%s moved %s. Only a later pass that finds no ciphertext to "+
			"move proves it (rotator verify).", f.passName(), ciphertexts(f.counts.Slots.Rotated))
	case f.unproven > 0:
		return notProven(ReasonEmpty, "The result lists %s as not proven.",
			targetsOrRules(f.unproven))
	case f.filtered > 0:
		return notProven(ReasonFiltered, "include and exclude skipped %s, and complete does not "+
			"state why they cannot contain a ciphertext under this key.",
			plural.Count(f.filtered, "item"))
	case f.doubtful:
		return notProven(ReasonHeaders, "Some figures are not evidence; see the notes.")
	case unreadable > 0:
		return notProven(ReasonUnreadable, "KMS cannot decrypt %s under this key. The encryption "+
			"context may differ from that of the job file.", ciphertexts(unreadable))
	case unknown+uncounted > 0:
		return notProven(ReasonUnknownKey, "%s failed, and the key is unknown.",
			slots(unknown+uncounted))
	case unread > 0:
		return notProven(ReasonUnread, "%s could not be read as a ciphertext, so no request was "+
			"sent to KMS.", slots(unread))
	default:
		s.Answer, s.Reason, s.Sentence = Yes, ReasonCanBeDisabled, f.canBeDisabled(name)
	}
	return s
}

// left returns the number of slots that are under a key and can be decrypted.
func left(c checkpoint.Counts, arn string) int64 {
	k := c.Keys[arn]
	return k.Slots - k.Rotated - k.Unreadable
}

// oldVersions returns the number of ciphertexts in old versions under the key.
func (f keyFacts) oldVersions() (n int64) {
	for _, c := range f.versions {
		n += left(c, f.key.ARN)
	}
	return n
}

// movesCounted reports whether the source keys of all moved slots were counted.
// Earlier versions did not count them.
func (f keyFacts) movesCounted() bool {
	moved := int64(0)
	for _, k := range f.counts.Keys {
		moved += k.Rotated
	}
	return moved == f.counts.Slots.Rotated
}

// blocking counts the failed slots that may be under the key: those that were not sent to
// KMS, those with an unknown key, those under this key that KMS cannot decrypt, and those that
// an earlier version counted without an origin.
func (f keyFacts) blocking() (unread, unknown, unreadable, uncounted int64) {
	symmetric := f.key.Algorithm == symmetricAlgorithm
	var origins checkpoint.Counts
	for _, c := range append([]checkpoint.Counts{f.counts}, f.versions...) {
		uncounted += c.Slots.Failed + c.Slots.Conflict
		for origin, n := range c.Origins {
			origins.AddOrigin(origin, n)
		}
	}
	for origin, n := range origins.Origins {
		uncounted -= n
		_, isToken := origin.Token()
		switch {
		case origin == checkpoint.OriginUnread:
			unread += n
		case origin == checkpoint.OriginUnknown, origin == checkpoint.OriginNone && !symmetric:
			unknown += n
		case isToken && symmetric: // only ciphertexts under symmetric keys have a token
			unknown += n
		case origin == checkpoint.Origin(f.key.ARN):
			unreadable += n
		}
	}
	return unread, unknown, unreadable, max(uncounted, 0)
}

// symmetricAlgorithm is the encryption algorithm of symmetric keys
// (API_ReEncrypt).
const symmetricAlgorithm = "SYMMETRIC_DEFAULT"

func (f keyFacts) passName() string {
	if f.pass == 0 {
		return "This pass"
	}
	return fmt.Sprintf("Pass %d", f.pass)
}

// where lists the targets with slots under the key.
func (f keyFacts) where() string {
	var parts []string
	for _, t := range f.byTarget {
		if t.slots > 0 {
			parts = append(parts, fmt.Sprintf("%d in %s", t.slots, t.target))
		}
	}
	return strings.Join(parts, ", ")
}

// cannotBeDisabled returns the sentence for a key on which ciphertexts depend.
func (f keyFacts) cannotBeDisabled(name string, under int64) string {
	which := fmt.Sprintf("%d of the %d ciphertexts that were found %s", under,
		f.counts.Slots.Seen, plural.Form(under, "depends", "depend"))
	if f.counts.Slots.Seen == 1 {
		which = "The only ciphertext that was found depends"
	}
	sentence := fmt.Sprintf("%s cannot be disabled. %s on it: %s.", name, which, f.where())
	if n := f.counts.Keys[f.key.ARN].Unreadable; n > 0 {
		sentence += fmt.Sprintf(" It is also the key of %s that KMS cannot decrypt.",
			ciphertexts(n))
	}
	return sentence
}

// canBeDisabled returns the sentence for a key on which no ciphertext depends, with its basis.
func (f keyFacts) canBeDisabled(name string) string {
	var b strings.Builder
	found := fmt.Sprintf("None of the %d ciphertexts that were found in %s depends on it",
		f.counts.Slots.Seen, plural.Count(len(f.byTarget), "target"))
	switch f.counts.Slots.Seen {
	case 1:
		found = "The only ciphertext that was found does not depend on it"
	case 0:
		found = "No ciphertext was found, which the job file allows"
	}
	fmt.Fprintf(&b, "%s can be disabled. %s, as of %s, when this pass started.", name, found,
		f.asOf.Format(time.RFC3339))
	if n := f.counts.Slots.Foreign; n > 0 {
		fmt.Fprintf(&b, " Slots under other keys: %d.", n)
	}
	none := f.counts.Origins[checkpoint.OriginNone]
	if none > 0 {
		fmt.Fprintf(&b, " Failed slots without a ciphertext header in a layout that rotator "+
			"knows: %d.", none)
	}
	if n := f.counts.Slots.Failed + f.counts.Slots.Conflict - none; n > 0 {
		fmt.Fprintf(&b, " Failed slots whose ciphertext header identifies another key: %d.", n)
	}
	b.WriteString(" Values that were stored after the pass started are not covered. Other uses " +
		"of the key were not checked.")
	b.WriteString(searchOf(f.counts).NotSearched.sentence())
	return b.String()
}

func ciphertexts(n int64) string { return plural.Count(n, "ciphertext") }

func targetsOrRules(n int) string {
	if n == 1 {
		return "1 target or rule"
	}
	return fmt.Sprintf("%d targets or rules", n)
}

// keyName returns a short name of a key: its alias if the job file uses one, otherwise the
// last part of its ARN.
func keyName(k checkpoint.Key) string {
	if i := strings.Index(k.Given, "alias/"); i >= 0 {
		return k.Given[i:]
	}
	if i := strings.LastIndex(k.ARN, ":"); i >= 0 {
		return k.ARN[i+1:]
	}
	return k.ARN
}
