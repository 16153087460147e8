package report

import (
	"slices"
	"strings"
	"testing"
	"time"

	"rotator/internal/checkpoint"
)

const oldKey, newKey, thirdKey = "arn:old", "arn:new", "arn:third"

// facts returns the facts of a complete pass that found ten slots under the new key.
func facts(change func(*keyFacts)) keyFacts {
	f := keyFacts{
		key:         checkpoint.Key{ARN: oldKey, Given: "alias/old", Algorithm: symmetricAlgorithm},
		destination: newKey,
		counts: checkpoint.Counts{
			Slots: checkpoint.SlotCounts{Seen: 10, Current: 10},
			Keys:  map[string]checkpoint.KeyCount{newKey: {Slots: 10}},
		},
		byTarget: []targetSlots{{"customers", 0}},
		complete: true,
		asOf:     time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC),
	}
	change(&f)
	return f
}

// failed adds failed slots with an origin.
func failed(origin checkpoint.Origin, n int64) func(*keyFacts) {
	return func(f *keyFacts) {
		f.counts.Slots.Seen += n
		f.counts.Slots.Failed += n
		if origin != "" {
			f.counts.AddOrigin(origin, n)
		}
	}
}

// keyCase is a change of facts, with the answer on the key.
type keyCase struct {
	name           string
	change         func(*keyFacts)
	answer, reason string
	want           string // a part of the sentence
}

// asymmetric makes the key an RSA key before a change.
func asymmetric(then func(*keyFacts)) func(*keyFacts) {
	return func(f *keyFacts) {
		f.key.Algorithm = "RSAES_OAEP_SHA_256"
		then(f)
	}
}

func keyCasesOfUnusedKeys() []keyCase {
	return []keyCase{
		{"nothing under it", func(*keyFacts) {}, Yes, ReasonCanBeDisabled,
			"alias/old can be disabled. None of the 10 ciphertexts"},
		{"slots under other keys", func(f *keyFacts) {
			f.counts.Slots.Foreign = 7
			f.counts.AddKey(thirdKey, checkpoint.KeyCount{Slots: 7})
		}, Yes, ReasonCanBeDisabled, "Slots under other keys: 7."},
		{"targets that were read partly", func(f *keyFacts) {
			f.counts.Search = checkpoint.SearchCounts{Partial: 9, Bodies: 1}
		}, Yes, ReasonCanBeDisabled, "unused attributes in 9 rows; " +
			"unused bodies of 1 object (set search: all)."},
		{"no header", failed(checkpoint.OriginNone, 5), Yes, ReasonCanBeDisabled,
			"in a layout that rotator knows: 5."},
		{"another key in the header", failed(thirdKey, 5), Yes, ReasonCanBeDisabled,
			"identifies another key: 5."},
		{"RSA, a token", asymmetric(failed(checkpoint.TokenOrigin("ab"), 1)), Yes,
			ReasonCanBeDisabled, "can be disabled"},
		{"nothing found, as allowed", func(f *keyFacts) { f.counts = checkpoint.Counts{} }, Yes,
			ReasonCanBeDisabled, "No ciphertext was found"},
	}
}

func keyCasesOfUsedKeys() []keyCase {
	return []keyCase{
		{"slots under it", func(f *keyFacts) {
			f.counts.AddKey(oldKey, checkpoint.KeyCount{Slots: 3})
			f.byTarget[0].slots = 3
		}, No, ReasonRemaining,
			"alias/old cannot be disabled. 3 of the 10 ciphertexts that were found depend " +
				"on it: 3 in customers."},
		{"slots under it, of which KMS cannot decrypt all", func(f *keyFacts) {
			failed(oldKey, 1)(f)
			f.counts.AddKey(oldKey, checkpoint.KeyCount{Slots: 4, Unreadable: 1})
			f.byTarget[0].slots = 3
		}, No, ReasonRemaining,
			"3 in customers. It is also the key of 1 ciphertext that KMS cannot decrypt."},
		{"slots under it in a pass that stopped", func(f *keyFacts) {
			f.complete = false
			f.counts.AddKey(oldKey, checkpoint.KeyCount{Slots: 3})
		}, No, ReasonRemaining, "cannot be disabled"},
		{"also the destination key", func(f *keyFacts) {
			f.destination = oldKey
		}, No, ReasonSameKey,
			"stays in use"},
	}
}

