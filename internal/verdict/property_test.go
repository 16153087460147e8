package verdict

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// rank orders decisions, the best first.
func rank(c Code) int {
	switch c {
	case DisabledQuiet:
		return 0
	case CanBeDisabled:
		return 1
	case NotProven:
		return 2
	}
	return 3
}

// few draws a number that is 0 most of the time, so that clean inputs are common.
func few(t *rapid.T, label string) int64 {
	if rapid.IntRange(0, 15).Draw(t, label+"?") > 0 {
		return 0
	}
	return rapid.Int64Range(1, 5).Draw(t, label)
}

// seldom draws true in one of sixteen cases.
func seldom(t *rapid.T, label string) bool { return few(t, label) > 0 }

// someTime draws a time of the two days before now.
func someTime(t *rapid.T, now time.Time, label string) time.Time {
	return now.Add(-time.Duration(rapid.IntRange(0, 48).Draw(t, label)) * time.Hour)
}

// someTarget draws the figures of a target.
func someTarget(t *rapid.T) Target {
	moved, left, unread := few(t, "moved"), few(t, "left"), few(t, "unreadable")
	current := rapid.Int64Range(0, 50).Draw(t, "current")
	foreign := few(t, "foreign")
	target := Target{
		Name: "customers",
		Keys: map[string]KeySlots{
			oldKey:   {Slots: moved + left + unread, Moved: moved, Unreadable: unread},
			newKey:   {Slots: current},
			otherKey: {Slots: foreign},
		},
		Origins: map[string]int64{oldKey: unread},
	}
	failed := unread
	for _, origin := range []string{otherKey, "token:ab", OriginNone, OriginUnread, OriginUnknown} {
		n := few(t, origin)
		target.Origins[origin] = n
		failed += n
	}
	if seldom(t, "version of 2025") { // which counted no origins
		target.Origins = nil
	}
	target.Slots = Slots{Rotated: moved, Remaining: left, Current: current, Foreign: foreign,
		Failed: failed}
	target.Slots.Seen = moved + left + current + foreign + failed
	if seldom(t, "versions") {
		target.Versions = map[string]int64{oldKey: few(t, "old versions")}
	}
	return target
}

// somePass draws a pass that began before now.
func somePass(t *rapid.T, now time.Time) Pass {
	p := Pass{
		Number:      rapid.IntRange(0, 9).Draw(t, "number"),
		ReadOnly:    rapid.Bool().Draw(t, "read-only"),
		Started:     someTime(t, now, "started"),
		Complete:    !seldom(t, "stopped"),
		Incremental: seldom(t, "incremental"),
		OtherJob:    seldom(t, "other job"),
		Filtered:    few(t, "filtered"),
		Targets:     []Target{someTarget(t)},
	}
	if !seldom(t, "running") {
		p.Ended = p.Started.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "took")) * time.Hour)
	}
	if seldom(t, "empty") {
		p.Empty = []string{"customers"}
	}
	if seldom(t, "doubt") {
		p.Doubts = []string{"the key was rotated"}
	}
	if n := rapid.Int64Range(0, 3000).Draw(t, "by header"); n > 0 {
		p.Samples = []Part{{Population: n, Checked: min(n, 1000), Disagreed: few(t, "disagreed")}}
	}
	if rapid.Bool().Draw(t, "place") {
		p.Targets[0].Place = somePlace(t)
	}
	for origin, n := range p.Targets[0].Origins {
		if n > 0 {
			p.Exceptions = append(p.Exceptions, Exception{Target: "customers", Ref: origin,
				Path: "p", Blob: blob, Origin: origin})
		}
	}
	return p
}

