package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

const (
	// document is the page that UPDATE=1 writes.
	document = "docs/performance.md"
	// profileFile receives the profiles, the requests by operation and the output of the
	// benchmarks. It is not committed.
	profileFile = "bin/bench-profile.txt"
	// generated is the first line of the page.
	generated = "<!-- Written by `UPDATE=1 make bench`: edit test/bench/preface.md and " +
		"test/bench/ablations.md. -->\n"
)

// preface and ablationsText are the parts of the page that are not generated. The conclusions in
// the preface must be compared with the new figures after each UPDATE=1.
var (
	//go:embed preface.md
	preface string
	//go:embed ablations.md
	ablationsText string
)

// ablationsFrom separates the two parts of the page. ABLATIONS=1 writes the part after it,
// and ABLATIONS=0 the part before it.
const ablationsFrom = "\n<!-- `UPDATE=1 ABLATIONS=1 make bench` writes the rest of the page. " +
	"-->\n\n"

// runBench measures the parts that the setting selects. It prints all tables to stdout, and
// writes each part of the page as soon as the part is complete.
func runBench(s setting) error {
	if err := s.checkUpdate(); err != nil {
		return err
	}
	p, err := s.pageBefore(document)
	if err != nil {
		return err
	}
	h, err := newHarness()
	if err != nil {
		return err
	}
	defer h.close()
	raw, err := createProfileFile()
	if err != nil {
		return err
	}
	defer raw.Close() // it is not evidence
	h.raw = raw
	heading := fmt.Sprintf("Measured %s on %d x %s, %s, %s, %s, at commit %s.\n",
		h.began.UTC().Format("2 January 2006"), runtime.NumCPU(), processor(), kernel(),
		runtime.Version(), versions(), commit())
	fmt.Print(heading)
	return h.runParts(s, &p, heading)
}

// runParts measures and writes both parts of the page, or compares with the baseline.
func (h *harness) runParts(s setting, p *page, heading string) error {
	var figures, ablations bytes.Buffer
	found, err := h.measure(io.MultiWriter(os.Stdout, &figures), s)
	if err != nil {
		return err
	}
	switch {
	case s.small && s.update:
		return writeBaseline(baseline, found.series)
	case s.small:
		return h.checkBaseline(found.series, s.rounds)
	}
	if err := s.writePage(p, document, heading, figures.String(), ""); err != nil {
		return err
	}
	if err := h.measureAblations(io.MultiWriter(os.Stdout, &ablations), s); err != nil {
		return err
	}
	if err := s.writePage(p, document, heading, "", ablations.String()); err != nil {
		return err
	}
	if s.partial || s.given || s.few {
		return nil // the thresholds apply to a complete bench
	}
	return missed(found.thresholds())
}

// createProfileFile creates profileFile and its directory.
func createProfileFile() (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(profileFile), 0o755); err != nil {
		return nil, err
	}
	return os.Create(profileFile)
}

// page holds the two parts of the document.
type page struct{ figures, ablations string }

// pageBefore reads the parts of the document that this bench does not measure, or has not
// measured yet. It fails before any measurement if the document has no such part.
func (s setting) pageBefore(file string) (p page, err error) {
	if !s.update || s.small {
		return p, nil
	}
	whole := s.has(partSeries) && s.has(partAblations)
	old, err := os.ReadFile(file)
	if whole && errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	var ok bool
	if p.figures, p.ablations, ok = strings.Cut(string(old), ablationsFrom); !ok && !whole {
		return p, fmt.Errorf("%s has no line at which the ablations begin; "+
			"write the whole page with `UPDATE=1 make bench`", file)
	}
	return p, nil
}

// writePage writes the document with a new part under a heading, if UPDATE=1. An empty part
// leaves the previous one unchanged.
func (s setting) writePage(p *page, file, heading, figures, ablations string) error {
	if !s.update || figures == "" && ablations == "" {
		return nil
	}
	if figures != "" {
		p.figures = generated + preface + "\n" + heading + figures
	}
	if ablations != "" {
		p.ablations = heading + ablations + "\n" + ablationsText
	}
	return os.WriteFile(file, []byte(p.figures+ablationsFrom+p.ablations), 0o644)
}

// measure measures the parts for which there are thresholds.
func (h *harness) measure(w io.Writer, s setting) (found findings, err error) {
	if s.has(partSeries) {
		if found.series, err = h.allSeries(s); err != nil {
			return found, err
		}
		printSeries(w, found.series)
		for _, one := range found.series {
			one.printRequests(h.raw)
		}
	}
	if s.has(partQuota) {
		if found.quotas, err = h.quotas(w, s.quotas, s.seconds); err != nil {
			return found, err
		}
		if found.randoms, err = h.randoms(w, s.items); err != nil {
			return found, err
		}
	}
	if s.has(partMemory) {
		if found.memory, err = h.memory(w, s.memory); err != nil {
			return found, err
		}
	}
	if s.has(partRerun) {
		second, err := h.rerun(w, s.rerun)
		if err != nil {
			return found, err
		}
		found.second = &second
	}
	list := found.thresholds()
	if !s.small && slices.ContainsFunc(list, func(t threshold) bool { return t.measured }) {
		printThresholds(io.MultiWriter(os.Stdout, h.raw), list)
		printMet(w, list)
	}
	return found, nil
}

// measureAblations measures the numbers of workers and the ablations. Profiles go to
// profileFile.
func (h *harness) measureAblations(w io.Writer, s setting) error {
	if s.has(partWorkers) {
		if err := h.compareWorkers(w, 3*s.items); err != nil {
			return err
		}
	}
	if s.has(partProfiles) {
		p, err := h.profiled()
		if err != nil {
			return err
		}
		if err := p.profileStores(s.stores, s.items); err != nil {
			return err
		}
	}
	if s.has(partAblations) {
		return h.ablate(w, s.items, s.rounds)
	}
	return nil
}
