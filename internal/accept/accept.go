// Package accept applies the accept rules of a job file to the exceptions of a pass: slots
// that failed, or are foreign, for a reason that the owner knows. A rule changes exit codes
// and what is listed, never what a pass proves. Rules are applied when exceptions are read,
// not when they are found, so that a changed rule holds for a finished pass at once.
package accept

import (
	"fmt"
	"slices"
	"time"

	"rotator/internal/checkpoint"
)

// Rule is one rule of a job file.
type Rule struct {
	Target  string
	Matches func(ref string) bool // the glob over the address of the item
	Reasons []string
	// Under is the ARN of the only key that the rule is for; "" for any but a source key,
	// or none that is known.
	Under string
	// Unresolved is why Under is not known, although the job file names a key.
	Unresolved string
	Most       int64     // 0 is without limit
	Ends       time.Time // zero for a rule without an end
	Because    string
}

// Keys is what the rules have to know of the keys of the job.
type Keys struct {
	// IsSource reports whether the key with an ARN is a source key. An exception under
	// one is never accepted.
	IsSource func(arn string) bool
	// Symmetric is true for symmetric source keys, whose ciphertexts have a header.
	Symmetric bool
	// OfToken returns the ARN of the key that KMS has named for the token in a header, ""
	// where it has named none. It is called once all exceptions are added.
	OfToken func(token string) string
}

// Tally counts the exceptions that rules accept. It is not safe for concurrent use.
type Tally struct {
	rules []Rule
	keys  Keys
	seen  map[class]int64
}

// class is all that matters of an exception, once the rules that may accept it are known.
type class struct {
	candidates string // indexes of rules, one byte each
	key        string
	origin     checkpoint.Origin
	unread     bool // there was no ciphertext to read
}

// maxRules is how many rules a class can name; the job file is bounded by it too.
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
	c.unread = e.Origin == checkpoint.OriginUnread || e.Reason == "empty" || e.Origin == "" && e.Blob == ""
	if !acceptable(e) {
		return c
	}
	for i, rule := range t.rules {
		if rule.Target == e.Target && slices.Contains(rule.Reasons, e.Reason) && rule.Matches(e.Ref) {
			c.candidates += string([]byte{byte(i)})
		}
	}
	if e.Outcome == foreign {
		c.origin = foreign
	}
	return c
}

const foreign = "foreign"

// acceptable reports whether the outcome of an exception can be accepted. Whatever kept
// changing, or met a failing service, may be under a source key: trying again is the answer.
func acceptable(e checkpoint.LedgerEntry) bool {
	return (e.Outcome == "failed" || e.Outcome == foreign) && e.Reason != "service-error"
}

// rule returns the index of the first rule that takes the exceptions of a class, -1 for
// none.
func (t *Tally) rule(c class) int {
	key, ok := t.elsewhere(c)
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

// elsewhere reports whether the exceptions of a class are, as far as anything can tell, not
// under a source key, and returns their key where it is known.
//
// With symmetric source keys the header of a blob names a key to KMS. A header with a token
// that KMS has not named yet may be that of a source key, since a wrong encryption context
// in the job file keeps KMS from naming any; so does a blob that may hold a damaged one. A
// blob without any trace of a header is under no symmetric key. With RSA source keys it is
// the other way round: nothing tells which RSA key a blob is under, and what has a header is
// under none.
func (t *Tally) elsewhere(c class) (key string, ok bool) {
	key = c.key
	token, tokened := c.origin.Token()
	switch {
	case key != "":
	case tokened:
		key = t.keys.OfToken(token)
	case c.origin.Key() != "":
		key = c.origin.Key()
	}
	if key != "" {
		return key, !t.keys.IsSource(key)
	}
	switch {
	case c.origin == foreign: // KMS said that it is under no source key
		return "", true
	case c.unread: // nothing was read that could be under a key
		return "", true
	case t.keys.Symmetric:
		return "", c.origin == checkpoint.OriginNone
	}
	return "", tokened
}

// TokenKeys returns the keys that KMS has named for the tokens of exceptions. A nil Tally
// has none.
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

// Result is what became of one rule.
type Result struct {
	Rule  int // from 1, in the order of the job file
	Slots int64
	// Void is why the rule accepts nothing, "" if it does.
	Void string
}

// Results applies the rules to all exceptions that were added, at a moment.
func (t *Tally) Results(now time.Time) []Result {
	results := make([]Result, len(t.rules))
	for c, n := range t.seen {
		if i := t.rule(c); i >= 0 {
			results[i].Slots += n
		}
	}
	for i, rule := range t.rules {
		results[i].Rule = i + 1
		results[i].Void = rule.void(results[i].Slots, now)
	}
	return results
}

// void says why a rule that matches a number of slots accepts none of them, "" if it does.
func (r Rule) void(slots int64, now time.Time) string {
	switch {
	case r.Unresolved != "":
		return r.Unresolved
	case !r.Ends.IsZero() && !now.Before(r.Ends):
		return "it ended on " + r.Ends.AddDate(0, 0, -1).Format(time.DateOnly)
	case r.Most > 0 && slots > r.Most:
		return fmt.Sprintf("it matches %d slots, and most is %d", slots, r.Most)
	}
	return ""
}

// RuleOf returns the number of the rule that accepts an exception, given the results of all;
// 0 for none.
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
