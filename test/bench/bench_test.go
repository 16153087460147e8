package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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

// confirming is how often a run of rotator asks KMS whether its first new ciphertext can
// be read under the destination key.
const confirming = 1

// asks is how many ReEncrypt requests a client sends to move n slots.
func asks(letter string, n int64) int64 {
	if letter == ours {
		return n + confirming
	}
	return n
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
	s := setting{items: 500, given: true, rounds: 1, few: true, stores: []string{rows, bodies, headers}, parts: []string{partSeries, partAgain}, again: 500}
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
			if m.CPU <= 0 || m.RSS <= 0 || m.Counts.reEncrypts() != asks(letter, 500) ||
				m.others() < least {
				t.Errorf("%s over %s: %+v", letter, one.Store, m.Counts)
			}
		}
	}
	if p := found.second; len(p.Differ) > 0 || !asksEach(p.Exact) ||
		p.First.Counts.reEncrypts() != asks(ours, 500) {
		t.Errorf("a second pass: %v, %v, %v", p.Differ, p.Hint.Counts.Requests, p.Exact.Counts.Requests)
	}
	run, err := l.throttled(500, 10_000, 0, 0.2)
	if err != nil {
		t.Fatal(err)
	}
	if run.Lost+run.Failed != 0 || run.Faults != 0 || run.All.Served != asks(ours, 500) ||
		run.All.Throttled == 0 {
		t.Errorf("under random throttles: %+v", run)
	}
	l.checkAlike(t)
	if err := l.manyWorkers(&out, 200); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"## DynamoDB", titleOf(bodies), titleOf(headers), "## A pass over slots that are current", "## Goals", "## Workers", "| 64 | ", "| not given | "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in what is printed:\n%s", want, &out)
		}
	}
}

// checkAlike moves slots of which ten each are alike, with one question for ten of them,
// and, with that off, with one for each.
func (l *lab) checkAlike(t *testing.T) {
	for _, lever := range l.pull(500) {
		if !slices.Contains(lever.trial.stub, "-same") {
			continue
		}
		for want, trial := range map[int64]trial{50: lever.trial, 500: lever.without(lever.trial)} {
			m, err := l.run(lever.client, trial)
			if n := m.Counts.reEncrypts(); err != nil || n != asks(lever.client.letter, want) {
				t.Errorf("%v: %d questions, want %d: %v", trial, n, want, err)
			}
		}
		return
	}
	t.Error("no lever is about slots that are alike")
}

