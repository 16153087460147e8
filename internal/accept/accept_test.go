package accept_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/accept"
	"rotator/internal/checkpoint"
)

const (
	source  = "arn:aws:kms:us-east-1:111122223333:key/source"
	partner = "arn:aws:kms:us-east-1:111122223333:key/partner"
)

// keys knows three tokens: that of the source key, that of a partner, and one that KMS has
// not named.
func keys(symmetric bool) accept.Keys {
	return accept.Keys{
		IsSource:  func(arn string) bool { return arn == source },
		Symmetric: symmetric,
		OfToken: func(token string) string {
			return map[string]string{"s": source, "p": partner}[token]
		},
	}
}

func anyRef(string) bool { return true }

// acceptCase is a ledger entry.
type acceptCase struct {
	entry          checkpoint.LedgerEntry
	symmetric, rsa bool // accepted with such source keys
}

func acceptCases() map[string]acceptCase {
	token := checkpoint.TokenOrigin
	failed := func(key string, origin checkpoint.Origin, blob string) checkpoint.LedgerEntry {
		return checkpoint.LedgerEntry{
			Target: "t", Outcome: "failed", Reason: "r", Key: key, Origin: origin, Blob: blob,
		}
	}
	foreign := func(key string) checkpoint.LedgerEntry {
		return checkpoint.LedgerEntry{
			Target:  "t",
			Outcome: "foreign",
			Reason:  "r",
			Key:     key,
			Blob:    "b",
		}
	}
	conflict := failed(partner, "", "b")
	conflict.Outcome = "conflict"
	service := failed(partner, "", "b")
	service.Reason = "service-error"
	return map[string]acceptCase{
		"under the source key, by KMS":          {failed(source, "", "b"), false, false},
		"foreign, under the source key":         {foreign(source), false, false},
		"under the source key, by its header":   {failed("", token("s"), "b"), false, false},
		"the same, in a slot that was not read": {failed("", token("s"), ""), false, false},
		"under a source key, by its origin":     {failed("", source, "b"), false, false},
		"under a partner's key, by KMS":         {failed(partner, "", "b"), true, true},
		"foreign, under a partner's key":        {foreign(partner), true, true},
		"foreign, under a key that has no name": {foreign(""), true, true},
		"under a partner's key, by its header":  {failed("", token("p"), "b"), true, true},
		"a header with a token that has no key": {failed("", token("x"), "b"), false, true},
		"bytes that may hold a damaged blob": {failed("", checkpoint.OriginUnknown, "b"),
			false, false},
		"bytes without a header": {failed("", checkpoint.OriginNone, "b"), true,
			false},
		"nothing was read": {failed("", checkpoint.OriginUnread, ""), true,
			true},
		"a blob in an entry of an earlier version": {failed("", "", "b"), false, false},
		"no blob in one of an earlier version":     {failed("", "", ""), true, true},
		"a conflict":                               {conflict, false, false},
		"an error of the service":                  {service, false, false},
	}
}

// What may be under a source key is never accepted, however its key is known or not known.
func TestNothingUnderASourceKeyIsAccepted(t *testing.T) {
	for name, c := range acceptCases() {
		for _, symmetric := range []bool{true, false} {
			want := c.rsa
			if symmetric {
				want = c.symmetric
			}
			rule := accept.Rule{
				Target:  "t",
				Matches: anyRef,
				Reasons: []string{"r", "service-error"},
			}
			tally := accept.NewTally([]accept.Rule{rule}, keys(symmetric))
			tally.Add(c.entry)
			results := tally.Results(time.Now())
			number := tally.RuleOf(c.entry, results)
			if got := results[0].Slots == 1; got != want || got != (number == 1) {
				t.Errorf("%s, symmetric %t: %+v, want accepted %t", name, symmetric, results, want)
			}
		}
	}
}

// TestRules: the first rule that covers an exception accepts it. A void rule accepts nothing.
func TestRules(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	rule := func(change func(*accept.Rule)) accept.Rule {
		r := accept.Rule{Target: "t", Matches: anyRef, Reasons: []string{"r"}}
		change(&r)
		return r
	}
	tally := accept.NewTally([]accept.Rule{
		rule(func(r *accept.Rule) { r.Target = "another" }),
		rule(func(r *accept.Rule) { r.Reasons = []string{"another"} }),
		rule(func(r *accept.Rule) { r.Matches = func(ref string) bool { return ref == "a" } }),
		rule(func(r *accept.Rule) { r.Under = partner; r.Most = 2 }),
		rule(func(r *accept.Rule) { r.Ends = now }),
	}, keys(true))
	entry := func(ref, key string) checkpoint.LedgerEntry {
		return checkpoint.LedgerEntry{
			Target:  "t",
			Ref:     ref,
			Outcome: "foreign",
			Reason:  "r",
			Key:     key,
		}
	}
	for _, e := range []checkpoint.LedgerEntry{
		entry("a", partner), entry("b", partner), entry("c", partner), entry("d", partner),
		entry("e", ""),
	} {
		tally.Add(e)
	}
	want := []accept.Result{
		{Rule: 1}, {Rule: 2}, {Rule: 3, Slots: 1, Misfits: 1},
		{Rule: 4, Slots: 3, Misfits: 3, Void: "it matches 3 slots, and most is 2"},
		{Rule: 5, Slots: 1, Misfits: 1, Void: "it ended on 2026-11-29"},
	}
	results := tally.Results(now)
	if diff := cmp.Diff(want, results); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if n := tally.RuleOf(entry("b", partner), results); n != 0 {
		t.Errorf("void rule %d accepts an exception", n)
	}
	if ended := tally.Results(now.Add(-time.Second))[4].Void; ended != "" {
		t.Errorf("a rule ends before its last day is over: %s", ended)
	}
}
