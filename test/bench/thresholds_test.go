package main

import (
	"strings"
	"testing"
)

// found returns findings with the given CPU time, requests per item, throttling and peak memory
// of D.
func found(d, requests, refused, rss float64) findings {
	run := func(cpu, others float64) []measured {
		return []measured{{
			CPU:   cpu,
			Items: 1000,
			RSS:   int64(rss * (1 << 20)),
			Counts: counts{
				Requests: map[string]int64{reEncrypt: 1000, "x": int64(1000 * others)},
			},
		}}
	}
	var f findings
	for store, others := range map[string]float64{
		rows:    requests - 1,
		bodies:  1 + requests,
		headers: 1 + requests,
	} {
		f.series = append(f.series, &series{
			Store: store,
			Runs: map[string][]measured{
				"A": run(1, 0), "B": run(3.75, 0), "C": run(15, 0), "D": run(d, others),
			},
		})
	}
	f.quotas = []throttling{
		{Quota: 1000, Seconds: 10, Steady: second{Served: 9600, Throttled: int64(9600 * refused)}},
	}
	f.randoms = []throttling{{}}
	f.memory = []measured{
		{Items: fewItems, RSS: 100 << 20},
		{Items: manyItems, RSS: int64(rss * (1 << 20))},
	}
	hint := counts{Requests: map[string]int64{reEncrypt: int64(8_000 + 400_000*refused)}}
	exact := counts{Requests: map[string]int64{reEncrypt: passedOver + int64(refused*3000)}}
	f.second = &secondPass{
		Items: passedOver,
		Hint:  measured{Items: passedOver, Counts: hint},
		Exact: measured{Items: passedOver, Counts: exact},
	}
	return f
}

// TestThresholds checks figures that just meet the thresholds, and figures that just do not.
func TestThresholds(t *testing.T) {
	for _, g := range found(0.74, 1.04, 0.009, 109).thresholds() {
		if !g.measured || !g.met {
			t.Errorf("not met: %+v", g)
		}
	}
	if err := missed(found(0.74, 1.04, 0.009, 109).thresholds()); err != nil {
		t.Error(err)
	}
	beyond := found(0.76, 1.06, 0.03, 129)
	beyond.quotas[0].Steady.Served = 9400
	beyond.quotas[0].Lost = 1
	beyond.second.Differ = []string{"slots"}
	beyond.series[0].Runs["D"][0].Counts.Late = 1
	for _, g := range beyond.thresholds() {
		if !g.measured || g.met {
			t.Errorf("met: %+v", g)
		}
		if err := missed(beyond.thresholds()); err == nil ||
			!strings.Contains(err.Error(), g.what) {
			t.Errorf("%q is not among the thresholds that are not met: %v", g.what, err)
		}
	}
	never := found(0.74, 1.04, 0.009, 109)
	never.quotas[0].Seconds, never.quotas[0].Steady = 0, second{}
	for _, g := range never.throttles()[:2] {
		if g.met {
			t.Errorf("met without a steady state: %+v", g)
		}
	}
	short := found(0.74, 1.04, 0.009, 109)
	short.second.Items, short.memory = passedOver/10, short.memory[:1]
	n := 0
	for _, g := range short.thresholds() {
		if !g.measured {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d thresholds are not measured without BENCH=full, want those of many items", n)
	}
	for _, g := range (findings{}).thresholds() {
		if g.measured || g.met {
			t.Errorf("without figures: %+v", g)
		}
	}
}

// TestThresholdOfConnections: a single late connection, in any run, is too many.
func TestThresholdOfConnections(t *testing.T) {
	for name, late := range map[string]func(*findings){
		"in a series":        func(f *findings) { f.series[2].Runs["D"][0].Counts.Late = 2 },
		"in the longest run": func(f *findings) { f.memory[1].Counts.Late = 2 },
		"in the longest run, and there is no series": func(f *findings) {
			f.series, f.memory[1].Counts.Late = nil, 2
		},
	} {
		f := found(0.74, 1.04, 0.009, 109)
		late(&f)
		if g := f.connections()[0]; !g.measured || g.met || g.figure != "2" {
			t.Errorf("connections that are late %s: %+v", name, g)
		}
	}
}
