package harness

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"rotator/internal/report"
)

// Deny declares that access to these entries is denied: all their slots must fail and stay
// unchanged. Allow reverts it.
func (w *Env) Deny(keep func(*Entry) bool) {
	for _, e := range w.Entries(keep) {
		e.mu.Lock()
		for _, s := range e.slots {
			s.denied = true
		}
		e.mu.Unlock()
	}
}

// Allow reverts Deny.
func (w *Env) Allow(keep func(*Entry) bool) {
	for _, e := range w.Entries(keep) {
		e.mu.Lock()
		for _, s := range e.slots {
			s.denied = false
		}
		e.mu.Unlock()
	}
}

// outcome returns the expected outcome of the slot.
func (s *slot) outcome() Outcome {
	if s.denied {
		return OutcomeFailed
	}
	return s.want
}

// moves reports whether the slot must be under the new key in the end. Otherwise its bytes must
// not change.
func (s *slot) moves() bool { return s.outcome() == OutcomeRotated }

// Expected returns the counts of a complete pass, by target.
func (w *Env) Expected() map[string]report.Target {
	out := map[string]report.Target{}
	for _, e := range w.Entries(nil) {
		e.mu.Lock()
		t, written := out[e.Target], false
		t.Name = e.Target
		t.Items.Seen++
		if len(e.slots) == 0 {
			t.Items.WithoutSlot++
		}
		for _, s := range e.slots {
			t.Slots.Seen++
			switch s.outcome() {
			case OutcomeRotated:
				t.Slots.Rotated++
				written = true
			case OutcomeCurrent:
				t.Slots.Current++
			case OutcomeForeign:
				t.Slots.Foreign++
			case OutcomeFailed:
				t.Slots.Failed++
			}
		}
		if written {
			t.Items.Written++
		}
		out[e.Target] = t
		e.mu.Unlock()
	}
	return out
}

// Check fails the test for each difference from the expected state after a complete pass, in the
// stores and in the figures of the pass (nil if there are none). The application must not write
// meanwhile.
func (w *Env) Check(t testing.TB, s *report.Summary) {
	t.Helper()
	reportProblems(t, append(w.Stored(true), w.Figures(s)...))
}

// CheckPartial is like Check for a pass that may be incomplete: a slot that must move may still
// be under the old key. The figures (nil if there are none) must add up.
func (w *Env) CheckPartial(t testing.TB, s *report.Summary) {
	t.Helper()
	problems := w.Stored(false)
	if s != nil {
		problems = append(problems, checkSums(s)...)
	}
	reportProblems(t, problems)
}

// maxProblems is the maximum number of problems that one check prints.
const maxProblems = 12

func reportProblems(t testing.TB, problems []string) {
	t.Helper()
	for _, p := range problems[:min(len(problems), maxProblems)] {
		t.Error(p)
	}
	if more := len(problems) - maxProblems; more > 0 {
		t.Errorf("and %d more problems", more)
	}
}

// Stored compares the stores with the expected state and returns one line for each difference.
// If done is true, every slot that must move must be under the new key.
func (w *Env) Stored(done bool) (problems []string) {
	current := w.readStored()
	for _, e := range w.Entries(nil) {
		e.mu.Lock()
		problems = append(problems, w.compare(e, current, done)...)
		e.mu.Unlock()
		delete(current, e.ID)
	}
	for _, id := range slices.Sorted(maps.Keys(current)) {
		if isProbe(id) {
			continue // Figures checks that a note names it
		}
		problems = append(problems, id+" is stored, and the application did not create it")
	}
	return problems
}

// isProbe reports whether the object is a capability probe of the worker.
func isProbe(key string) bool { return strings.Contains(key, "/.rotator-probe-") }

func (w *Env) compare(e *Entry, current map[string]stored, done bool) (problems []string) {
	problemf := func(format string, args ...any) {
		problems = append(problems, e.ID+" "+fmt.Sprintf(format, args...))
	}
	s, exists := current[e.ID]
	switch {
	case e.deleted && exists:
		problemf("was deleted by the application and created again")
		return problems
	case e.deleted:
		return nil
	case !exists:
		problemf("is missing, and the application did not delete it")
		return problems
	}
	if s.rest != e.expectedRest() {
		problemf("has the wrong data outside its slots:\n got %s\nwant %s",
			clip(s.rest), clip(e.expectedRest()))
	}
	for _, want := range e.slots {
		blob := s.blobs[want.path]
		w.secrets.addBlob("a blob of the worker", blob)
		if !want.moves() {
			if !bytes.Equal(blob, want.blob) {
				problemf("%q was changed, but must not change (%s)", want.path, want.outcome())
			}
			continue
		}
		plaintext, key, err := w.decrypt(e, want, blob)
		switch {
		case err != nil:
			problemf("%q cannot be read: %v", want.path, err)
		case string(plaintext) != want.secret:
			problemf("%q has another plaintext than the application stored last", want.path)
		case key != w.New && (done || key != w.Old):
			problemf("%q is under %s, not under the new key", want.path, w.name(key))
		}
	}
	if len(s.blobs) != len(e.slots) {
		problemf("has %d slots, want %d", len(s.blobs), len(e.slots))
	}
	return problems
}

