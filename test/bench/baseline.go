package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// baseline is the file with the committed ratios D/A of the small bench, by store.
const baseline = "test/bench/baseline.json"

const (
	// tolerance is the maximum of a ratio, relative to the committed one.
	tolerance = 1.15
	// repeats is the number of times that the rounds are run again if a ratio is over the
	// tolerance. All rounds count, including the first ones.
	repeats = 2
	// No further round begins after enoughTime, but there are at least leastRounds.
	enoughTime  = 2 * time.Minute
	leastRounds = 3
)

// checkBaseline fails if the ratio of rotator to A is over the committed one. Other work on the
// machine affects A and D equally only on average, so a ratio that is over is measured again.
func (h *harness) checkBaseline(all []*series, rounds int) error {
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
			ratio, _ := one.ratio(letterRotator, letterLoop)
			return ratio
		}
		more := func() (bool, error) { return one.more(h, rounds, h.began.Add(enoughTime)) }
		if err := withinTolerance(was, repeats, ratio, more); err != nil {
			errs = append(errs,
				fmt.Errorf("%s, after %d rounds: %w", one.Store, one.roundsBefore, err))
		}
	}
	return errors.Join(errs...)
}

// more runs further rounds. It reports whether there was time for all of them.
func (s *series) more(h *harness, rounds int, until time.Time) (bool, error) {
	for range rounds {
		if time.Now().After(until) {
			return false, nil
		}
		if err := s.round(h); err != nil {
			return false, err
		}
	}
	return true, nil
}

// withinTolerance compares a ratio with the committed one. While it is over the tolerance, it
// calls more to measure further rounds, at most this number of times.
func withinTolerance(
	was float64, times int, ratio func() float64, more func() (inTime bool, err error),
) error {
	for inTime := true; ; times-- {
		now := ratio()
		if now <= was*tolerance {
			return nil
		}
		if times == 0 || !inTime {
			return fmt.Errorf("the CPU time of rotator (D) is %.3f of A, the committed ratio is "+
				"%.3f",
				now, was)
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

// writeBaseline writes the ratios of a small bench to a file.
func writeBaseline(file string, all []*series) error {
	ratios := map[string]float64{}
	for _, one := range all {
		ratios[one.Store], _ = one.ratio(letterRotator, letterLoop)
	}
	text, err := json.MarshalIndent(ratios, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
