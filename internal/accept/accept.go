// Package accept applies the accept rules of a job file to the exceptions of a
// pass: failed or foreign slots with a known reason. A rule changes exit codes
// and listings, never the verdict on a key. Rules are applied when exceptions
// are read, not when they are found, so a changed rule applies to a finished
// pass at once.
package accept

import (
	"fmt"
	"slices"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/plural"
)

// Rule is one rule of a job file.
type Rule struct {
	Target  string
	Matches func(ref string) bool // the glob over the address of the item
	Reasons []string
	// Under is the ARN of the key to which the rule applies. If it is "", the rule
	// applies to any key other than a source key, and to unknown keys.
	Under string
	// Unresolved is the reason why the key in the job file could not be resolved
	// to Under.
	Unresolved string
	Most       int64     // maximum number of slots; 0 means no limit
	Ends       time.Time // zero if the rule has no end
	Because    string    // the reason for the rule in the job file
}

// Keys describes the keys of the job for the rules.
type Keys struct {
	// IsSource reports whether an ARN is that of a source key. An exception under
	// a source key is never accepted.
	IsSource func(arn string) bool
	// Symmetric is true for symmetric source keys, whose ciphertexts have a header.
	Symmetric bool
	// OfToken returns the ARN of the key that KMS has named for a header token, or
	// "". It is called only after all exceptions were added.
	OfToken func(token string) string
}

// Tally counts the exceptions that rules accept. It is not safe for concurrent use.
type Tally struct {
	rules []Rule
	keys  Keys
	seen  map[class]int64
}

// class is the part of an exception that decides whether it is accepted.
type class struct {
	candidates   string // indexes of rules, one byte each
	key          string
	origin       checkpoint.Origin
	noCiphertext bool // there was no ciphertext to read
	otherKey     bool // the exception is foreign only because of its key
}

// maxRules is the maximum number of rules that a class can name, and of rules in a job file.
const maxRules = 255

// maxClasses bounds the memory of a Tally. Exceptions of more classes are not accepted.
const maxClasses = 10_000

// NewTally returns an empty Tally.
func NewTally(rules []Rule, keys Keys) *Tally {
	return &Tally{rules: rules[:min(len(rules), maxRules)], keys: keys, seen: map[class]int64{}}
}

// Add counts an exception.
func (t *Tally) Add(e checkpoint.LedgerEntry) {
	c := t.classOf(e)
	if c.candidates == "" {
		return
	}
	if _, known := t.seen[c]; known || len(t.seen) < maxClasses {
		t.seen[c]++
	}
}

func (t *Tally) classOf(e checkpoint.LedgerEntry) class {
	c := class{key: e.Key, origin: e.Origin}
	c.noCiphertext = e.Origin == checkpoint.OriginUnread || e.Reason == "empty" ||
		e.Origin == "" && e.Blob == ""
	if !acceptable(e) {
		return c
	}
	for i, rule := range t.rules {
		if rule.Target == e.Target && slices.Contains(rule.Reasons, e.Reason) &&
			rule.Matches(e.Ref) {
			c.candidates += string([]byte{byte(i)})
		}
	}
	if e.Outcome == foreign {
		c.origin = foreign
		c.otherKey = e.Reason == foreignKey
	}
	return c
}

// The outcome of a slot under a key other than its source and destination keys, and the reason if
// the job does not name that key.
const foreign, foreignKey = "foreign", "foreign-key"

// acceptable reports whether a rule may accept the exception. A slot that kept changing, or whose
// request failed with a service error, may be under a source key and must be tried again.
func acceptable(e checkpoint.LedgerEntry) bool {
	return (e.Outcome == "failed" || e.Outcome == foreign) && e.Reason != "service-error"
}

// Covers reports whether a rule accepts an exception at the time now, apart from the maximum
// number of slots. Unlike other methods it may be called concurrently.
func (t *Tally) Covers(e checkpoint.LedgerEntry, now time.Time) bool {
	i := t.rule(t.classOf(e))
	return i >= 0 && (t.rules[i].Ends.IsZero() || now.Before(t.rules[i].Ends))
}

