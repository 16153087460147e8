package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
)

// throttling is one run of rotator against a stub that throttles.
type throttling struct {
	Quota, Share float64 // as those of the stub
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

// throttled is the share of the requests of the steady state that were refused.
func (t throttling) throttled() float64 { return t.Steady.refused() }

func (s second) refused() float64 {
	if s.Served+s.Throttled == 0 {
		return 0
	}
	return float64(s.Throttled) / float64(s.Served+s.Throttled)
}

// throttled runs rotator, which is told a rate that is no limit, against a hidden
// quota, or throttles at random.
func (l *lab) throttled(items int, quota, share float64) (throttling, error) {
	t := trial{store: rows, items: items, stub: []string{"-quota", fmt.Sprint(quota), "-throttle", fmt.Sprint(share)}}
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
	out := throttling{Quota: quota, Share: share, Lost: int64(items) - m.Counts.Written, Faults: m.Counts.Faults,
		Failed: said.Slots.Foreign + said.Slots.Failed + said.Slots.Conflict + said.Slots.Gone + said.Slots.Remaining}
	out.Steady, out.Seconds = steady(m.Counts.Seconds)
	for _, one := range m.Counts.Seconds {
		out.All.Served += one.Served
		out.All.Throttled += one.Throttled
	}
	return out, nil
}

// quotas measures what is made of quotas that rotator is not told. Each run has items
// for so many seconds at the quota.
func (l *lab) quotas(w io.Writer, rates []float64, seconds float64) (runs []throttling, err error) {
	fmt.Fprintf(w, "\n## A hidden quota\n\nThe stub serves so many ReEncrypt a second and throttles the rest; rotator has `kms.rate: 1000000`.\nSteady is from the fourth second to the last full one, by the clock of the stub.\n\n")
	fmt.Fprintf(w, "| quota, 1/s | items | steady, s | delivered | throttled | throttled from the start | not written | given up |\n|---|---|---|---|---|---|---|---|\n")
	for _, rate := range rates {
		run, err := l.throttled(int(rate*seconds), rate, 0)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(w, "| %.0f | %d | %d | %.1f%% | %.2f%% | %.2f%% | %d | %d |\n", rate, int(rate*seconds), run.Seconds,
			100*run.delivered(), 100*run.throttled(), 100*run.All.refused(), run.Lost, run.Failed)
		runs = append(runs, run)
	}
	return runs, nil
}

// randoms measures what is lost where throttles have nothing to do with the rate.
func (l *lab) randoms(w io.Writer, items int) (runs []throttling, err error) {
	fmt.Fprintf(w, "\n## Random throttles\n\nA share of ReEncrypt is throttled, at random, whatever the rate; %d items.\n\n| share | answers throttled | not written | given up | wrong writes |\n|---|---|---|---|---|\n", items)
	for _, share := range []float64{0.05, 0.2, 0.4} {
		run, err := l.throttled(items, 0, share)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(w, "| %.0f%% | %.1f%% | %d | %d | %s |\n", 100*share, 100*run.All.refused(), run.Lost, run.Failed, strconv.Itoa(run.Faults))
		runs = append(runs, run)
	}
	return runs, nil
}