// someInput draws an input.
func someInput(t *rapid.T) Input {
	in := clean()
	in.Passes = nil
	for range rapid.IntRange(0, 4).Draw(t, "passes") {
		in.Passes = append(in.Passes, somePass(t, in.Now))
	}
	in.Key.Symmetric = rapid.Bool().Draw(t, "symmetric")
	in.Key.State = rapid.SampledFrom([]string{"", "Enabled", StateDisabled,
		StatePendingDeletion}).Draw(t, "state")
	if in.Key.unusable() && rapid.Bool().Draw(t, "disabled at") {
		in.Key.Disabled = someTime(t, in.Now, "disabled")
	}
	if seldom(t, "mode") {
		in.Mode = modeRefresh
	}
	if rapid.Bool().Draw(t, "usage") {
		in.LastUsage = Usage{Asked: in.Now, At: someTime(t, in.Now, "used"),
			ByRotator: rapid.Bool().Draw(t, "ours"), Early: seldom(t, "early")}
	}
	if rapid.Bool().Draw(t, "trail") {
		in.Trail = Trail{Asked: in.Now, From: someTime(t, in.Now, "from").Add(-24 * time.Hour),
			Partial: seldom(t, "partial")}
	}
	for _, origin := range []string{oldKey, OriginUnread, OriginUnknown} {
		if rapid.Bool().Draw(t, "waiver") {
			w := waiver()
			w.Ref, w.Path = origin, "p"
			in.Waivers = append(in.Waivers, w)
		}
	}
	return in
}

// change is a change of an input that must not improve the verdict. It returns false if it does
// not apply to the input.
type change struct {
	name string
	make func(*rapid.T, *Input) bool
}

func changes() []change {
	return slices.Concat(changesOfPasses(), changesOfFacts(), changesOfPlaces())
}

// changesOfPasses adds slots and passes.
func changesOfPasses() []change {
	return []change{
		{"a slot under the key", func(t *rapid.T, in *Input) bool {
			if len(in.Passes) == 0 {
				return false
			}
			under(&in.Passes[rapid.IntRange(0, len(in.Passes)-1).Draw(t, "pass")], 0, 1)
			return true
		}},
		{"a failed slot", func(t *rapid.T, in *Input) bool {
			if len(in.Passes) == 0 {
				return false
			}
			p := &in.Passes[rapid.IntRange(0, len(in.Passes)-1).Draw(t, "pass")]
			origin := rapid.SampledFrom([]string{oldKey, OriginUnread, OriginUnknown}).Draw(t, "of")
			if study(*in).proven0() == 0 {
				return false // a place in which nothing was found now has a slot
			}
			failedSlots(p, origin, 1)
			return true
		}},
		{"a stopped pass", func(t *rapid.T, in *Input) bool {
			p := somePass(t, in.Now)
			p.Complete = false
			in.Passes = append(in.Passes, p)
			return true
		}},
		{"an older pass", func(t *rapid.T, in *Input) bool {
			proof := study(*in).proof
			if proof == nil {
				return false
			}
			first := slices.MinFunc(in.Passes, func(a, b Pass) int {
				return a.Started.Compare(b.Started)
			}) // a pass after it can show that what it left is gone
			in.Passes = append(in.Passes, somePass(t, first.Started.Add(-time.Second)))
			return true
		}},
	}
}

// changesOfFacts changes everything but the passes.
func changesOfFacts() []change {
	return []change{
		{"time", func(t *rapid.T, in *Input) bool {
			in.Now = in.Now.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "hours")) * time.Hour)
			return true
		}},
		{"a run that is working", func(_ *rapid.T, in *Input) bool {
			in.Working = true
			return true
		}},
		{"a shorter limit of age", func(t *rapid.T, in *Input) bool {
			in.MaxAge -= time.Duration(rapid.IntRange(0, 23).Draw(t, "hours")) * time.Hour
			return true
		}},
		{"a call of another caller", func(t *rapid.T, in *Input) bool {
			in.Trail.Callers = append(in.Trail.Callers, Caller{ARN: "arn:x", Calls: 1,
				Last: someTime(t, in.Now, "call"), Refused: rapid.Bool().Draw(t, "refused")})
			return true
		}},
		{"denied calls of rotator", func(t *rapid.T, in *Input) bool {
			in.Trail = Trail{}
			if f := study(*in); f.used == nil {
				in.LastUsage = Usage{}
			}
			return true
		}},
		{"waivers that do not count", func(t *rapid.T, in *Input) bool {
			for i := range in.Waivers {
				if rapid.Bool().Draw(t, "other blob") {
					in.Waivers[i].Blob = strings.Repeat("b", 64)
				} else {
					in.Waivers[i].Until = in.Now
				}
			}
			return true
		}},
	}
}

