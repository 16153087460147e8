package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// The files that UPDATE=1 writes, and those that results are compared with.
const (
	document = "docs/performance.md"
	baseline = "bench/baseline.json"
)

// tolerance is how much worse than the committed ratio a result may be.
const tolerance = 1.15

// preface and levers are the parts of the document that people write.
var (
	//go:embed preface.md
	preface string
	//go:embed levers.md
	levers string
)

func whats() map[string]string {
	return map[string]string{"A": "bare loop, tuned SDK", "B": "naive loop, default SDK", "C": "boto3, 32 threads", "D": "**rotator, complete**"}
}

// print writes the table of one series.
func (s series) print(w io.Writer) {
	fmt.Fprintf(w, "\n## %s: %d items, %d rounds\n\n", map[string]string{"dynamodb": "DynamoDB", "s3": "S3, bodies of 4 KB"}[s.Store], s.Items, len(s.Runs["D"]))
	fmt.Fprintf(w, "| | | CPU us/item | D is so much of it | items/s | requests/item | connections | of them late | peak RSS, MiB | allocations/item |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, letter := range []string{"A", "B", "C", "D"} {
		if len(s.Runs[letter]) == 0 {
			continue
		}
		ratio, _ := s.ratio("D", letter)
		allocs := "-"
		if n := s.of(letter, func(m measured) float64 { return m.Allocs }); n > 0 {
			allocs = fmt.Sprintf("%.0f", n)
		}
		fmt.Fprintf(w, "| %s | %s | %.1f | %.3f | %.0f | %.3f | %.0f | %.0f | %.0f | %s |\n", letter, whats()[letter],
			s.of(letter, measured.perItem)*1e6, ratio,
			s.of(letter, func(m measured) float64 { return float64(m.Items) / m.Wall }),
			s.of(letter, func(m measured) float64 { return float64(m.Counts.total()) / float64(m.Items) }),
			s.of(letter, func(m measured) float64 { return float64(m.Counts.Connections) }),
			s.of(letter, func(m measured) float64 { return float64(m.Counts.Late) }),
			s.of(letter, func(m measured) float64 { return float64(m.RSS) / (1 << 20) }), allocs)
	}
}

// goals says for DynamoDB what was asked for, and what was reached.
func (s series) goals(w io.Writer) {
	if s.Store != "dynamodb" {
		return
	}
	fmt.Fprintf(w, "\n| goal | reached |\n|---|---|\n")
	for _, g := range []struct {
		letter string
		most   float64
	}{{"A", 0.75}, {"B", 0.2}, {"C", 0.05}} {
		if ratio, ok := s.ratio("D", g.letter); ok {
			fmt.Fprintf(w, "| D at most %.2f of the CPU per item of %s | %s: %.3f |\n", g.most, g.letter, yes(ratio <= g.most), ratio)
		}
	}
	requests := s.of("D", func(m measured) float64 { return float64(m.Counts.total()) / float64(m.Items) })
	fmt.Fprintf(w, "| at most 1.05 requests per item | %s: %.3f |\n", yes(requests <= 1.05), requests)
	late := s.of("D", func(m measured) float64 { return float64(m.Counts.Late) })
	fmt.Fprintf(w, "| no new connections after a tenth of the items | %s: %.0f |\n", yes(late == 0), late)
}

func yes(reached bool) string {
	if reached {
		return "yes"
	}
	return "**no**"
}

// conclude compares with the committed ratios, and writes what UPDATE asks for.
func (l *lab) conclude(s setting, all []series) error {
	update := os.Getenv("UPDATE") != ""
	ratios := map[string]float64{}
	for _, one := range all {
		ratios[one.Store], _ = one.ratio("D", "A")
	}
	if update {
		text, err := json.MarshalIndent(ratios, "", "  ")
		if err == nil {
			err = os.WriteFile(baseline, append(text, '\n'), 0o644)
		}
		if err != nil || s.few {
			return err
		}
		return l.document(s, all)
	}
	return compare(ratios)
}

