package document

import (
	"errors"
	"fmt"
	"time"

	"rotator/internal/report"
)

// Check returns an error if figures of the document contradict each other, or if a member that
// every document has is missing.
func (d *Document) Check() error {
	for _, check := range []func() error{
		d.checkMembers, d.Summary.Check, d.checkInventory, d.checkExceptions, d.checkPasses,
		d.checkVerdicts, d.checkBound,
	} {
		if err := check(); err != nil {
			return err
		}
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
	for _, h := range d.Inventory {
		found, after = found+h.Found, after+h.After
	}
	if err := equal("slots that the inventory found", found, "slots that were seen",
		d.Slots.Seen); err != nil {
		return err
	}
	return equal("slots in the inventory", after, "slots that were seen", d.Slots.Seen)
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
		if p.Left > p.Found && p.Kind != "" {
			return fmt.Errorf("%s: %d slots under source keys after it, but %d before", name,
				p.Left, p.Found)
		}
	}
	for _, p := range d.Timeline {
		if p.At.Equal(time.Time{}) || p.Pass < 0 || p.Pass >= len(d.Passes) {
			return fmt.Errorf("timeline: pass %d, but there are %d passes", p.Pass, len(d.Passes))
		}
	}
	return nil
}

func (d *Document) checkVerdicts() error {
	for _, v := range d.Verdicts {
		if err := equal("exit code of the verdict on "+v.Key, int64(v.Exit),
			"exit code of "+string(v.Code), int64(v.Code.Exit())); err != nil {
			return err
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