// proven0 returns the number of slots that the proof has seen, or 0 without a proof.
func (f *facts) proven0() int64 {
	if f.proof == nil {
		return 0
	}
	return f.proven().seen
}

// No bad news makes a verdict better.
func TestNothingMakesAVerdictBetter(t *testing.T) {
	for _, c := range changes() {
		t.Run(c.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				in := someInput(t)
				before := Decide(in)
				if err := before.Check(); err != nil {
					t.Fatalf("%s: %v", before.Sentence, err)
				}
				if !c.make(t, &in) {
					return
				}
				if after := Decide(in); rank(after.Code) < rank(before.Code) {
					t.Fatalf("%s, %s became %s, %s", before.Code, before.Reason, after.Code,
						after.Reason)
				}
			})
		})
	}
}

// Slots under other keys and junk change no verdict, and copies change only the deletion.
func TestOthersDoNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := someInput(t)
		if study(in).proven0() == 0 {
			return
		}
		before := Decide(in)
		for i := range in.Passes {
			target := &in.Passes[i].Targets[0]
			n := rapid.Int64Range(0, 9).Draw(t, "foreign")
			target.Slots.Seen += n
			target.Slots.Foreign += n
			target.Keys[otherKey] = KeySlots{Slots: target.Keys[otherKey].Slots + n}
			if target.Origins != nil {
				failedSlots(&in.Passes[i], otherKey, n)
			}
			if target.Origins != nil && in.Key.Symmetric {
				failedSlots(&in.Passes[i], OriginNone, n)
			}
		}
		in.Copies = []Copy{{Kind: "backups", Place: "customers", State: CopiesHidden}}
		after := Decide(in)
		if before.Code != after.Code || before.Reason != after.Reason {
			t.Fatalf("%s, %s became %s, %s", before.Code, before.Reason, after.Code, after.Reason)
		}
		if after.Delete.NotBefore != nil {
			t.Fatal("a deletion has a date although copies cannot be seen")
		}
	})
}

// A copy never shortens the time until the key may be deleted, and no text states that the key can
// be deleted.
func TestCopiesOnlyDelay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := someInput(t)
		in.Copies = []Copy{}
		for range rapid.IntRange(0, 3).Draw(t, "copies") {
			in.Copies = append(in.Copies, someCopy(t, in.Now))
		}
		before := Decide(in)
		more := someCopy(t, in.Now)
		in.Copies = append(in.Copies, more)
		after := Decide(in)
		switch b, a := before.Delete.NotBefore, after.Delete.NotBefore; {
		case a != nil && b != nil && a.Before(*b):
			t.Fatalf("not before %s became not before %s", b, a)
		case a != nil && !more.ends():
			t.Fatalf("not before %s, although the end of a copy is not known", a)
		}
		text, err := json.Marshal(after)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "can be deleted") ||
			!strings.Contains(after.Delete.Sentence, "Do not schedule its deletion") {
			t.Fatalf("the deletion is not refused: %s", text)
		}
	})
}

func someCopy(t *rapid.T, now time.Time) Copy {
	c := Copy{Kind: "backups", Place: "customers", Count: 2, Until: now.AddDate(0, 0,
		rapid.IntRange(1, 99).Draw(t, "days"))}
	c.State = rapid.SampledFrom([]CopyState{CopiesCounted, CopiesNone, CopiesHidden,
		CopiesUnknown}).Draw(t, "state")
	c.NoEnd = seldom(t, "no end")
	return c
}
