package report

import (
	"fmt"

	"rotator/internal/plural"
)

// SumError is the error for figures that contradict each other. They must not be printed.
type SumError struct {
	Where  string // the target, or "" for all targets together
	Detail string // with the two numbers
}

func (e *SumError) Error() string {
	if e.Where == "" {
		return "figures contradict each other: " + e.Detail
	}
	return fmt.Sprintf("figures of target %s contradict each other: %s", e.Where, e.Detail)
}

// Check returns a *SumError if figures of the result contradict each other. It must be called
// after SetTargets and before the result is printed.
func (s *Summary) Check() error {
	all := Target{Slots: s.Slots, Items: s.Items, Keys: s.Keys, Reasons: s.Reasons}
	for _, t := range append([]Target{all}, s.Targets...) {
		if detail := t.contradiction(); detail != "" {
			return &SumError{Where: t.Name, Detail: detail}
		}
	}
	for _, t := range s.Targets {
		if v := t.Versions; v != nil {
			old := Target{Slots: v.Slots, Keys: v.Keys, Reasons: v.Reasons}
			if detail := old.contradiction(); detail != "" {
				return &SumError{Where: t.Name + ", old versions", Detail: detail}
			}
		}
	}
	sum := Target{}
	for _, t := range s.Targets {
		sum = plus(sum, t)
	}
	if detail := difference(sum, all); detail != "" {
		return &SumError{Detail: detail}
	}
	if detail := s.Sample.contradiction(); detail != "" {
		return &SumError{Detail: detail}
	}
	for _, t := range s.VerdictPass().Targets {
		if err := t.Check(); err != nil {
			return &SumError{Where: t.Name, Detail: err.Error()}
		}
	}
	return nil
}

// sum returns the sum of the outcomes.
func (s Slots) sum() int64 {
	return s.Rotated + s.Current + s.Remaining + s.Exceptions() + s.Gone
}

// least returns the smallest count.
func (s Slots) least() int64 {
	return min(s.Seen, s.Rotated, s.Current, s.Remaining, s.Foreign, s.Failed, s.Conflict, s.Gone)
}

// contradiction returns how the printed figures of a target contradict each other, or "".
func (t Target) contradiction() string {
	keys, reasons := totalOf(t.Keys), totalOf(t.Reasons)
	switch {
	case t.Slots.least() < 0:
		return fmt.Sprintf("a count of slots is %d", t.Slots.least())
	case t.Slots.sum() != t.Slots.Seen:
		return fmt.Sprintf("%s seen, but the outcomes have the sum %d", were(t.Slots.Seen),
			t.Slots.sum())
	case keys > t.Slots.Seen:
		return fmt.Sprintf("%s seen, but %d are under a key", were(t.Slots.Seen), keys)
	case reasons != t.Slots.Exceptions():
		return fmt.Sprintf("%s failed, foreign or changing, but the reasons have the sum %d",
			were(t.Slots.Exceptions()), reasons)
	}
	return ""
}

// were returns "1 slot was" or "2 slots were".
func were(n int64) string { return slots(n) + " " + plural.Form(n, "was", "were") }

// counted is a part of a result that counts slots by a name.
type counted interface{ count() (name string, n int64) }

func (k Key) count() (name string, n int64)    { return k.Key, k.Slots }
func (r Reason) count() (name string, n int64) { return r.Outcome + "/" + r.Reason, r.Slots }

func totalOf[C counted](list []C) (total int64) {
	for _, one := range list {
		_, n := one.count()
		total += n
	}
	return total
}

// byName adds up the counts of a list by their names.
func byName[C counted](list []C) map[string]int64 {
	sums := map[string]int64{}
	for _, one := range list {
		name, n := one.count()
		sums[name] += n
	}
	return sums
}

// plus returns the sum of the figures of two targets. Names can occur twice in Keys and Reasons.
func plus(a, b Target) Target {
	return Target{
		Slots: Slots{
			Seen:      a.Slots.Seen + b.Slots.Seen,
			Rotated:   a.Slots.Rotated + b.Slots.Rotated,
			Current:   a.Slots.Current + b.Slots.Current,
			Remaining: a.Slots.Remaining + b.Slots.Remaining,
			Foreign:   a.Slots.Foreign + b.Slots.Foreign,
			Failed:    a.Slots.Failed + b.Slots.Failed,
			Conflict:  a.Slots.Conflict + b.Slots.Conflict,
			Gone:      a.Slots.Gone + b.Slots.Gone,
		},
		Items: Items{
			Seen:        a.Items.Seen + b.Items.Seen,
			Written:     a.Items.Written + b.Items.Written,
			WithoutSlot: a.Items.WithoutSlot + b.Items.WithoutSlot,
			Excluded:    a.Items.Excluded + b.Items.Excluded,
			Own:         a.Items.Own + b.Items.Own,
		},
		Keys:    append(a.Keys, b.Keys...),
		Reasons: append(a.Reasons, b.Reasons...),
	}
}

// difference returns how the sum of the targets differs from the total, or "".
func difference(sum, all Target) string {
	switch {
	case sum.Slots != all.Slots:
		return fmt.Sprintf("the slots of the targets have the sum %+v, but the total is %+v",
			sum.Slots, all.Slots)
	case sum.Items != all.Items:
		return fmt.Sprintf("the items of the targets have the sum %+v, but the total is %+v",
			sum.Items, all.Items)
	}
	if detail := differs(byName(sum.Keys), byName(all.Keys)); detail != "" {
		return detail
	}
	return differs(byName(sum.Reasons), byName(all.Reasons))
}

// differs returns how the sums of the targets differ from the totals, or "".
func differs(sums, totals map[string]int64) string {
	for name, n := range totals {
		if sums[name] != n {
			return fmt.Sprintf("%s has %s in all, but %d in the targets", name, slots(n),
				sums[name])
		}
	}
	for name, n := range sums {
		if totals[name] != n {
			return fmt.Sprintf("%s has %s in the targets, but %d in all", name, slots(n),
				totals[name])
		}
	}
	return ""
}

// contradiction returns how the figures of the sample contradict each other, or "".
func (s Sample) contradiction() string {
	population, checked := int64(0), int64(0)
	for _, part := range s.parts() {
		if part.Checked < 0 || part.Checked > part.Population {
			return fmt.Sprintf("a sample of %s has %d checks", slots(part.Population),
				part.Checked)
		}
		population, checked = population+part.Population, checked+part.Checked
	}
	if population != s.Population || checked != s.Checked {
		return fmt.Sprintf("the samples have %d checks of %s, but in all they are %d of %d",
			checked, slots(population), s.Checked, s.Population)
	}
	return ""
}