// decrypt decrypts a blob as the application does: with the context of a slot under the old
// key and, if that fails, with the context of a slot under the new key.
func (w *Env) decrypt(e *Entry, s *slot, blob []byte) (plaintext []byte, key string, err error) {
	for _, underKeys := range []string{w.Old, w.New} {
		plaintext, key, err = w.Server.KMS().Decrypt("", blob, w.contextUnder(underKeys, e, s))
		if err == nil && (key == underKeys || e.Kind != Bound) {
			return plaintext, key, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("it is under %s in the context of the other key", w.name(key))
	}
	return nil, key, err
}

// name describes a key in messages.
func (w *Env) name(arn string) string {
	for name, key := range map[string]string{
		"the old key":   w.Old,
		"the new key":   w.New,
		"the third key": w.Third,
	} {
		if arn == key {
			return name
		}
	}
	return "no key of this environment"
}

func clip(text string) string {
	if len(text) > 600 {
		return text[:600] + "..."
	}
	return text
}

// Figures compares the figures of a complete pass with the expected counts, unless CountsVary
// was called; their sums must be right in any case. It returns one line for each difference.
func (w *Env) Figures(s *report.Summary) (problems []string) {
	if s == nil {
		return nil
	}
	problems = checkSums(s)
	if s.Status != report.Complete {
		problems = append(problems, fmt.Sprintf("the status is %q", s.Status))
	}
	w.mu.Lock()
	countsVary := w.countsVary
	w.mu.Unlock()
	want := w.Expected()
	for _, t := range s.Targets {
		if t.Slots != want[t.Name].Slots && !countsVary {
			problems = append(problems, fmt.Sprintf("target %s: slots %+v, want %+v",
				t.Name, t.Slots, want[t.Name].Slots))
		}
		if t.Items != want[t.Name].Items && !countsVary {
			problems = append(problems, fmt.Sprintf("target %s: items %+v, want %+v",
				t.Name, t.Items, want[t.Name].Items))
		}
	}
	for key := range w.Server.S3().Versions(Bucket) {
		if isProbe(key) && !strings.Contains(strings.Join(s.Notes, "\n"), "/.rotator-probe-") {
			problems = append(problems, key+" was left, and no note names it")
		}
	}
	if len(s.Targets) != len(want) {
		problems = append(problems, fmt.Sprintf("%d targets, want %d", len(s.Targets), len(want)))
	}
	return problems
}

// checkSums returns one line for each sum that is wrong. In each target and in all targets
// together, every slot must have exactly one outcome.
func checkSums(s *report.Summary) (problems []string) {
	var all report.Slots
	var items report.Items
	check := func(
		name string, c report.Slots, i report.Items, keys []report.Key, reasons []report.Reason,
	) {
		sum := c.Rotated + c.Current + c.Remaining + c.Foreign + c.Failed + c.Conflict + c.Gone
		if sum != c.Seen {
			problems = append(problems, fmt.Sprintf(
				"%s: %d slots seen, but %d slots in outcomes: %+v", name, c.Seen, sum, c))
		}
		lowest := min(c.Seen, c.Rotated, c.Current, c.Remaining, c.Foreign, c.Failed, c.Conflict,
			c.Gone, i.Seen, i.Written, i.WithoutSlot)
		if lowest < 0 {
			problems = append(problems,
				fmt.Sprintf("%s: a figure is %d: %+v %+v", name, lowest, c, i))
		}
		underKeys, withReason := int64(0), int64(0)
		for _, k := range keys {
			underKeys += k.Slots
		}
		for _, r := range reasons {
			withReason += r.Slots
		}
		if underKeys > c.Seen || withReason != c.Exceptions() {
			problems = append(problems, fmt.Sprintf(
				"%s: %d slots under keys of %d seen, %d reasons for %d exceptions",
				name, underKeys, c.Seen, withReason, c.Exceptions()))
		}
	}
	for _, t := range s.Targets {
		check("target "+t.Name, t.Slots, t.Items, t.Keys, t.Reasons)
		c := t.Slots
		all = report.Slots{
			Seen:      all.Seen + c.Seen,
			Rotated:   all.Rotated + c.Rotated,
			Current:   all.Current + c.Current,
			Remaining: all.Remaining + c.Remaining,
			Foreign:   all.Foreign + c.Foreign,
			Failed:    all.Failed + c.Failed,
			Conflict:  all.Conflict + c.Conflict,
			Gone:      all.Gone + c.Gone,
		}
		items = report.Items{
			Seen:        items.Seen + t.Items.Seen,
			Written:     items.Written + t.Items.Written,
			WithoutSlot: items.WithoutSlot + t.Items.WithoutSlot,
			Excluded:    items.Excluded + t.Items.Excluded,
			Own:         items.Own + t.Items.Own,
		}
	}
	check("all targets", s.Slots, s.Items, s.Keys, s.Reasons)
	if all != s.Slots || items != s.Items {
		problems = append(problems, fmt.Sprintf("the sum of the targets is %+v %+v, the total "+
			"%+v %+v",
			all, items, s.Slots, s.Items))
	}
	return problems
}
