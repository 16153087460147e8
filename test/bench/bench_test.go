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

// TestMain runs the tests, or a stub or loop if the harness started this binary as one.
func TestMain(m *testing.M) {
	kinds := []string{kindStub, kindMinimal, kindSimple}
	if len(os.Args) > 1 && slices.Contains(kinds, os.Args[1]) {
		main()
		return
	}
	os.Exit(m.Run())
}

// confirming is the number of requests by which a run of rotator confirms that its first new
// ciphertext can be decrypted under the destination key.
const confirming = 1

// requestsFor returns the number of ReEncrypt requests that a client sends to move n slots.
func requestsFor(letter string, n int64) int64 {
	if letter == letterRotator {
		return n + confirming
	}
	return n
}

func smallBenchCases() []string {
	return []string{
		titleOf(rows), titleOf(bodies), titleOf(headers), "## A pass over current slots",
		"thresholds of", "## Workers", "| 64 | ", "| not set | ",
	}
}

// TestSmallBench runs all parts except the long ones once, over few items.
func TestSmallBench(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds rotator and runs it")
	}
	h, err := newHarness()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.close)
	s := setting{
		items:  500,
		given:  true,
		rounds: 1,
		few:    true,
		stores: []string{rows, bodies, headers},
		parts:  []string{partSeries, partRerun},
		rerun:  500,
	}
	var out bytes.Buffer
	found, err := h.measure(&out, s)
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
			if m.CPU <= 0 || m.RSS <= 0 || m.Counts.reEncrypts() != requestsFor(letter, 500) ||
				m.others() < least {
				t.Errorf("%s over %s: %+v", letter, one.Store, m.Counts)
			}
		}
	}
	if p := found.second; len(p.Differ) > 0 || !callsEach(p.Exact) ||
		p.First.Counts.reEncrypts() != requestsFor(letterRotator, 500) {
		t.Errorf("a second pass: %v, %v, %v",
			p.Differ, p.Hint.Counts.Requests, p.Exact.Counts.Requests)
	}
	run, err := h.throttled(500, 10_000, 0, 0.2)
	if err != nil {
		t.Fatal(err)
	}
	if run.Lost+run.Failed != 0 || run.Faults != 0 ||
		run.All.Served != requestsFor(letterRotator, 500) ||
		run.All.Throttled == 0 {
		t.Errorf("under random throttles: %+v", run)
	}
	h.checkAlike(t)
	if err := h.compareWorkers(&out, 200); err != nil {
		t.Error(err)
	}
	for _, want := range smallBenchCases() {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in the output:\n%s", want, &out)
		}
	}
}

// checkAlike moves slots of which ten each are equal: with one request for ten of them, and with
// the optimisation turned off, with one for each.
func (h *harness) checkAlike(t *testing.T) {
	for _, ablation := range h.ablations(500) {
		if !slices.Contains(ablation.scenario.stub, "-same") {
			continue
		}
		for want, scenario := range map[int64]scenario{
			50:  ablation.scenario,
			500: ablation.without(ablation.scenario),
		} {
			m, err := h.run(ablation.client, scenario)
			if n := m.Counts.reEncrypts(); err != nil ||
				n != requestsFor(ablation.client.letter, want) {
				t.Errorf("%v: %d requests, want %d: %v", scenario, n, want, err)
			}
		}
		return
	}
	t.Error("there is no ablation for equal slots")
}

