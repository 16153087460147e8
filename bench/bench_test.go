package main

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestMain is the bench itself where the lab starts its own binary, and else the
// tests.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"stub", "bare", "naive"}, os.Args[1]) {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestSmallBench runs everything but the long things once, over few items.
func TestSmallBench(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds rotator and runs it")
	}
	l, err := newLab()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	s := setting{items: 500, rounds: 1, few: true, stores: []string{rows, bodies, headers}, parts: []string{partSeries, partAgain}, again: 500}
	var out bytes.Buffer
	found, err := l.measure(&out, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range found.series {
		for letter, runs := range one.Runs {
			m := runs[0]
			least := 2.0 // GET and PUT, HEAD and COPY
			if one.Store == rows {
				least = 0.04
			}
			if m.CPU <= 0 || m.RSS <= 0 || m.Counts.reEncrypts() != 500 || m.others() < least {
				t.Errorf("%s over %s: %+v", letter, one.Store, m.Counts)
			}
		}
	}
	if p := found.second; len(p.Differ) > 0 || !asksEach(p.Exact) || p.First.Counts.reEncrypts() != 500 {
		t.Errorf("a second pass: %v, %v, %v", p.Differ, p.Hint.Counts.Requests, p.Exact.Counts.Requests)
	}
	run, err := l.throttled(500, 10_000, 0, 0.2)
	if err != nil {
		t.Fatal(err)
	}
	if run.Lost+run.Failed != 0 || run.Faults != 0 || run.All.Served != 500 || run.All.Throttled == 0 {
		t.Errorf("under random throttles: %+v", run)
	}
	for _, want := range []string{"## DynamoDB", titleOf(bodies), titleOf(headers), "## A pass over slots that are current", "## Goals"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in what is printed:\n%s", want, &out)
		}
	}
}

// TestStubNotices does to the stub what no client may.
func TestStubNotices(t *testing.T) {
	for name, wrong := range map[string]func(v *vault){
		"the blob of another item": func(v *vault) { v.replace(1, blobOf(sourceKey, 1), blobOf(destinationKey, 2)) },
		"a blob before KMS":        func(v *vault) { v.replace(2, blobOf(sourceKey, 2), blobOf(destinationKey, 2)) },
		"the same twice": func(v *vault) {
			v.replace(1, blobOf(sourceKey, 1), blobOf(destinationKey, 1))
			v.replace(1, blobOf(destinationKey, 1), blobOf(destinationKey, 1))
		},
	} {
		v := newVault(3, false)
		v.state[1].Or(asked)
		if wrong(v); v.count != 1 {
			t.Errorf("%s: %d faults", name, v.count)
		}
	}
	v := newVault(3, false)
	if v.replace(1, blobOf(destinationKey, 1), blobOf(destinationKey, 1)) || v.written.Load() != 0 {
		t.Error("a condition that does not hold was taken to hold")
	}
}

func TestMayCopy(t *testing.T) {
	const modified, before, after = "Mon, 02 Mar 2026 10:00:00 GMT", "Mon, 02 Mar 2026 09:59:59 GMT", "Mon, 02 Mar 2026 10:00:01 GMT"
	for _, c := range []struct {
		target, source, since string
		want                  bool
	}{
		{"", "", "", true}, {"e", "e", "", true}, {"x", "e", "", false}, {"e", "x", "", false},
		{"", "", modified, true}, {"", "", after, true}, {"", "", before, false}, {"x", "", after, false},
		{"", "e", before, true}, {"", "x", after, false}, {"", "", "yesterday", false},
	} {
		header := http.Header{}
		for name, value := range map[string]string{"If-Match": c.target, sourceMatch: c.source, sourceUnmodified: c.since} {
			if value != "" {
				header.Set(name, value)
			}
		}
		if mayCopy(header, "e", modified) != c.want {
			t.Errorf("%+v", c)
		}
	}
}