// compare fails when a ratio is worse than the committed one by more than the
// tolerance.
func compare(ratios map[string]float64) error {
	text, err := os.ReadFile(baseline)
	if err != nil {
		return err
	}
	committed := map[string]float64{}
	if err := json.Unmarshal(text, &committed); err != nil {
		return fmt.Errorf("%s: %w", baseline, err)
	}
	var errs []error
	for store, ratio := range ratios {
		if was, ok := committed[store]; ok && ratio > was*tolerance {
			errs = append(errs, fmt.Errorf("%s: D costs %.3f of A, and %.3f is committed (%s)", store, ratio, was, baseline))
		}
	}
	return errors.Join(errs...)
}

// document writes docs/performance.md.
func (l *lab) document(s setting, all []series) error {
	var out bytes.Buffer
	fmt.Fprintf(&out, "<!-- Written by `UPDATE=1 make bench`; edit bench/preface.md and bench/levers.md instead. -->\n%s\n", preface)
	fmt.Fprintf(&out, "Measured %s on %d x %s, %s, %s, %s.\n", time.Now().UTC().Format("2 January 2006"), runtime.NumCPU(), processor(), kernel(), runtime.Version(), versions())
	for _, one := range all {
		one.print(&out)
		one.goals(&out)
	}
	if err := l.memory(&out, s); err != nil {
		return err
	}
	if err := l.profiles(&out); err != nil {
		return err
	}
	fmt.Fprintf(&out, "\n%s", levers)
	return os.WriteFile(document, out.Bytes(), 0o644)
}

// memory measures how the peak grows with the number of items; BENCH=full goes to
// five million, which takes long.
func (l *lab) memory(w io.Writer, s setting) error {
	sizes := []int{100_000}
	if os.Getenv("BENCH") == "full" {
		sizes = append(sizes, 5_000_000)
	}
	fmt.Fprintf(w, "\n## Memory\n\n| items | peak RSS, MiB |\n|---|---|\n")
	for _, items := range sizes {
		m, err := l.run(l.contestants(true)[1], "dynamodb", items)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "| %d | %.0f |\n", items, float64(m.RSS)/(1<<20))
	}
	if len(sizes) == 1 {
		fmt.Fprintf(w, "\nFive million items are measured with `BENCH=full`.\n")
	}
	return nil
}

// profiles builds rotator with its profile, and shows where one run of each store
// spent its time.
func (l *lab) profiles(w io.Writer) error {
	profiled := *l
	profiled.rotator = l.rotator + "-profile"
	profiled.extra = append(profiled.extra, "ROTATOR_PROFILE="+l.dir)
	if out, err := exec.Command("go", "build", "-tags", "profile", "-o", profiled.rotator, "./cmd/rotator").CombinedOutput(); err != nil {
		return fmt.Errorf("build rotator with its profile: %w\n%s", err, out)
	}
	fmt.Fprintf(w, "\n## Where the time goes\n")
	for _, store := range []string{"dynamodb", "s3"} {
		m, err := profiled.run(profiled.contestants(true)[1], store, 20_000)
		if err != nil {
			return err
		}
		out, err := exec.Command("go", "tool", "pprof", "-top", "-nodecount", "15", profiled.rotator, l.dir+"/cpu.prof").Output()
		if err != nil {
			return fmt.Errorf("read the profile: %w", err)
		}
		_, table, _ := strings.Cut(string(out), "Showing")
		fmt.Fprintf(w, "\n%s, %.0f allocations per item:\n\n```\nShowing%s```\n", store, m.Allocs, table)
	}
	return nil
}

func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, ok := strings.Cut(string(text), "model name")
	if !ok {
		return runtime.GOARCH
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strings.Join(strings.Fields(strings.Trim(line, "\t :")), " ")
}

func kernel() string {
	out, err := exec.Command("uname", "-sr").Output()
	if err != nil {
		return runtime.GOOS
	}
	return strings.TrimSpace(string(out))
}

// versions are those of the SDKs.
func versions() string {
	text := "aws-sdk-go-v2 unknown"
	if out, err := exec.Command("go", "list", "-m", "github.com/aws/aws-sdk-go-v2", "github.com/aws/aws-sdk-go-v2/service/kms").Output(); err == nil {
		text = strings.Join(strings.Split(strings.ReplaceAll(strings.TrimSpace(string(out)), "github.com/aws/", ""), "\n"), ", ")
	}
	if out, err := exec.Command("python3", "-c", "import boto3; print('boto3', boto3.__version__)").Output(); err == nil {
		text += ", " + strings.TrimSpace(string(out))
	}
	return text
}
