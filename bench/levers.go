package main

import (
	"fmt"
	"io"
	"os"
	"slices"
)

// lever is something that makes rotator cheaper and can be turned off.
type lever struct {
	what, off string
	trial     trial             // with it
	without   func(trial) trial // what turning it off changes
}

// pull are the levers. That of header hints shows over slots that are current, all
// others over slots that have to be moved.
func pull(items int) []lever {
	moving := trial{store: rows, items: items}
	current := moving
	current.stub = []string{"-moved"}
	return []lever{
		{what: "ReEncrypt sent without the SDK's stack, requests in one write", off: "`--sdk`", trial: moving,
			without: func(t trial) trial { t.args = []string{"--sdk"}; return t }},
		{what: "GOGC and GOMEMLIMIT set from the memory there is", off: "`GOGC=100 GOMEMLIMIT=off`", trial: moving,
			without: func(t trial) trial { t.env = []string{"GOGC=100", "GOMEMLIMIT=off"}; return t }},
		{what: "25 rows in one conditional write", off: "a stub without BatchExecuteStatement", trial: moving,
			without: func(t trial) trial { t.stub = []string{"-unbatched"}; return t }},
		{what: "header hints, over slots that are current", off: "`--exact`", trial: current,
			without: func(t trial) trial { t.args = []string{"--exact"}; return t }},
	}
}

// levers runs rotator with everything on against rotator with one lever off, in
// pairs, and shows what the profiles of both say.
func (l *lab) levers(w io.Writer, items, rounds int) error {
	fmt.Fprintf(w, "\n## Levers, one turned off at a time\n\nRotator over DynamoDB with everything on, and without one lever: %d items, %d pairs, interleaved; medians, and the least and the most of the paired ratios.\n\n", items, rounds)
	fmt.Fprintf(w, "| lever | off by | CPU us/item with it | without it | without/with | peak RSS, MiB, with it | without it | requests/item with it | without it |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, lever := range pull(items) {
		with, without, err := l.pairs(lever, rounds)
		if err != nil {
			return err
		}
		each := ratios(without, with)
		figures := func(figure func(measured) float64) (float64, float64) {
			return medianOf(with, figure), medianOf(without, figure)
		}
		cpuWith, cpuWithout := figures(microseconds)
		rssWith, rssWithout := figures(measured.mebibytes)
		requestsWith, requestsWithout := figures(measured.requests)
		fmt.Fprintf(w, "| %s | %s | %.1f | %.1f | %.2f (%.2f to %.2f) | %.0f | %.0f | %.3f | %.3f |\n", lever.what, lever.off,
			cpuWith, cpuWithout, middle(each), slices.Min(each), slices.Max(each), rssWith, rssWithout, requestsWith, requestsWithout)
	}
	return l.leverProfiles(w, items)
}

// pairs runs rotator with a lever and without it in turn.
func (l *lab) pairs(lever lever, rounds int) (with, without []measured, err error) {
	off := lever.without(lever.trial)
	for round := range rounds {
		for n := range 2 {
			t, into := lever.trial, &with
			if (n+round)%2 == 1 {
				t, into = off, &without
			}
			m, err := l.run(l.us(), t)
			if err != nil {
				return nil, nil, err
			}
			*into = append(*into, m)
		}
		fmt.Fprintf(os.Stderr, "%s, round %d: %.1f us/item with, %.1f without\n", lever.what, round+1, microseconds(with[round]), microseconds(without[round]))
	}
	return with, without, nil
}

func medianOf(runs []measured, figure func(measured) float64) float64 {
	var all []float64
	for _, m := range runs {
		all = append(all, figure(m))
	}
	return middle(all)
}

func (l *lab) leverProfiles(w io.Writer, items int) error {
	p, err := l.profiled()
	if err != nil {
		return err
	}
	for _, lever := range pull(items) {
		fmt.Fprintf(w, "\n### %s\n", lever.what)
		for _, side := range []struct {
			name  string
			trial trial
		}{{"With it", lever.trial}, {"Without (" + lever.off + ")", lever.without(lever.trial)}} {
			found, err := p.profile(side.trial, 8)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "\n%s, CPU:\n\n```\n%s```\n\n%.0f allocations per item:\n\n```\n%s```\n", side.name, found.cpu, found.allocs, found.allocations)
		}
	}
	return nil
}
