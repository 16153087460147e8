package document

import (
	"fmt"
	"slices"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/report"
	"rotator/internal/verdict"
)

// checkVerdicts checks that each source key has one verdict, and that the verdicts are those that
// the figures allow.
func (d *Document) checkVerdicts() error {
	for i, k := range d.SourceKeys {
		n := 0
		for _, v := range d.Verdicts {
			if v.Key == k.Key {
				n++
			}
		}
		if n != 1 {
			return fmt.Errorf("verdicts: source key %s has %d verdicts", k.Key, n)
		}
		if err := d.checkAnswer(k); err != nil {
			return fmt.Errorf("source_keys[%d].%w", i, err)
		}
	}
	for i, v := range d.Verdicts {
		err := v.Check()
		if err == nil {
			err = d.checkVerdict(v)
		}
		if err != nil {
			return fmt.Errorf("verdicts[%d].%w", i, err)
		}
	}
	return nil
}

// checkAnswer checks the statement of the pass about a source key.
func (d *Document) checkAnswer(k report.SourceKey) error {
	if err := k.Check(); err != nil {
		return err
	}
	if d.Slots.Rotated == 0 && len(d.Parts) == 0 && k.Slots != d.after(k.Key) {
		return fmt.Errorf("slots: %d, but inventory has %d after the pass", k.Slots,
			d.after(k.Key))
	}
	return nil
}

// after returns the number of slots under a key after the pass.
func (d *Document) after(key string) (n int64) {
	for _, h := range d.Inventory {
		if h.Key == key {
			n += h.After
		}
	}
	return n
}

// checkVerdict compares a verdict with the inventory and with the pass on which it rests. Passes of
// merged reports can have the same name and time; one of them must support the verdict.
func (d *Document) checkVerdict(v verdict.Verdict) error {
	if v.Exit != 0 {
		return d.checkRemaining(v)
	}
	basis, err := v.Basis()
	if err != nil {
		return err
	}
	named := false
	for i, p := range d.Passes {
		if p.name() != basis.Pass || !p.Began.Truncate(time.Second).Equal(basis.AsOf) {
			continue
		}
		unsupported := d.checkBasis(v, basis, i)
		if unsupported == nil {
			return nil
		}
		if !named {
			named, err = true, unsupported
		}
	}
	if !named {
		return fmt.Errorf("sentence: it rests on %s of %s, which is not in passes", basis.Pass,
			basis.AsOf.Format(time.RFC3339))
	}
	return err
}

// checkBasis compares a verdict with pass i.
func (d *Document) checkBasis(v verdict.Verdict, basis verdict.Basis, i int) error {
	p := d.Passes[i]
	switch {
	case p.Slots.Seen != basis.Slots:
		return fmt.Errorf("sentence: %d ciphertexts, but passes[%d].slots.seen is %d", basis.Slots,
			i, p.Slots.Seen)
	case p.Status != report.Complete || p.OtherJob:
		return fmt.Errorf("code: %s rests on passes[%d], which did not read all targets of the job",
			v.Code, i)
	case p.Slots.Rotated > 0:
		return fmt.Errorf("code: %s rests on passes[%d], which moved %d slots", v.Code, i,
			p.Slots.Rotated)
	case p.Reported && len(d.Parts) == 0 && d.after(v.Key) > int64(len(v.Waived)):
		return fmt.Errorf("code: %s, but inventory has %d slots under the key", v.Code,
			d.after(v.Key))
	case p.Reported && len(d.Parts) == 0 && int64(len(d.Targets)) != basis.Places:
		return fmt.Errorf("sentence: %d places, but there are %d targets", basis.Places,
			len(d.Targets))
	}
	return nil
}

// checkRemaining checks that ciphertexts remain if the verdict states so.
func (d *Document) checkRemaining(v verdict.Verdict) error {
	left := func(p Pass) bool { return p.Left > 0 }
	if v.Code == verdict.Cannot && v.Reason == report.ReasonRemaining && d.after(v.Key) == 0 &&
		!slices.ContainsFunc(d.Passes, left) {
		return fmt.Errorf("reason: %s, but neither inventory nor passes have slots under the key",
			v.Reason)
	}
	return nil
}

// name returns the name of the pass in sentences.
func (p Pass) name() string {
	named := verdict.Pass{
		Number: p.Number, ReadOnly: p.Kind == checkpoint.KindReadPass, Command: p.Command,
	}
	return named.Name()
}