// rule returns the index of the first rule that covers the exceptions of a
// class, or -1.
func (t *Tally) rule(c class) int {
	key, ok := t.notUnderSource(c)
	if !ok {
		return -1
	}
	for _, i := range []byte(c.candidates) {
		rule := t.rules[i]
		if rule.Unresolved == "" && (rule.Under == "" || rule.Under == key) {
			return int(i)
		}
	}
	return -1
}

// notUnderSource reports whether the exceptions of a class are known not to be under a source
// key, and returns their key if it is known.
//
// With symmetric source keys the header of a blob names a key to KMS. A
// token whose key KMS has not named may belong to a source key, because KMS
// names no key if the encryption context in the job file is wrong. The same
// applies to a blob that may contain a damaged header. A blob without any
// header is not under a symmetric key. With asymmetric source keys, the key of
// a blob without a header is unknown, and a blob with a header is not under an
// asymmetric key.
func (t *Tally) notUnderSource(c class) (key string, ok bool) {
	key = c.key
	token, hasToken := c.origin.Token()
	switch {
	case key != "":
	case hasToken:
		key = t.keys.OfToken(token)
	case c.origin.Key() != "":
		key = c.origin.Key()
	}
	if key != "" {
		return key, !t.keys.IsSource(key)
	}
	switch {
	case c.origin == foreign: // KMS reported that it is under no source key
		return "", true
	case c.noCiphertext:
		return "", true
	case t.keys.Symmetric:
		return "", c.origin == checkpoint.OriginNone
	}
	return "", hasToken
}

// TokenKeys returns the keys that KMS has named for the tokens of exceptions.
// It returns none for a nil Tally.
func (t *Tally) TokenKeys() map[string]string {
	if t == nil {
		return nil
	}
	keys := map[string]string{}
	for c := range t.seen {
		if token, ok := c.origin.Token(); ok && t.keys.OfToken(token) != "" {
			keys[token] = t.keys.OfToken(token)
		}
	}
	return keys
}

// Result is the result of one rule.
type Result struct {
	Rule  int // from 1, in the order of the job file
	Slots int64
	// Misfits is the number of Slots that failed, or are foreign for a reason other than their
	// key.
	Misfits int64
	// Barred is the number of slots that match the rule but are, or may be, under a source key.
	// No rule accepts them.
	Barred int64
	// Void is the reason why the rule accepts nothing, or "".
	Void string
}

// Results applies the rules at the time now to all exceptions that were added.
func (t *Tally) Results(now time.Time) []Result {
	results := make([]Result, len(t.rules))
	for c, n := range t.seen {
		i := t.rule(c)
		switch _, ok := t.notUnderSource(c); {
		case i >= 0:
			results[i].Slots += n
			if !c.otherKey {
				results[i].Misfits += n
			}
		case !ok:
			for _, candidate := range []byte(c.candidates) {
				results[candidate].Barred += n
			}
		}
	}
	for i, rule := range t.rules {
		results[i].Rule = i + 1
		results[i].Void = rule.voidReason(results[i].Slots, now)
	}
	return results
}

// voidReason returns the reason why a rule that matches the given number of slots accepts none,
// or "".
func (r Rule) voidReason(slots int64, now time.Time) string {
	switch {
	case r.Unresolved != "":
		return r.Unresolved
	case !r.Ends.IsZero() && !now.Before(r.Ends):
		return "it ended on " + r.Ends.AddDate(0, 0, -1).Format(time.DateOnly)
	case r.Most > 0 && slots > r.Most:
		return fmt.Sprintf("it matches %s, and most is %d", plural.Count(slots, "slot"), r.Most)
	}
	return ""
}

// RuleOf returns the number of the rule that accepts an exception, or 0 for none. results must be
// those of Results.
func (t *Tally) RuleOf(e checkpoint.LedgerEntry, results []Result) int {
	c := t.classOf(e)
	if _, counted := t.seen[c]; !counted {
		return 0
	}
	i := t.rule(c)
	if i < 0 || results[i].Void != "" {
		return 0
	}
	return i + 1
}
