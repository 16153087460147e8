package rotate

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/reencrypt"
	"rotator/internal/scan"
)

// firsts is a sequence of slots of one rule that many workers decide in virtual time.
type firsts struct {
	workers int
	slots   int
	verdict func(i int) reencrypt.Verdict
	takes   func(i int) time.Duration // time to decide a slot; nil means random
	before  checkpoint.RuleCounts     // of the pass
	proven  bool                      // a success in the previous pass
	warn    bool

	decided, warned int
}

// run decides the slots and returns the error of the run. Slots are numbered in the order in which
// they are admitted.
func (f *firsts) run(t *testing.T, most int) (stop error) {
	t.Helper()
	target := Target{Name: "t", StopAfter: []int{most}}
	c := Config{Targets: []Target{target}, Early: Early{
		Proven: func(string, string) bool { return f.proven },
	}}
	if f.warn {
		c.Early.Warn = func(*AlikeError) { f.warned++ }
	}
	e := newEarly(c, map[string]*proof{"t": {rules: []ciphertext.Rule{{Name: "slots[0]"}}}})
	counts := checkpoint.Counts{Rules: map[string]checkpoint.RuleCounts{"slots[0]": f.before}}
	e.resume([]checkpoint.State{{Target: "t", Counts: counts}})
	var mu sync.Mutex
	next := 0
	take := func() bool {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next <= f.slots && stop == nil
	}
	decide := func() error {
		first := e.firstSlotsOf("t", 0)
		if !first.disabled.Load() {
			if err := first.admit(t.Context()); err != nil {
				return err
			}
			defer first.leave()
		}
		mu.Lock()
		i := f.decided
		f.decided++
		mu.Unlock()
		time.Sleep(f.duration(i))
		return e.countVerdict("t", scan.Ref(fmt.Sprint(i)), ciphertext.Slot{}, f.verdict(i))
	}
	var all sync.WaitGroup
	for range f.workers {
		all.Go(func() {
			for take() {
				if err := decide(); err != nil {
					mu.Lock()
					stop = err
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return stop
}

func (f *firsts) duration(i int) time.Duration {
	if f.takes != nil {
		return f.takes(i)
	}
	return time.Duration(rand.Int64N(int64(100 * time.Millisecond)))
}

// slowest makes the decision about slot n take longer than all others.
func slowest(n int) func(int) time.Duration {
	return func(i int) time.Duration {
		if i == n {
			return time.Hour
		}
		return time.Second
	}
}

// alikeCase is a sequence of slots, with the number of those that are decided.
type alikeCase struct {
	firsts
	want int // number of slots that are decided; 0 means all
}

func alikeCases() map[string]alikeCase {
	bad := reencrypt.Verdict{Outcome: reencrypt.Failed, Reason: reencrypt.ReasonSourceContext}
	foreign := reencrypt.Verdict{Outcome: reencrypt.Foreign, Reason: reencrypt.ReasonForeignKey}
	tooLong := reencrypt.Verdict{
		Outcome: reencrypt.Failed,
		Reason:  reencrypt.ReasonPlaintextTooLong,
	}
	archived := reencrypt.Verdict{Outcome: reencrypt.Failed, Reason: "archived"}
	only := func(v reencrypt.Verdict) func(int) reencrypt.Verdict {
		return func(int) reencrypt.Verdict { return v }
	}
	but := func(n int, other reencrypt.Verdict) func(int) reencrypt.Verdict {
		return func(i int) reencrypt.Verdict {
			if i == n {
				return other
			}
			return bad
		}
	}
	alike := checkpoint.RuleCounts{
		Alike: map[string]int64{"failed/" + reencrypt.ReasonSourceContext: 30},
	}
	return map[string]alikeCase{
		"all alike":    {firsts{verdict: only(bad)}, 50},
		"all foreign":  {firsts{verdict: only(foreign)}, 50},
		"all too long": {firsts{verdict: only(tooLong)}, 50},
		"a success": {
			firsts{verdict: but(20, reencrypt.Verdict{Outcome: reencrypt.Rotated})},
			0,
		},
		"a slot that will move": {firsts{verdict: but(20, reencrypt.Verdict{})}, 0},
		"a slow success": {
			firsts{
				verdict: but(49, reencrypt.Verdict{Outcome: reencrypt.Current}),
				takes:   slowest(49),
			},
			0,
		},
		"a success after the limit": {
			firsts{
				verdict: but(51, reencrypt.Verdict{Outcome: reencrypt.Current}),
				takes:   slowest(51),
			},
			50,
		},
		"another reason":             {firsts{verdict: but(30, foreign)}, 0},
		"a reason of single items":   {firsts{verdict: only(archived)}, 0},
		"30 slots of an earlier run": {firsts{verdict: only(bad), before: alike}, 20},
		"a success of an earlier run": {
			firsts{verdict: only(bad), before: checkpoint.RuleCounts{Good: 1}},
			0,
		},
		"a success in the previous pass": {firsts{verdict: only(bad), proven: true}, 0},
		"with a warning only":            {firsts{verdict: only(bad), warn: true}, 0},
	}
}

// TestFirstSlotsAlike: a run stops after exactly the given number of slots, for any number of
// workers, if all have the same outcome for a reason that the job file can cause. If one of
// them is a success, even a slow one, or differs otherwise, the run does not stop.
func TestFirstSlotsAlike(t *testing.T) {
	for name, c := range alikeCases() {
		t.Run(name, func(t *testing.T) {
			for _, workers := range []int{1, 7, 64, 500} {
				synctest.Test(t, func(t *testing.T) {
					f := c.firsts
					f.workers, f.slots = workers, 1000
					stop := f.run(t, 50)
					want := c.want
					if want == 0 {
						want = f.slots
					}
					if f.decided != want || (stop != nil) != (c.want > 0) ||
						(f.warned == 1) != f.warn {
						t.Errorf("%d workers decided %d slots, want %d; warned %d times; %v",
							workers, f.decided, want, f.warned, stop)
					}
				})
			}
		})
	}
}

// TestPassesOfEarlierVersions: records of an earlier version do not count successes by rule. If
// a target has a success in such records, none of its rules stops a run.
func TestPassesOfEarlierVersions(t *testing.T) {
	counts := checkpoint.Counts{Rules: map[string]checkpoint.RuleCounts{"slots[0]": {Found: 9}}}
	counts.Slots.Seen, counts.Slots.Rotated = 9, 9
	if Accounted(counts) {
		t.Error("successes without counts are accounted for")
	}
	counts.Rules["slots[0]"] = checkpoint.RuleCounts{Found: 9, Good: 9}
	if !Accounted(counts) {
		t.Error("successes with counts are not accounted for")
	}
}

// TestFailuresAreBounded: a maximum number is checked from the first slot on, a percentage from
// 1,000 slots on.
func TestFailuresAreBounded(t *testing.T) {
	for _, c := range []struct {
		most         Failures
		failed, seen int64
		want         bool
	}{
		{Failures{}, 0, 100, false},
		{Failures{}, 1, 1, true},
		{Failures{Slots: 10}, 10, 10, false},
		{Failures{Slots: 10}, 11, 5000, true},
		{Failures{Percent: true, Share: 0.02}, 999, 999, false},
		{Failures{Percent: true, Share: 0.02}, 20, 1000, false},
		{Failures{Percent: true, Share: 0.02}, 21, 1000, true},
		{Failures{Percent: true}, 1, 1000, true},
	} {
		if got := c.most.exceededBy(c.failed, c.seen); got != c.want {
			t.Errorf("%d of %d with at most %s: %v", c.failed, c.seen, c.most, got)
		}
	}
}
