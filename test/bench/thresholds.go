package main

import (
	"fmt"
	"io"
	"strings"
)

// findings holds all figures; those of a part that was not measured are empty.
type findings struct {
	series  []*series
	quotas  []throttling
	randoms []throttling
	memory  []measured // by increasing number of items
	second  *secondPass
}

// threshold is a limit of a figure, and the figure that was measured.
type threshold struct {
	what, figure  string
	measured, met bool
}

// Numbers of items to which some thresholds apply.
const (
	fewItems   = 100_000
	manyItems  = 5_000_000
	passedOver = 1_000_000
)

func (f findings) of(store string) *series {
	for _, one := range f.series {
		if one.Store == store {
			return one
		}
	}
	return nil
}

// thresholds returns all of them.
func (f findings) thresholds() (list []threshold) {
	for _, part := range []func() []threshold{
		f.costs, f.requests, f.connections, f.throttles, f.memories, f.passes,
	} {
		list = append(list, part()...)
	}
	return list
}

func (f findings) costs() (list []threshold) {
	for _, g := range []struct {
		letter string
		most   float64
	}{{"A", 0.75}, {"B", 0.2}, {"C", 0.05}} {
		one := threshold{
			what: fmt.Sprintf("CPU per DynamoDB item at most %.2f of %s", g.most, g.letter),
		}
		if s := f.of(rows); s != nil {
			var ratio float64
			ratio, one.measured = s.ratio(letterRotator, g.letter)
			one.figure, one.met = fmt.Sprintf("%.3f", ratio), ratio <= g.most
		}
		list = append(list, one)
	}
	return list
}

func (f findings) requests() (list []threshold) {
	for _, g := range []struct {
		store, what string
		most        float64
		figure      func(measured) float64
	}{
		{rows, "requests per DynamoDB item at most 1.05", 1.05, measured.requests},
		{bodies, "requests per S3 body other than ReEncrypt at most 2.05", 2.05, measured.others},
		{headers, "the same for S3 metadata", 2.05, measured.others},
	} {
		one := threshold{what: g.what}
		if s := f.of(g.store); s != nil {
			most := s.most(letterRotator, g.figure)
			one.measured, one.figure, one.met = true, fmt.Sprintf("%.3f", most), most <= g.most
		}
		list = append(list, one)
	}
	return list
}

// connections checks all stores, and the longest runs.
func (f findings) connections() []threshold {
	one := threshold{what: "no new connections after a tenth of the items"}
	var late float64
	for _, s := range f.series {
		late = max(late, s.most(letterRotator, measured.late))
		one.measured = true
	}
	for _, m := range f.memory {
		late = max(late, m.late())
		one.measured = true
	}
	if one.measured {
		one.figure, one.met = fmt.Sprintf("%.0f", late), late == 0
	}
	return []threshold{one}
}

func (f findings) throttles() []threshold {
	delivered := threshold{what: "at least 95% of a hidden quota used"}
	refused := threshold{what: "less than 1% throttled with a hidden quota"}
	least, most := 1e9, 0.0
	for _, run := range f.quotas {
		delivered.measured = true
		least, most = min(least, run.delivered()), max(most, run.Steady.refused())
		if run.Seconds == 0 { // there was no steady state
			most = 1
		}
	}
	if refused.measured = delivered.measured; refused.measured {
		delivered.figure, delivered.met = fmt.Sprintf("%.1f%%", 100*least), least >= 0.95
		refused.figure, refused.met = fmt.Sprintf("%.2f%%", 100*most), most < 0.01
	}
	lost := threshold{
		what:     "no item lost or given up with hidden quotas and random throttling",
		measured: len(f.quotas) > 0 && len(f.randoms) > 0,
	}
	if !lost.measured {
		return []threshold{delivered, refused, lost}
	}
	var n int64
	for _, run := range append(append([]throttling(nil), f.quotas...), f.randoms...) {
		n += run.Lost + run.Failed + int64(run.Faults)
	}
	lost.figure, lost.met = fmt.Sprint(n), n == 0
	return []threshold{delivered, refused, lost}
}

func (f findings) memories() []threshold {
	peak := threshold{what: fmt.Sprintf("peak RSS at most 128 MiB with %d workers", workers)}
	var most float64
	for _, m := range f.memory {
		most, peak.measured = max(most, m.mebibytes()), true
	}
	for _, s := range f.series {
		most, peak.measured = max(most, s.most(letterRotator, measured.mebibytes)), true
	}
	if peak.measured {
		peak.figure, peak.met = fmt.Sprintf("%.0f MiB", most), most <= 128
	}
	flat := threshold{what: "peak RSS at 5,000,000 items at most 1.1 of that at 100,000"}
	n := len(f.memory)
	if n > 1 && f.memory[0].Items == fewItems && f.memory[n-1].Items == manyItems {
		ratio := float64(f.memory[n-1].RSS) / float64(f.memory[0].RSS)
		flat.measured, flat.figure, flat.met = true, fmt.Sprintf("%.2f", ratio), ratio <= 1.1
	}
	return []threshold{peak, flat}
}

func (f findings) passes() []threshold {
	hints := threshold{what: "at most 1.2% of 1,000,000 current slots take a KMS request"}
	exact := threshold{what: fmt.Sprintf(
		"with `--exact` each current slot takes one request, the first %d at most two", workers)}
	same := threshold{what: "equal reports with header hints and with `--exact`, except for `how`"}
	if p := f.second; p != nil {
		hints.measured, hints.met = p.Items >= passedOver, calls(p.Hint) <= 0.012
		hints.figure = fmt.Sprintf("%.2f%% of %d", 100*calls(p.Hint), p.Items)
		exact.measured, exact.met = true, callsEach(p.Exact)
		exact.figure = fmt.Sprintf("%.4f", calls(p.Exact))
		same.measured, same.met = true, len(p.Differ) == 0
		same.figure = fmt.Sprintf("%d differences", len(p.Differ))
	}
	return []threshold{hints, exact, same}
}

// callsEach reports whether there was one request for every slot, and a second one only for
// slots that were decided before any key was known.
func callsEach(m measured) bool {
	requests, items := m.Counts.reEncrypts(), int64(m.Items)
	return requests >= items && requests <= items+workers
}

// missed returns an error with the thresholds that were measured and not met.
func missed(list []threshold) error {
	var names []string
	for _, g := range list {
		if g.measured && !g.met {
			names = append(names, fmt.Sprintf("%s: measured %s", g.what, g.figure))
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("thresholds that were not met:\n%s", strings.Join(names, "\n"))
}

// printMet writes how many of the thresholds are met.
func printMet(w io.Writer, list []threshold) {
	measured, met := 0, 0
	for _, one := range list {
		if one.measured {
			measured++
		}
		if one.measured && one.met {
			met++
		}
	}
	fmt.Fprintf(w, "\n%d of %d thresholds of `test/bench/thresholds.go` are met", met, len(list))
	if measured < len(list) {
		fmt.Fprintf(w, ", and %d were not measured", len(list)-measured)
	}
	fmt.Fprintf(w, ".\n")
}

// printThresholds writes the thresholds and the figures.
func printThresholds(w io.Writer, list []threshold) {
	fmt.Fprintf(w, "\n## Thresholds\n\n| threshold | met | measured |\n|---|---|---|\n")
	for _, g := range list {
		met, figure := "**no**", g.figure
		switch {
		case !g.measured:
			met = "not measured"
		case g.met:
			met = "yes"
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", g.what, met, figure)
	}
}