func TestRatios(t *testing.T) {
	run := func(cpu float64) measured { return measured{CPU: cpu, Items: 10} }
	// A machine that is three times slower in one round shows in no ratio.
	s := series{Runs: map[string][]measured{"D": {run(2), run(6), run(2.2), run(9)}, "A": {run(4), run(12), run(4)}}}
	if ratio, ok := s.ratio("D", "A"); !ok || ratio != 0.5 {
		t.Errorf("ratio %v", ratio)
	}
	if _, ok := s.ratio("D", "C"); ok {
		t.Error("a ratio to nothing")
	}
	for _, c := range []struct {
		values []int
		want   int
	}{{nil, 0}, {[]int{7}, 7}, {[]int{9, 1, 5}, 5}, {[]int{4, 1, 3, 2}, 3}} {
		if got := middle(c.values); got != c.want {
			t.Errorf("middle(%v) = %d", c.values, got)
		}
	}
}

func TestSteady(t *testing.T) {
	seconds := []second{{900, 500}, {100, 400}, {500, 50}, {990, 1}, {1000, 0}, {980, 4}, {12, 0}}
	sum, n := steady(seconds)
	if n != 3 || sum != (second{2970, 5}) {
		t.Errorf("steady: %+v in %d seconds", sum, n)
	}
	run := throttling{Quota: 1000, Steady: sum, Seconds: n}
	if got := run.delivered(); got != 0.99 {
		t.Errorf("delivered %v", got)
	}
	if _, n := steady(seconds[:4]); n != 0 {
		t.Errorf("a run of four seconds has %d steady ones", n)
	}
}

// TestQuota asks twice as often as the quota allows: half is served, second by
// second, and idle time buys no more than a tenth of a second.
func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quota{rate: 100}
		for range 600 {
			q.admit(time.Now())
			time.Sleep(5 * time.Millisecond)
		}
		for at, got := range q.takeSeconds() {
			if got.Served+got.Throttled != 200 || got.Served < 99 || got.Served > 111 || at > 0 && got.Served > 101 {
				t.Errorf("second %d: %+v", at, got)
			}
		}
		time.Sleep(time.Minute)
		served := 0
		for range 100 {
			if q.admit(time.Now()) {
				served++
			}
		}
		if served != 10 {
			t.Errorf("%d at once, after a minute", served)
		}
	})
}

func TestBelieve(t *testing.T) {
	for name, c := range map[string]struct {
		ratios []float64 // after each further measurement
		inTime bool
		fails  bool
		looks  int
	}{
		"as committed":          {[]float64{1}, true, false, 1},
		"just within":           {[]float64{1.149}, true, false, 1},
		"noise":                 {[]float64{1.3, 1.1}, true, false, 2},
		"dearer":                {[]float64{1.3, 1.2, 1.16}, true, true, 3},
		"dearer, and no time":   {[]float64{1.3, 1.2}, false, true, 2},
		"within, though late":   {[]float64{1.3, 1.14}, false, false, 2},
		"better than committed": {[]float64{0.2}, true, false, 1},
	} {
		looks := 0
		err := believe(1, 2, func() float64 { looks++; return c.ratios[looks-1] }, func() (bool, error) { return c.inTime, nil })
		if (err != nil) != c.fails || looks != c.looks {
			t.Errorf("%s: %v after %d looks", name, err, looks)
		}
	}
}

func TestBaselineFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "baseline.json")
	one := &series{Store: rows, Runs: map[string][]measured{"D": {{CPU: 3, Items: 1}}, "A": {{CPU: 4, Items: 1}}}}
	if err := writeBaseline(file, []*series{one}); err != nil {
		t.Fatal(err)
	}
	if got, err := readBaseline(file); err != nil || !maps.Equal(got, map[string]float64{rows: 0.75}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := readBaseline("baseline.json"); err != nil { // the committed one
		t.Error(err)
	}
}

func TestUnchunked(t *testing.T) {
	for in, want := range map[string]string{
		"4\r\nWiki\r\n5\r\npedia\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n": "Wikipedia",
		"5;chunk-signature=ab\r\nab\r\nc\r\n0;chunk-signature=cd\r\n\r\n":       "ab\r\nc",
		"0\r\n\r\n":       "",
		"ff\r\nshort\r\n": "", // what is not whole is not taken
		"-1\r\nx\r\n":     "",
	} {
		if got := string(unchunked([]byte(in))); got != want {
			t.Errorf("unchunked(%q) = %q", in, got)
		}
	}
}

