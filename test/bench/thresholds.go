package main

import (
	"fmt"
	"io"
	"strings"
)

// findings are what was measured; what was not is absent.
type findings struct {
	series  []*series
	quotas  []throttling
	randoms []throttling
	memory  []measured // in growing numbers of items
	second  *secondPass
}

// goal is one that was set, and what was found.
type goal struct {
	what, figure      string
	measured, reached bool
}

// The numbers of items for which some goals are set.
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

// goals are all of them, in the order in which they were set.
func (f findings) goals() (list []goal) {
	for _, part := range []func() []goal{f.costs, f.requests, f.connections, f.throttles, f.memories, f.passes} {
		list = append(list, part()...)
	}
	return list
}

func (f findings) costs() (list []goal) {
	for _, g := range []struct {
		letter string
		most   float64
	}{{"A", 0.75}, {"B", 0.2}, {"C", 0.05}} {
		one := goal{what: fmt.Sprintf("CPU per DynamoDB item at most %.2f of that of %s", g.most, g.letter)}
		if s := f.of(rows); s != nil {
			var ratio float64
			ratio, one.measured = s.ratio(ours, g.letter)
			one.figure, one.reached = fmt.Sprintf("%.3f", ratio), ratio <= g.most
		}
		list = append(list, one)
	}
	return list
}

func (f findings) requests() (list []goal) {
	for _, g := range []struct {
		store, what string
		most        float64
		figure      func(measured) float64
	}{
		{rows, "requests per DynamoDB item, ReEncrypt, write and scan, at most 1.05", 1.05, measured.requests},
		{bodies, "requests per S3 object beside ReEncrypt, in bodies, at most 2.05", 2.05, measured.others},
		{headers, "requests per S3 object beside ReEncrypt, in metadata, at most 2.05", 2.05, measured.others},
	} {
		one := goal{what: g.what}
		if s := f.of(g.store); s != nil {
			most := s.most(ours, g.figure)
			one.measured, one.figure, one.reached = true, fmt.Sprintf("%.3f", most), most <= g.most
		}
		list = append(list, one)
	}
	return list
}

// connections looks at DynamoDB and S3 alike, and at the longest runs.
func (f findings) connections() []goal {
	one := goal{what: "no new connections after a tenth of the items"}
	var late float64
	for _, s := range f.series {
		late = max(late, s.most(ours, measured.late))
		one.measured = true
	}
	for _, m := range f.memory {
		late = max(late, m.late())
		one.measured = true
	}
	if one.measured {
		one.figure, one.reached = fmt.Sprintf("%.0f", late), late == 0
	}
	return []goal{one}
}

func (f findings) throttles() []goal {
	delivered, refused := goal{what: "at least 95% of a hidden quota delivered"}, goal{what: "less than 1% throttled under a hidden quota"}
	least, most := 1e9, 0.0
	for _, run := range f.quotas {
		delivered.measured = true
		least, most = min(least, run.delivered()), max(most, run.Steady.refused())
		if run.Seconds == 0 { // it had no steady state
			most = 1
		}
	}
	if refused.measured = delivered.measured; refused.measured {
		delivered.figure, delivered.reached = fmt.Sprintf("%.1f%%", 100*least), least >= 0.95
		refused.figure, refused.reached = fmt.Sprintf("%.2f%%", 100*most), most < 0.01
	}
	lost := goal{what: "no item lost or given up under hidden quotas and random throttles of 5, 20 and 40%", measured: len(f.quotas) > 0 && len(f.randoms) > 0}
	if !lost.measured {
		return []goal{delivered, refused, lost}
	}
	var n int64
	for _, run := range append(append([]throttling(nil), f.quotas...), f.randoms...) {
		n += run.Lost + run.Failed + int64(run.Faults)
	}
	lost.figure, lost.reached = fmt.Sprint(n), n == 0
	return []goal{delivered, refused, lost}
}

func (f findings) memories() []goal {
	peak := goal{what: fmt.Sprintf("peak RSS at most 128 MiB with %d workers", workers)}
	var most float64
	for _, m := range f.memory {
		most, peak.measured = max(most, m.mebibytes()), true
	}
	for _, s := range f.series {
		most, peak.measured = max(most, s.most(ours, measured.mebibytes)), true
	}
	if peak.measured {
		peak.figure, peak.reached = fmt.Sprintf("%.0f MiB", most), most <= 128
	}
	flat := goal{what: "peak RSS at 5,000,000 items at most 1.1 of that at 100,000"}
	if n := len(f.memory); n > 1 && f.memory[0].Items == fewItems && f.memory[n-1].Items == manyItems {
		ratio := float64(f.memory[n-1].RSS) / float64(f.memory[0].RSS)
		flat.measured, flat.figure, flat.reached = true, fmt.Sprintf("%.2f", ratio), ratio <= 1.1
	}
	return []goal{peak, flat}
}

func (f findings) passes() []goal {
	hints := goal{what: "at most 1.2% of 1,000,000 current slots cost a call"}
	exact := goal{what: fmt.Sprintf("with `--exact` each current slot costs one call, the first %d at most two", workers)}
	same := goal{what: "the reports with hints and with `--exact` agree, but for how"}
	if p := f.second; p != nil {
		hints.measured, hints.figure, hints.reached = p.Items >= passedOver, fmt.Sprintf("%.2f%% of %d", 100*calls(p.Hint), p.Items), calls(p.Hint) <= 0.012
		exact.measured, exact.figure, exact.reached = true, fmt.Sprintf("%.4f", calls(p.Exact)), asksEach(p.Exact)
		same.measured, same.figure, same.reached = true, fmt.Sprintf("%d differences", len(p.Differ)), len(p.Differ) == 0
	}
	return []goal{hints, exact, same}
}

// asksEach says that KMS was asked about every slot, and twice only about those that
// were under way when nothing was known of keys yet.
func asksEach(m measured) bool {
	asked, items := m.Counts.reEncrypts(), int64(m.Items)
	return asked >= items && asked <= items+workers
}

// missed names the goals that were measured and not reached.
func missed(list []goal) error {
	var names []string
	for _, g := range list {
		if g.measured && !g.reached {
			names = append(names, fmt.Sprintf("%s: found %s", g.what, g.figure))
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("goals that were not reached:\n%s", strings.Join(names, "\n"))
}

// printGoals writes what was asked for, and what was reached.
func printGoals(w io.Writer, list []goal) {
	fmt.Fprintf(w, "\n## Goals\n\n| goal | reached | found |\n|---|---|---|\n")
	for _, g := range list {
		reached, figure := "**no**", g.figure
		switch {
		case !g.measured:
			reached = "not measured"
		case g.reached:
			reached = "yes"
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", g.what, reached, figure)
	}
}
