package main

import (
	"encoding/json"
	"fmt"
	"io"
)

// throttling is one run of rotator against a stub that throttles.
type throttling struct {
	Quota, Share float64 // as those of the stub
	Rate         int     // rotator's kms.rate
	Lost, Failed int64   // items that were not written, and slots that were given up
	Faults       int
	Steady       second
	Seconds      int // of the steady state
	All          second
}

// delivered is what was served in the steady state, as a share of the quota.
func (t throttling) delivered() float64 {
	if t.Seconds == 0 {
		return 0
	}
	return float64(t.Steady.Served) / (t.Quota * float64(t.Seconds))
}

// refused is the share of the requests that were throttled.
func (s second) refused() float64 {
	if s.Served+s.Throttled == 0 {
		return 0
	}
	return float64(s.Throttled) / float64(s.Served+s.Throttled)
}

// throttled runs rotator with a rate far above a quota that it is not told, or under
// random throttles.
func (l *lab) throttled(items, rate int, quota, share float64) (throttling, error) {
	t := trial{store: rows, items: items, rate: rate, stub: []string{"-quota", fmt.Sprint(quota), "-throttle", fmt.Sprint(share)}}
	s, err := l.serve(t)
	if err != nil {
		return throttling{}, err
	}
	defer s.close()
	m, err := l.against(s, l.us(), t)
	if err != nil {
		return throttling{}, fmt.Errorf("rotator under a quota of %.0f and %.0f%% throttles: %w", quota, 100*share, err)
	}
	var said struct {
		Slots struct{ Foreign, Failed, Conflict, Gone, Remaining int64 }
	}
	if err := json.Unmarshal(m.Output, &said); err != nil {
		return throttling{}, fmt.Errorf("read rotator's report: %w", err)
	}
	out := throttling{Quota: quota, Share: share, Rate: rate, Lost: int64(items) - m.Counts.Written, Faults: m.Counts.Faults,
		Failed: said.Slots.Foreign + said.Slots.Failed + said.Slots.Conflict + said.Slots.Gone + said.Slots.Remaining}
	out.Steady, out.Seconds = steady(m.Counts.Seconds)
	for _, one := range m.Counts.Seconds {
		out.All.Served += one.Served
		out.All.Throttled += one.Throttled
	}
	return out, nil
}

// givenRates are the kms.rate with which a quota is met: none to speak of, and that of
// a user who believes in the lowest quota that AWS gives.
func givenRates() []int { return []int{noLimit, 10_000} }

// quotas measures what is made of quotas that rotator is not told. Each run has items
// for so many seconds at the quota.
func (l *lab) quotas(w io.Writer, quotas []float64, seconds float64) (runs []throttling, err error) {
	fmt.Fprintf(w, "\n## A hidden quota\n\nThe stub serves so many ReEncrypt a second and throttles the rest; rotator is given a higher `kms.rate`.\nSteady is from the fourth second to the last full one, by the clock of the stub.\n\n")
	fmt.Fprintf(w, "| quota, 1/s | `kms.rate` | items | steady, s | delivered | throttled | throttled from the start | not written | given up | wrong writes |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, quota := range quotas {
		for _, rate := range givenRates() {
			items := int(quota * seconds)
			run, err := l.throttled(items, rate, quota, 0)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(w, "| %.0f | %d | %d | %d | %.1f%% | %.2f%% | %.2f%% | %d | %d | %d |\n", quota, rate, items, run.Seconds,
				100*run.delivered(), 100*run.Steady.refused(), 100*run.All.refused(), run.Lost, run.Failed, run.Faults)
			runs = append(runs, run)
		}
	}
	return runs, nil
}

// randoms measures what is lost where throttles have nothing to do with the rate.
func (l *lab) randoms(w io.Writer, items int) (runs []throttling, err error) {
	fmt.Fprintf(w, "\n## Random throttles\n\nA share of ReEncrypt is throttled, at random, whatever the rate; %d items.\n\n| share | answers throttled | not written | given up | wrong writes |\n|---|---|---|---|---|\n", items)
	for _, share := range []float64{0.05, 0.2, 0.4} {
		run, err := l.throttled(items, noLimit, 0, share)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(w, "| %.0f%% | %.1f%% | %d | %d | %d |\n", 100*share, 100*run.All.refused(), run.Lost, run.Failed, run.Faults)
		runs = append(runs, run)
	}
	return runs, nil
}