// TestProfileOfLoop: the minimal loop, with which two optimisations are measured, writes profiles
// as rotator does.
func TestProfileOfLoop(t *testing.T) {
	if testing.Short() {
		t.Skip("it reads profiles with pprof")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{self: self, dir: t.TempDir(), profiles: t.TempDir()}
	p, err := h.profile(h.minimalLoop(), self, scenario{store: rows, items: 300}, 8)
	if err != nil {
		t.Fatal(err)
	}
	if p.allocs < 50 || !strings.Contains(p.cpu, "Showing nodes") ||
		strings.Count(p.allocations, "\n") < 5 {
		t.Errorf("%.0f allocations per item\n%s\n%s", p.allocs, p.cpu, p.allocations)
	}
}

func TestRatios(t *testing.T) {
	run := func(cpu float64) measured { return measured{CPU: cpu, Items: 10} }
	// A round in which the machine is three times slower does not change the ratio.
	s := series{Runs: map[string][]measured{
		"D": {run(2), run(6), run(2.2), run(9)},
		"A": {run(4), run(12), run(4)},
	}}
	if ratio, ok := s.ratio("D", "A"); !ok || ratio != 0.5 {
		t.Errorf("ratio %v", ratio)
	}
	if _, ok := s.ratio("D", "C"); ok {
		t.Error("there is a ratio without runs")
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

// TestJobFile: the job file has the workers of the scenario.
func TestJobFile(t *testing.T) {
	h := &harness{dir: t.TempDir()}
	for workers, want := range map[int]string{
		0:         "\nworkers: 64\n",
		7:         "\nworkers: 7\n",
		automatic: "",
	} {
		if err := h.writeJob(scenario{store: rows, workers: workers}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(h.jobFile())
		if err != nil || !strings.HasSuffix(string(text), want) ||
			want == "" && strings.Contains(string(text), "workers") {
			t.Errorf("%d workers: %v\n%s", workers, err, text)
		}
	}
}

// TestCandidates: all candidates except the slowest process the same number of items.
func TestCandidates(t *testing.T) {
	for _, store := range []string{rows, bodies, headers} {
		for _, c := range (&harness{}).candidates(store, false) {
			want := 0
			if c.letter == "C" {
				want = slowItems(store)
			}
			if c.most != want || want > 0 && !strings.Contains(c.what, fmt.Sprint(want)) {
				t.Errorf("%s over %s processes at most %d items, and its name is %q",
					c.letter, store, c.most, c.what)
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

func TestWithinTolerance(t *testing.T) {
	for name, c := range map[string]struct {
		ratios []float64 // after each further measurement
		inTime bool
		fails  bool
		calls  int
	}{
		"as committed":                        {[]float64{1}, true, false, 1},
		"just within the tolerance":           {[]float64{1.149}, true, false, 1},
		"noise":                               {[]float64{1.3, 1.1}, true, false, 2},
		"worse":                               {[]float64{1.3, 1.2, 1.16}, true, true, 3},
		"worse, without time for more rounds": {[]float64{1.3, 1.2}, false, true, 2},
		"within the tolerance at last":        {[]float64{1.3, 1.14}, false, false, 2},
		"better than committed":               {[]float64{0.2}, true, false, 1},
	} {
		calls := 0
		ratio := func() float64 {
			calls++
			return c.ratios[calls-1]
		}
		more := func() (bool, error) { return c.inTime, nil }
		err := withinTolerance(1, 2, ratio, more)
		if (err != nil) != c.fails || calls != c.calls {
			t.Errorf("%s: %v after %d ratios", name, err, calls)
		}
	}
}

func TestBaselineFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "baseline.json")
	one := &series{
		Store: rows,
		Runs:  map[string][]measured{"D": {{CPU: 3, Items: 1}}, "A": {{CPU: 4, Items: 1}}},
	}
	if err := writeBaseline(file, []*series{one}); err != nil {
		t.Fatal(err)
	}
	got, err := readBaseline(file)
	if err != nil || !maps.Equal(got, map[string]float64{rows: 0.75}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := readBaseline("baseline.json"); err != nil { // the committed one
		t.Error(err)
	}
}

func TestDifferences(t *testing.T) {
	report := func(pass, requests int, how, more string) []byte {
		return fmt.Appendf(nil, `{"pass":%d,"started":"%s","kms":{"requests":%d},`+
			`"keys":[{"key":"k","slots":3,"how":%q}],`+
			`"targets":[{"name":"t","keys":[{"key":"k","slots":3,"how":%q}]}]%s}`,
			pass, how, requests, how, how, more)
	}
	for name, c := range map[string]struct {
		other []byte
		want  []string
	}{
		"except how":   {report(1, 900, "kms", ""), nil},
		"another pass": {report(2, 900, "kms", ""), []string{"pass"}},
		"a note":       {report(1, 900, "kms", `,"notes":["x"]`), []string{"notes"}},
		"a count in target": {bytes.Replace(report(1, 900, "kms", ""),
			[]byte(`"name":"t","keys":[{"key":"k","slots":3`),
			[]byte(`"name":"t","keys":[{"key":"k","slots":4`), 1), []string{"targets"}},
	} {
		got, err := differences(report(1, 3, "header", ""), c.other)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestDifferencesOfSentences: the sentences on convergence and on a key contain the time at which
// the pass began to read. Nothing else of them may differ.
func TestDifferencesOfSentences(t *testing.T) {
	report := func(second int, text string) []byte {
		return fmt.Appendf(nil, `{"as_of":"2026-11-29T12:00:%02d.5Z",`+
			`"convergence":"%s, as of 2026-11-29T12:00:%02[1]dZ","source_keys":[{"key":"k",`+
			`"sentence":"%[2]s, as of 2026-11-29T12:00:%02[1]dZ"}]}`, second, text)
	}
	differ := []string{"convergence", "source_keys"}
	for text, want := range map[string][]string{"yes": nil, "no": differ} {
		got, err := differences(report(1, "yes"), report(2, text))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// given returns the setting of an environment: name, value, name, value.
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

// TestCheckUpdate: a partial bench never replaces the page.
func TestCheckUpdate(t *testing.T) {
	for _, name := range overrides() {
		err := given("UPDATE", "1", name, "7").checkUpdate()
		if err == nil || !strings.Contains(err.Error(), "leave "+name+" out") {
			t.Errorf("with %s: %v", name, err)
		}
		if err := given(name, "7").checkUpdate(); err != nil {
			t.Errorf("%s without UPDATE: %v", name, err)
		}
		small := given("UPDATE", "1", "BENCH", "small", name, "7").checkUpdate()
		if needed := name == "FEW" || name == "ROUNDS"; (small == nil) != needed {
			t.Errorf("%s, for the ratios of CI: %v", name, small)
		}
	}
	for _, pairs := range [][]string{
		{"UPDATE", "1"},
		{"UPDATE", "1", "ABLATIONS", "1"},
		{"UPDATE", "1", "ABLATIONS", "0", "BENCH", "full"},
		{"UPDATE", "1", "BENCH", "small"},
	} {
		if err := given(pairs...).checkUpdate(); err != nil {
			t.Errorf("%v: %v", pairs, err)
		}
	}
}

func TestSetting(t *testing.T) {
	of := given
	if s := of(); s.itemsOf(bodies) < 20_000 || s.itemsOf(rows) < 20_000 || s.rounds < 7 ||
		s.has(partAblations) || s.has(partProfiles) {
		t.Errorf("%+v", s)
	}
	s := of("BENCH", "small", "UPDATE", "1", "ABLATIONS", "1")
	if !s.few || !s.small || !slices.Equal(s.parts, []string{partSeries}) {
		t.Errorf("small: %+v", s)
	}
	if s := of("BENCH", "full"); s.rerun != passedOver || s.has(partAblations) {
		t.Errorf("full: %+v", s)
	}
	if s := of("UPDATE", "1"); s.rerun != passedOver ||
		!slices.Equal(s.memory, []int{fewItems, manyItems}) ||
		!s.has(partAblations) || !s.has(partSeries) {
		t.Errorf("full: %+v", s)
	}
	if s := of("ABLATIONS", "0", "UPDATE", "1"); s.has(partProfiles) ||
		s.has(partAblations) || !s.has(partSeries) || !s.full {
		t.Errorf("without ablations: %+v", s)
	}
	s = of("ABLATIONS", "1", "UPDATE", "1")
	if !slices.Equal(s.parts, []string{partWorkers, partProfiles, partAblations}) {
		t.Errorf("ablations: %+v", s)
	}
	s = of("STORES", "s3,s3-metadata", "PARTS", "series", "ITEMS", "300")
	if len(s.stores) != 2 || !s.partial || s.itemsOf(rows) != 300 || s.has(partRerun) {
		t.Errorf("a partial bench: %+v", s)
	}
}

// TestWritePage: each part of the page can be written without the other, and is in the page as
// soon as it is measured.
func TestWritePage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	whole := setting{update: true, parts: []string{partSeries, partAblations}}
	figures := setting{update: true, parts: []string{partSeries}}
	ablations := setting{update: true, parts: []string{partAblations}}
	for _, s := range []setting{figures, ablations} {
		if _, err := s.pageBefore(file); err == nil {
			t.Error("a part can be written without a page")
		}
	}
	keep := func(s setting, heading, figures, ablations string) string {
		p, err := s.pageBefore(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range [][2]string{{figures, ""}, {"", ablations}} {
			if err := s.writePage(&p, file, heading, part[0], part[1]); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(file)
			if err != nil || !strings.Contains(string(text), part[0]) ||
				!strings.Contains(string(text), part[1]) {
				t.Errorf("%v, %q is not in the page:\n%s", err, part, text)
			}
		}
		text, _ := os.ReadFile(file) // read before
		return string(text)
	}
	first := keep(whole, "heading 1\n", "figures 1\n", "ablations 1\n")
	want := strings.Replace(first, "heading 1\nablations 1\n", "heading 2\nablations 2\n", 1)
	if got := keep(ablations, "heading 2\n", "", "ablations 2\n"); got != want || want == first {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	want = strings.Replace(want, "heading 1\nfigures 1\n", "heading 3\nfigures 3\n", 1)
	got := keep(figures, "heading 3\n", "figures 3\n", "")
	if got != want || strings.Count(want, "3") < 2 {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	err := (setting{parts: whole.parts}).
		writePage(&page{}, file, "heading 4\n", "figures 4\n", "")
	if err != nil || keep(ablations, "heading 2\n", "", "ablations 2\n") != want {
		t.Errorf("%v, or something was written without UPDATE=1", err)
	}
	// Until the ablations of a complete bench are measured, the previous ones stay.
	want = strings.Replace(want, "heading 3\nfigures 3\n", "heading 5\nfigures 5\n", 1)
	got = keep(whole, "heading 5\n", "figures 5\n", "")
	if got != want || strings.Count(want, "ablations 2") != 1 {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if err := os.WriteFile(file, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := whole.pageBefore(file); err != nil || p.ablations != "" {
		t.Errorf("a complete bench over another file: %+v, %v", p, err)
	}
	if _, err := ablations.pageBefore(file); err == nil {
		t.Error("another file is accepted as the page")
	}
}

// TestPageIsShort: the committed page is what a reader needs; everything else is in profileFile.
func TestPageIsShort(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", document))
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(text), "\n"); lines > 150 {
		t.Errorf("%s has %d lines, want at most 150", document, lines)
	}
	if !strings.HasPrefix(string(text), generated+preface) ||
		!strings.HasSuffix(string(text), ablationsText) {
		t.Errorf("%s was not written with the present preface.md and ablations.md", document)
	}
}