func keyCasesNotProven() []keyCase {
	return []keyCase{
		{"stopped", func(f *keyFacts) { f.complete = false }, AnswerNotProven, ReasonNoLook,
			"not yet proven to be unused"},
		{"moved", func(f *keyFacts) {
			f.pass, f.counts.Slots.Rotated = 4, 2
			f.counts.AddKey(oldKey, checkpoint.KeyCount{Slots: 2, Rotated: 2})
		}, AnswerNotProven, ReasonMoved, "Pass 4 moved 2 ciphertexts"},
		{"moved, counted by an earlier version", func(f *keyFacts) {
			f.counts.Slots.Rotated = 2
			f.counts.AddKey(oldKey, checkpoint.KeyCount{Slots: 2})
		}, AnswerNotProven, ReasonMoved, "This pass moved 2"},
		{"a rule without a match", func(f *keyFacts) { f.unproven = 1 }, AnswerNotProven,
			ReasonEmpty, "lists 1 target or rule as not proven"},
		{"filtered", func(f *keyFacts) { f.filtered = 9 }, AnswerNotProven, ReasonFiltered,
			"skipped 9 items"},
		{"doubtful", func(f *keyFacts) { f.doubtful = true }, AnswerNotProven, ReasonHeaders,
			"not evidence"},
		{"a header of the key, but KMS cannot decrypt it", failed(oldKey, 1), AnswerNotProven,
			ReasonUnreadable, "cannot decrypt 1 ciphertext under this key"},
		{"KMS named the key, but cannot decrypt it", func(f *keyFacts) {
			failed(oldKey, 1)(f)
			f.counts.AddKey(oldKey, checkpoint.KeyCount{Slots: 1, Unreadable: 1})
		}, AnswerNotProven, ReasonUnreadable, "cannot decrypt 1 ciphertext under this key"},
		{"a token of an unknown key", failed(checkpoint.TokenOrigin("ab"), 1), AnswerNotProven,
			ReasonUnknownKey, "the key is unknown"},
		{"unknown", failed(checkpoint.OriginUnknown, 1), AnswerNotProven, ReasonUnknownKey,
			"the key is unknown"},
		{"unread", failed(checkpoint.OriginUnread, 1), AnswerNotProven, ReasonUnread,
			"no request was sent to KMS"},
		{"failed, counted by an earlier version", failed("", 1), AnswerNotProven,
			ReasonUnknownKey, "the key is unknown"},
		{"RSA, no header", asymmetric(failed(checkpoint.OriginNone, 1)), AnswerNotProven,
			ReasonUnknownKey, "the key is unknown"},
		{"an algorithm that was not recorded", func(f *keyFacts) {
			failed(checkpoint.OriginNone, 1)(f)
			f.key.Algorithm = ""
		}, AnswerNotProven, ReasonUnknownKey, "the key is unknown"},
	}
}

// TestDecideKey: the answer on a key depends on the slots that are or may be under the key, and not
// on other slots.
func TestDecideKey(t *testing.T) {
	for _, test := range slices.Concat(
		keyCasesOfUnusedKeys(),
		keyCasesOfUsedKeys(),
		keyCasesNotProven(),
	) {
		t.Run(test.name, func(t *testing.T) {
			got := decideKey(facts(test.change))
			if got.Answer != test.answer || got.Reason != test.reason ||
				!strings.Contains(got.Sentence, test.want) {
				t.Errorf("%+v\nwant %s, %s, with %q", got, test.answer, test.reason, test.want)
			}
			if err := got.Check(); err != nil {
				t.Errorf("%+v: %v", got, err)
			}
		})
	}
}

