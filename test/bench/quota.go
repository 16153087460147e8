package main

import (
	"encoding/json"
	"fmt"
	"io"
)

// throttling holds the figures of one run of rotator against a stub that throttles.
type throttling struct {
	Quota, Share float64 // those of the stub
	Rate         int     // kms.rate of rotator
	Lost, Failed int64   // items that were not written, and slots without success
	Faults       int
	Steady       second
	Seconds      int // of the steady state
	All          second
}

// delivered returns the share of the quota that was used in the steady state.
func (t throttling) delivered() float64 {
	if t.Seconds == 0 {
		return 0
	}
	return float64(t.Steady.Served) / (t.Quota * float64(t.Seconds))
}

// refused returns the share of the requests that were throttled.
func (s second) refused() float64 {
	if s.Served+s.Throttled == 0 {
		return 0
	}
	return float64(s.Throttled) / float64(s.Served+s.Throttled)
}

// throttled runs rotator with a rate far above a quota that it does not know, or with random
// throttling.
func (h *harness) throttled(items, rate int, quota, share float64) (throttling, error) {
	t := scenario{
		store: rows,
		items: items,
		rate:  rate,
		stub:  []string{"-quota", fmt.Sprint(quota), "-throttle", fmt.Sprint(share)},
	}
	s, err := h.serve(t)
	if err != nil {
		return throttling{}, err
	}
	defer s.close()
	m, err := h.against(s, h.rotatorRun(), t)
	if err != nil {
		return throttling{}, fmt.Errorf(
			"run rotator with a quota of %.0f and %.0f%% throttling: %w",
			quota, 100*share, err)
	}
	var report struct {
		Slots struct{ Foreign, Failed, Conflict, Gone, Remaining int64 }
	}
	if err := json.Unmarshal(m.Output, &report); err != nil {
		return throttling{}, fmt.Errorf("read rotator's report: %w", err)
	}
	slots := report.Slots
	out := throttling{
		Quota:  quota,
		Share:  share,
		Rate:   rate,
		Lost:   int64(items) - m.Counts.Written,
		Faults: m.Counts.Faults,
		Failed: slots.Foreign + slots.Failed + slots.Conflict + slots.Gone + slots.Remaining,
	}
	out.Steady, out.Seconds = steady(m.Counts.Seconds)
	for _, one := range m.Counts.Seconds {
		out.All.Served += one.Served
		out.All.Throttled += one.Throttled
	}
	return out, nil
}

// givenRates returns the values of kms.rate for hidden quotas: no limit, and the lowest default
// quota of a large Region.
func givenRates() []int { return []int{noLimit, 10_000} }

// quotas measures how much of a hidden quota rotator uses. Each run has the items of this
// number of seconds at the quota.
func (h *harness) quotas(
	w io.Writer, quotas []float64, seconds float64,
) (runs []throttling, err error) {
	fmt.Fprintf(w, "\n## Throttling\n\nThe stub throttles ReEncrypt above a quota; `kms.rate` is "+
		"higher. The steady state is from the fourth second to the last complete one.\n\n")
	fmt.Fprintf(w, "| quota, 1/s | `kms.rate` | items | steady, s | used | throttled "+
		"| throttled from the start | not written | given up | wrong writes |\n"+
		"|---|---|---|---|---|---|---|---|---|---|\n")
	for _, quota := range quotas {
		for _, rate := range givenRates() {
			items := int(quota * seconds)
			run, err := h.throttled(items, rate, quota, 0)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(w, "| %.0f | %d | %d | %d | %.1f%% | %.2f%% | %.2f%% | %d | %d | %d |\n",
				quota, rate, items, run.Seconds, 100*run.delivered(), 100*run.Steady.refused(),
				100*run.All.refused(), run.Lost, run.Failed, run.Faults)
			runs = append(runs, run)
		}
	}
	return runs, nil
}

// randoms measures what is lost if throttling does not depend on the rate.
func (h *harness) randoms(w io.Writer, items int) (runs []throttling, err error) {
	fmt.Fprintf(w, "\nRandom throttling of a share of the requests, for any rate; %d items:\n\n",
		items)
	fmt.Fprintf(w, "| share | requests throttled | not written | given up | wrong writes |\n"+
		"|---|---|---|---|---|\n")
	for _, share := range []float64{0.05, 0.2, 0.4} {
		run, err := h.throttled(items, noLimit, 0, share)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(w, "| %.0f%% | %.1f%% | %d | %d | %d |\n", 100*share,
			100*run.All.refused(), run.Lost, run.Failed, run.Faults)
		runs = append(runs, run)
	}
	return runs, nil
}
