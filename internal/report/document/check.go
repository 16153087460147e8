package document

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"rotator/internal/report"
)

// Check returns an error if figures of the document contradict each other, or if a member that
// every document has is missing.
func (d *Document) Check() error {
	for _, check := range []func() error{
		d.checkMembers, d.checkSums, d.checkInventory, d.checkExceptions, d.checkPasses,
		d.checkVerdicts, d.checkBound,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checkSums names the members that report.Summary.Check compares.
func (d *Document) checkSums() error {
	if err := d.Summary.Check(); err != nil {
		return fmt.Errorf("slots, keys, reasons and targets: %w", err)
	}
	return nil
}

func (d *Document) checkMembers() error {
	switch {
	case d.Job == "":
		return errors.New("the name of the job is missing")
	case d.Command == "":
		return errors.New("the command is missing")
	case d.Status != report.Complete && d.Status != report.Stopped:
		return fmt.Errorf("the status is %q", d.Status)
	case d.Generated.IsZero():
		return errors.New("the time is missing")
	case d.Targets == nil || d.Keys == nil || d.Reasons == nil || d.Verdicts == nil ||
		d.SourceKeys == nil || d.Inventory == nil || d.Passes == nil ||
		d.Exceptions.Listed == nil:
		return errors.New("a list is missing")
	}
	return nil
}

// equal returns an error that names two sums which must be the same, if they differ.
func equal(what string, a int64, other string, b int64) error {
	if a == b {
		return nil
	}
	return fmt.Errorf("%s: %d, but %s: %d", what, a, other, b)
}

// checkOutcomes returns an error if the outcomes of a pass do not add up.
func checkOutcomes(where string, s report.Slots) error {
	outcomes := s.Rotated + s.Current + s.Remaining + s.Exceptions() + s.Gone
	return equal(where+": slots that were seen", s.Seen, "sum of their outcomes", outcomes)
}

func (d *Document) checkInventory() error {
	found, after := int64(0), int64(0)
	for i, h := range d.Inventory {
		found, after = found+h.Found, after+h.After
		switch {
		case min(h.Found, h.After, h.ByHeader) < 0 || h.Before != nil && *h.Before < 0:
			return fmt.Errorf("inventory[%d]: a count is negative", i)
		case h.ByHeader > h.Found:
			return fmt.Errorf("inventory[%d].by_header: %d, but found is %d", i, h.ByHeader,
				h.Found)
		case len(d.Parts) == 0 && h.Role != d.RoleOf(h.Key):
			return fmt.Errorf("inventory[%d].role: %q, but the key is %q", i, h.Role,
				d.RoleOf(h.Key))
		}
	}
	if err := equal("slots that the inventory found", found, "slots that were seen",
		d.Slots.Seen); err != nil {
		return err
	}
	if err := equal("slots in the inventory", after, "slots that were seen",
		d.Slots.Seen); err != nil {
		return err
	}
	for i, t := range d.Targets {
		if err := d.checkTarget(t); err != nil {
			return fmt.Errorf("targets[%d] (%s): %w", i, t.Name, err)
		}
	}
	return nil
}

// checkTarget compares the figures of the targets of one name with their part of the inventory.
// Only merged reports can have several targets of one name.
func (d *Document) checkTarget(t report.Target) error {
	seen, slots := int64(0), map[string]int64{}
	for _, same := range d.Targets {
		if same.Name != t.Name {
			continue
		}
		seen += same.Slots.Seen
		for _, k := range same.Keys {
			slots[k.Key] += k.Slots
		}
	}
	found, after, keys := int64(0), int64(0), map[string]int64{}
	for _, h := range d.Inventory {
		name := h.Target
		if len(d.Parts) > 0 {
			name = h.Job + ": " + h.Target
		}
		if name == t.Name {
			found, after = found+h.Found, after+h.After
			keys[h.Key] += h.Found
		}
	}
	for _, sum := range []int64{found, after} {
		if err := equal("slots", seen, "inventory", sum); err != nil {
			return err
		}
	}
	for _, k := range t.Keys {
		if err := equal("keys, slots of "+k.Key, slots[k.Key], "inventory",
			keys[k.Key]); err != nil {
			return err
		}
	}
	return nil
}

func (d *Document) checkExceptions() error {
	e := d.Exceptions
	if err := equal("exceptions", e.Total, "failed, foreign and conflicting slots",
		d.Slots.Exceptions()); err != nil {
		return err
	}
	return equal("exceptions", e.Total, "listed and left out",
		int64(len(e.Listed))+e.LeftOut)
}

func (d *Document) checkPasses() error {
	for _, p := range d.Passes {
		name := fmt.Sprintf("%s %d", p.Kind, p.Number)
		if err := checkOutcomes(name, p.Slots); err != nil {
			return err
		}
		if err := d.checkReported(p); err != nil {
			return fmt.Errorf("passes (%s): %w", name, err)
		}
		if p.Left > p.Found && p.Kind != "" {
			return fmt.Errorf("%s: %d slots under source keys after it, but %d before", name,
				p.Left, p.Found)
		}
	}
	if err := d.checkTimeline(); err != nil {
		return err
	}
	for _, p := range d.Timeline {
		if p.At.Equal(time.Time{}) || p.Pass < 0 || p.Pass >= len(d.Passes) {
			return fmt.Errorf("timeline: pass %d, but there are %d passes", p.Pass, len(d.Passes))
		}
	}
	return nil
}

// checkBound returns an error if the bound is not that of the samples. Documents of earlier
// versions have none.
func (d *Document) checkBound() error {
	if d.Bound == nil {
		return nil
	}
	own := *d
	own.setBound()
	if own.Bound == nil {
		return errors.New("there is a bound of wrong headers, but no sample")
	}
	got, want := *d.Bound, *own.Bound
	if (got.AtMostWrong == nil) != (want.AtMostWrong == nil) {
		return errors.New("the bound of wrong headers is not that of the samples")
	}
	if got.AtMostWrong != nil {
		if err := equal("headers that can be wrong", *got.AtMostWrong, "bound of the samples",
			*want.AtMostWrong); err != nil {
			return err
		}
	}
	return equal("population of the bound of wrong headers", got.Population, "of the samples",
		want.Population)
}

// checkReported compares the pass of the report with the other members.
func (d *Document) checkReported(p Pass) error {
	if !p.Reported || len(d.Parts) > 0 {
		return nil
	}
	if p.Slots != d.Slots {
		return fmt.Errorf("slots: %+v, but the slots of the report are %+v", p.Slots, d.Slots)
	}
	found, left := int64(0), int64(0)
	for _, h := range d.Inventory {
		source := func(k report.SourceKey) bool { return k.Key == h.Key }
		if slices.ContainsFunc(d.SourceKeys, source) {
			found, left = found+h.Found, left+h.After
		}
	}
	if err := equal("found", p.Found, "found in the inventory under source keys",
		found); err != nil {
		return err
	}
	return equal("left", p.Left, "after in the inventory under source keys", left)
}

// checkTimeline compares the points of the timeline with the passes. A merged report has none.
func (d *Document) checkTimeline() error {
	if len(d.Parts) > 0 {
		return nil
	}
	passes := Document{Passes: d.Passes}
	passes.setTimeline()
	same := func(a, b Point) bool {
		return a.At.Equal(b.At) && a.Under == b.Under && a.Moved == b.Moved && a.Pass == b.Pass
	}
	if !slices.EqualFunc(d.Timeline, passes.Timeline, same) {
		return errors.New("timeline: its points are not those of the passes")
	}
	return nil
}