// TestEachAnswerIsConsistent: Check accepts each statement about a key, with numbers from 0 to 2.
func TestEachAnswerIsConsistent(t *testing.T) {
	mode, answers := []Mode{ModeMove, ModeContext}, map[string]int{}
	for n := range 1 << 10 {
		bit := func(i int) int64 { return int64(n >> i & 1) }
		under, unreadable, foreign := bit(0)+bit(1), bit(2), bit(3)
		f := facts(func(f *keyFacts) {
			f.mode, f.complete, f.doubtful = mode[bit(4)], bit(5) == 0, bit(6) == 1
			f.filtered, f.unproven = bit(7), int(bit(8))
			if bit(9) == 1 && bit(4) == 1 {
				f.destination = f.key.ARN
			}
			f.counts = checkpoint.Counts{
				Slots: checkpoint.SlotCounts{
					Seen:      under + unreadable + foreign,
					Remaining: under,
					Failed:    unreadable,
					Foreign:   foreign,
				},
				Keys: map[string]checkpoint.KeyCount{
					oldKey: {Slots: under + unreadable, Unreadable: unreadable},
				},
			}
			f.counts.AddOrigin(oldKey, unreadable)
			f.byTarget[0].slots = under
		})
		got := decideKey(f)
		answers[got.Answer]++
		if err := got.Check(); err != nil {
			t.Errorf("%+v: %v", got, err)
		}
	}
	if len(answers) != 3 {
		t.Errorf("answers: %v", answers)
	}
}

// TestRulesOfEarlierVersions: records of an earlier version have no counts of rules. They can be
// read, but prove no rule.
func TestRulesOfEarlierVersions(t *testing.T) {
	before := checkpoint.Counts{
		Items: checkpoint.ItemCounts{Seen: 10},
		Slots: checkpoint.SlotCounts{Seen: 10, Current: 10},
	}
	resumed := checkpoint.Counts{
		Items: checkpoint.ItemCounts{Seen: 5, Ruled: 5},
		Slots: checkpoint.SlotCounts{Seen: 5, Current: 5},
	}
	resumed.AddRule("slots[0]", checkpoint.RuleCounts{Place: "ssn", Found: 5})
	resumed.AddRule("slots[1]", checkpoint.RuleCounts{Place: "pin"})
	both := checkpoint.Counts{}
	both.Add(before)
	both.Add(resumed)
	matched := checkpoint.Counts{Items: checkpoint.ItemCounts{Seen: 15, Ruled: 5}}
	matched.AddRule("slots[0]", checkpoint.RuleCounts{Place: "ssn", Found: 5})
	for _, test := range []struct {
		name   string
		counts checkpoint.Counts
		want   []string
	}{
		{"before", before, []string{"customers: an earlier version"}},
		{"resumed", both, []string{"customers: an earlier version"}},
		{"resumed, with a match", matched, []string{"customers: an earlier version"}},
		{"now", resumed, []string{"customers, slots[1] (pin): none of 5 items"}},
	} {
		s := Summary{Status: Complete}
		infos := []TargetInfo{{Name: "customers", MayBeEmpty: test.name != "now"}}
		s.SetTargets(infos, map[string]checkpoint.Counts{"customers": test.counts})
		s.Conclude()
		if s.Converged || len(s.NotProven) != len(test.want) {
			t.Fatalf("%s: converged %v, not proven %+v", test.name, s.Converged, s.NotProven)
		}
		for i, want := range test.want {
			if !strings.HasPrefix(s.NotProven[i].Sentence, want) {
				t.Errorf("%s: %q, want %q", test.name, s.NotProven[i].Sentence, want)
			}
		}
	}
}

// TestUnfinishedPassListsNothingAsMissing: an incomplete pass does not list rules without a match,
// because the part that was not read may have a match.
func TestUnfinishedPassListsNothingAsMissing(t *testing.T) {
	for status, want := range map[string]int{Stopped: 0, Complete: 1} {
		s := Summary{Status: status}
		s.SetTargets([]TargetInfo{{Name: "customers"}}, map[string]checkpoint.Counts{})
		s.Conclude()
		if s.Converged || len(s.NotProven) != want {
			t.Errorf("%s: converged %v, not proven %+v", status, s.Converged, s.NotProven)
		}
	}
}
