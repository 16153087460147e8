package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// baseline holds the committed ratios D/A of the small bench, by store.
const baseline = "test/bench/baseline.json"

const (
	// tolerance is how much worse than the committed ratio a result may be.
	tolerance = 1.15
	// repeats is how often the rounds are run again before a ratio that is worse is
	// believed. All rounds count then, the first as well: who is lucky in one of them
	// gains nothing by it.
	repeats = 2
	// enoughTime is when no further round begins, and leastRounds how many there are in
	// any case.
	enoughTime  = 2 * time.Minute
	leastRounds = 3
)

// guard fails when rotator has become dearer against A than is committed. Other work
// on the machine meets A and D alike only on average, so more is measured where a
// ratio is over.
func (l *lab) guard(all []*series, rounds int) error {
	committed, err := readBaseline(baseline)
	if err != nil {
		return err
	}
	var errs []error
	for _, one := range all {
		was, ok := committed[one.Store]
		if !ok {
			fmt.Printf("\n%s: no ratio is committed (%s)\n", one.Store, baseline)
			continue
		}
		ratio := func() float64 {
			ratio, _ := one.ratio(ours, loop)
			return ratio
		}
		err := believe(was, repeats, ratio, func() (bool, error) { return one.more(l, rounds, l.began.Add(enoughTime)) })
		if err != nil {
			errs = append(errs, fmt.Errorf("%s, after %d rounds: %w", one.Store, one.roundsBefore, err))
		}
	}
	return errors.Join(errs...)
}

// more runs further rounds, and says whether there was time for all of them.
func (s *series) more(l *lab, rounds int, until time.Time) (bool, error) {
	for range rounds {
		if time.Now().After(until) {
			return false, nil
		}
		if err := s.round(l); err != nil {
			return false, err
		}
	}
	return true, nil
}

// believe compares a ratio with the committed one, and has more measured, so many
// times at most, while it is worse.
func believe(was float64, times int, ratio func() float64, more func() (inTime bool, err error)) error {
	for inTime := true; ; times-- {
		now := ratio()
		if now <= was*tolerance {
			return nil
		}
		if times == 0 || !inTime {
			return fmt.Errorf("rotator (D) costs %.3f of A, and %.3f is committed", now, was)
		}
		var err error
		if inTime, err = more(); err != nil {
			return err
		}
	}
}

func readBaseline(file string) (committed map[string]float64, err error) {
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &committed)
	}
	if err != nil {
		return nil, fmt.Errorf("read the committed ratios: %w", err)
	}
	return committed, nil
}

// writeBaseline commits the ratios of a small bench.
func writeBaseline(file string, all []*series) error {
	ratios := map[string]float64{}
	for _, one := range all {
		ratios[one.Store], _ = one.ratio(ours, loop)
	}
	text, err := json.MarshalIndent(ratios, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