// The bare loop, which shows two levers, profiles itself as rotator does.
func TestProfileOfLoop(t *testing.T) {
	if testing.Short() {
		t.Skip("it reads profiles with pprof")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{self: self, dir: t.TempDir(), profiles: t.TempDir()}
	p, err := l.profile(l.bare(), self, trial{store: rows, items: 300}, 8)
	if err != nil {
		t.Fatal(err)
	}
	if p.allocs < 50 || !strings.Contains(p.cpu, "Showing nodes") || strings.Count(p.allocations, "\n") < 5 {
		t.Errorf("%.0f allocations per item\n%s\n%s", p.allocs, p.cpu, p.allocations)
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

// What a trial says of workers is what the job file says.
func TestJobFile(t *testing.T) {
	l := &lab{dir: t.TempDir()}
	for workers, want := range map[int]string{0: "\nworkers: 64\n", 7: "\nworkers: 7\n", automatic: ""} {
		if err := l.writeJob(trial{store: rows, workers: workers}); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(l.jobFile()); err != nil || !strings.HasSuffix(string(text), want) || want == "" && strings.Contains(string(text), "workers") {
			t.Errorf("%d workers: %v\n%s", workers, err, text)
		}
	}
}

// All contestants but the slowest do the same work, however much rotator is given.
func TestContestants(t *testing.T) {
	for _, store := range []string{rows, bodies, headers} {
		for _, c := range (&lab{}).contestants(store, false) {
			if c.letter != "C" && c.most > 0 || c.letter == "C" && (c.most != slowly(store) || !strings.Contains(c.what, fmt.Sprint(c.most))) {
				t.Errorf("%s over %s takes %d items at most, and is called %q", c.letter, store, c.most, c.what)
			}
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

// The sentence on a key names when the pass began to read; nothing else of it may differ.
func TestDifferencesOfSentences(t *testing.T) {
	report := func(second int, text string) []byte {
		return fmt.Appendf(nil, `{"as_of":"2026-11-29T12:00:%02d.5Z","source_keys":[{"key":"k",`+
			`"sentence":"%s, as of 2026-11-29T12:00:%02dZ"}]}`, second, text, second)
	}
	for text, want := range map[string][]string{"yes": nil, "no": {"source_keys"}} {
		got, err := differences(report(1, "yes"), report(2, text))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// given is the setting of an environment: name, value, name, value.
func given(pairs ...string) setting {
	return settingOf(func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	})
}

// A look at one thing never takes the place of a whole bench.
func TestKeepable(t *testing.T) {
	for _, name := range []string{"PARTS", "STORES", "ITEMS", "ROUNDS", "QUOTA", "SECONDS", "FEW", "ROTATOR", "ROTATOR_ENV"} {
		if err := given("UPDATE", "1", name, "7").keepable(); err == nil || !strings.Contains(err.Error(), "leave "+name+" out") {
			t.Errorf("with %s: %v", name, err)
		}
		if err := given(name, "7").keepable(); err != nil {
			t.Errorf("%s, and nothing to keep: %v", name, err)
		}
		small := given("UPDATE", "1", "BENCH", "small", name, "7").keepable()
		if needed := name == "FEW" || name == "ROUNDS"; (small == nil) != needed {
			t.Errorf("%s, for the ratios of CI: %v", name, small)
		}
	}
	for _, pairs := range [][]string{{"UPDATE", "1"}, {"UPDATE", "1", "LEVERS", "1"}, {"UPDATE", "1", "LEVERS", "0", "BENCH", "full"}, {"UPDATE", "1", "BENCH", "small"}} {
		if err := given(pairs...).keepable(); err != nil {
			t.Errorf("%v: %v", pairs, err)
		}
	}
}

func TestSetting(t *testing.T) {
	of := given
	if s := of(); s.itemsOf(bodies) < 20_000 || s.itemsOf(rows) < 20_000 || s.rounds < 7 || s.has(partLevers) || s.has(partProfiles) {
		t.Errorf("%+v", s)
	}
	if s := of("BENCH", "small", "UPDATE", "1", "LEVERS", "1"); !s.few || !s.small || !slices.Equal(s.parts, []string{partSeries}) {
		t.Errorf("small: %+v", s)
	}
	if s := of("BENCH", "full"); s.again != passedOver || s.has(partLevers) {
		t.Errorf("full: %+v", s)
	}
	if s := of("UPDATE", "1"); s.again != passedOver || !slices.Equal(s.memory, []int{fewItems, manyItems}) || !s.has(partLevers) || !s.has(partSeries) {
		t.Errorf("full: %+v", s)
	}
	if s := of("LEVERS", "0", "UPDATE", "1"); s.has(partProfiles) || s.has(partLevers) || !s.has(partSeries) || !s.full {
		t.Errorf("without levers: %+v", s)
	}
	if s := of("LEVERS", "1", "UPDATE", "1"); !slices.Equal(s.parts, []string{partWorkers, partProfiles, partLevers}) {
		t.Errorf("levers: %+v", s)
	}
	if s := of("STORES", "s3,s3-metadata", "PARTS", "series", "ITEMS", "300"); len(s.stores) != 2 || !s.partial || s.itemsOf(rows) != 300 || s.has(partAgain) {
		t.Errorf("a look: %+v", s)
	}
}

// Levers can be written anew without the figures, and those without the levers, and each
// is there as soon as it is measured.
func TestKeep(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	whole := setting{update: true, parts: []string{partSeries, partLevers}}
	figures := setting{update: true, parts: []string{partSeries}}
	levers := setting{update: true, parts: []string{partLevers}}
	for _, s := range []setting{figures, levers} {
		if _, err := s.pageBefore(file); err == nil {
			t.Error("a part can be kept where there is no page")
		}
	}
	keep := func(s setting, heading, figures, levers string) string {
		p, err := s.pageBefore(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range [][2]string{{figures, ""}, {"", levers}} {
			if err := s.keep(&p, file, heading, part[0], part[1]); err != nil {
				t.Fatal(err)
			}
			if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), part[0]) || !strings.Contains(string(text), part[1]) {
				t.Errorf("%v, %q is not in the page:\n%s", err, part, text)
			}
		}
		text, _ := os.ReadFile(file) // read before
		return string(text)
	}
	first := keep(whole, "heading 1\n", "figures 1\n", "levers 1\n")
	want := strings.Replace(first, "heading 1\nlevers 1\n", "heading 2\nlevers 2\n", 1)
	if got := keep(levers, "heading 2\n", "", "levers 2\n"); got != want || want == first {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	want = strings.Replace(want, "heading 1\nfigures 1\n", "heading 3\nfigures 3\n", 1)
	if got := keep(figures, "heading 3\n", "figures 3\n", ""); got != want || strings.Count(want, "3") < 2 {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if err := (setting{parts: whole.parts}).keep(&page{}, file, "heading 4\n", "figures 4\n", ""); err != nil || keep(levers, "heading 2\n", "", "levers 2\n") != want {
		t.Errorf("%v, or something was written without UPDATE=1", err)
	}
	// Until the levers of a whole bench are measured, those that were there stay.
	want = strings.Replace(want, "heading 3\nfigures 3\n", "heading 5\nfigures 5\n", 1)
	if got := keep(whole, "heading 5\n", "figures 5\n", ""); got != want || strings.Count(want, "levers 2") != 1 {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if err := os.WriteFile(file, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := whole.pageBefore(file); err != nil || p.levers != "" {
		t.Errorf("a whole bench over something else: %+v, %v", p, err)
	}
	if _, err := levers.pageBefore(file); err == nil {
		t.Error("something else passes for the page")
	}
}