func TestDifferences(t *testing.T) {
	report := func(pass, requests int, how, more string) []byte {
		return fmt.Appendf(nil, `{"pass":%d,"started":"%s","kms":{"requests":%d},"keys":[{"key":"k","slots":3,"how":%q}],"targets":[{"name":"t","keys":[{"key":"k","slots":3,"how":%q}]}]%s}`, pass, how, requests, how, how, more)
	}
	for name, c := range map[string]struct {
		other []byte
		want  []string
	}{
		"but for how":       {report(1, 900, "kms", ""), nil},
		"another pass":      {report(2, 900, "kms", ""), []string{"pass"}},
		"a note":            {report(1, 900, "kms", `,"notes":["x"]`), []string{"notes"}},
		"a count in target": {bytes.Replace(report(1, 900, "kms", ""), []byte(`"name":"t","keys":[{"key":"k","slots":3`), []byte(`"name":"t","keys":[{"key":"k","slots":4`), 1), []string{"targets"}},
	} {
		got, err := differences(report(1, 3, "header", ""), c.other)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestGoals holds figures just within and just beyond their goals against them.
func TestGoals(t *testing.T) {
	found := func(d, requests, refused, rss float64) findings {
		run := func(cpu, others float64) []measured {
			return []measured{{CPU: cpu, Items: 1000, RSS: int64(rss * (1 << 20)), Counts: counts{Requests: map[string]int64{reEncrypt: 1000, "x": int64(1000 * others)}}}}
		}
		var f findings
		for store, others := range map[string]float64{rows: requests - 1, bodies: 1 + requests, headers: 1 + requests} {
			f.series = append(f.series, &series{Store: store, Runs: map[string][]measured{"A": run(1, 0), "B": run(3.75, 0), "C": run(15, 0), "D": run(d, others)}})
		}
		f.quotas = []throttling{{Quota: 1000, Seconds: 10, Steady: second{Served: 9600, Throttled: int64(9600 * refused)}}}
		f.randoms = []throttling{{}}
		f.memory = []measured{{Items: fewItems, RSS: 100 << 20}, {Items: manyItems, RSS: int64(rss * (1 << 20))}}
		hint, exact := counts{Requests: map[string]int64{reEncrypt: int64(8_000 + 400_000*refused)}}, counts{Requests: map[string]int64{reEncrypt: passedOver + int64(refused*3000)}}
		f.second = &secondPass{Items: passedOver, Hint: measured{Items: passedOver, Counts: hint}, Exact: measured{Items: passedOver, Counts: exact}}
		return f
	}
	for _, g := range found(0.74, 1.04, 0.009, 109).goals() {
		if !g.measured || !g.reached {
			t.Errorf("not reached: %+v", g)
		}
	}
	missed := found(0.76, 1.06, 0.03, 129)
	missed.quotas[0].Steady.Served, missed.quotas[0].Lost, missed.second.Differ = 9400, 1, []string{"slots"}
	missed.series[0].Runs["D"][0].Counts.Late = 1
	for _, g := range missed.goals() {
		if !g.measured || g.reached {
			t.Errorf("reached: %+v", g)
		}
	}
	for _, g := range (findings{}).goals() {
		if g.measured || g.reached {
			t.Errorf("from nothing: %+v", g)
		}
	}
}

func TestSetting(t *testing.T) {
	of := func(pairs ...string) setting {
		return settingOf(func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		})
	}
	if s := of(); s.items < 20_000 || s.rounds < 7 || s.has(partLevers) || s.has(partProfiles) {
		t.Errorf("%+v", s)
	}
	if s := of("BENCH", "small", "UPDATE", "1", "LEVERS", "1"); !s.few || !s.small || !slices.Equal(s.parts, []string{partSeries}) {
		t.Errorf("small: %+v", s)
	}
	if s := of("BENCH", "full", "UPDATE", "1"); s.again != passedOver || !slices.Equal(s.memory, []int{fewItems, manyItems}) || !s.has(partLevers) || !s.has(partSeries) {
		t.Errorf("full: %+v", s)
	}
	if s := of("LEVERS", "1"); !slices.Equal(s.parts, []string{partLevers}) {
		t.Errorf("levers: %+v", s)
	}
	if s := of("STORES", "s3,s3-metadata", "PARTS", "series", "ITEMS", "300"); len(s.stores) != 2 || !s.partial || s.items != 300 || s.has(partAgain) {
		t.Errorf("a look: %+v", s)
	}
}
