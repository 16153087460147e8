package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
)

// document is what UPDATE=1 writes.
const document = "docs/performance.md"

// preface and prose are the parts of the document that people write.
var (
	//go:embed preface.md
	preface string
	//go:embed ablations.md
	prose string
)

// leversFrom is where in the document the part begins that LEVERS=1 writes, and LEVERS=0
// leaves alone.
const leversFrom = "\n<!-- From here on written by `UPDATE=1 LEVERS=1 make bench` as well. -->\n\n"

// compete measures what the environment asks for. All of it goes to stdout as it
// comes, and each part into the document when it is whole.
func compete(s setting) error {
	if err := s.keepable(); err != nil {
		return err
	}
	p, err := s.pageBefore(document)
	if err != nil {
		return err
	}
	l, err := newLab()
	if err != nil {
		return err
	}
	defer l.close()
	var figures, reasons bytes.Buffer
	heading := fmt.Sprintf("Measured %s on %d x %s, %s, %s, %s, at commit %s.\n", l.began.UTC().Format("2 January 2006"), runtime.NumCPU(), processor(), kernel(), runtime.Version(), versions(), commit())
	fmt.Print(heading)
	found, err := l.measure(io.MultiWriter(os.Stdout, &figures), s)
	if err != nil {
		return err
	}
	switch {
	case s.small && s.update:
		return writeBaseline(baseline, found.series)
	case s.small:
		return l.guard(found.series, s.rounds)
	}
	if err := s.keep(&p, document, heading, figures.String(), ""); err != nil {
		return err
	}
	if err := l.explain(io.MultiWriter(os.Stdout, &reasons), s); err != nil {
		return err
	}
	if err := s.keep(&p, document, heading, "", reasons.String()); err != nil {
		return err
	}
	if s.partial || s.given || s.few {
		return nil // a look says too little about goals
	}
	return missed(found.goals())
}

// page is the document: the figures, and what lies behind them.
type page struct{ figures, levers string }

// pageBefore is the document as it is, for what of it is not measured anew, or not yet.
// Where a part of it stays, it turns out before the measurements that there is none.
func (s setting) pageBefore(file string) (p page, err error) {
	if !s.update || s.small {
		return p, nil
	}
	whole := s.has(partSeries) && s.has(partLevers)
	old, err := os.ReadFile(file)
	if whole && errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	var ok bool
	if p.figures, p.levers, ok = strings.Cut(string(old), leversFrom); !ok && !whole {
		return p, fmt.Errorf("%s says nowhere where its levers begin; write all of it with `UPDATE=1 make bench`", file)
	}
	return p, nil
}

// keep writes the document with what was measured, if it is to be kept, under a heading.
func (s setting) keep(p *page, file, heading, figures, reasons string) error {
	if !s.update || figures == "" && reasons == "" {
		return nil
	}
	if figures != "" {
		p.figures = "<!-- Written by `UPDATE=1 make bench`; edit test/bench/preface.md and test/bench/ablations.md instead. -->\n" + preface + "\n" + heading + figures
	}
	if reasons != "" {
		p.levers = heading + reasons + "\n" + prose
	}
	return os.WriteFile(file, []byte(p.figures+leversFrom+p.levers), 0o644)
}

// measure takes the figures, and holds them against the goals.
func (l *lab) measure(w io.Writer, s setting) (found findings, err error) {
	if s.has(partSeries) {
		if found.series, err = l.allSeries(s); err != nil {
			return found, err
		}
		for _, one := range found.series {
			one.print(w)
		}
	}
	if s.has(partQuota) {
		if found.quotas, err = l.quotas(w, s.quotas, s.seconds); err != nil {
			return found, err
		}
		if found.randoms, err = l.randoms(w, s.items); err != nil {
			return found, err
		}
	}
	if s.has(partMemory) {
		if found.memory, err = l.memory(w, s.memory); err != nil {
			return found, err
		}
	}
	if s.has(partAgain) {
		second, err := l.again(w, s.again)
		if err != nil {
			return found, err
		}
		found.second = &second
	}
	if goals := found.goals(); !s.small && slices.ContainsFunc(goals, func(g goal) bool { return g.measured }) {
		printGoals(w, goals)
	}
	return found, nil
}

// explain shows what workers are worth, where the time goes, and what each lever buys.
func (l *lab) explain(w io.Writer, s setting) error {
	if s.has(partWorkers) {
		if err := l.manyWorkers(w, 3*s.items); err != nil {
			return err
		}
	}
	if s.has(partProfiles) {
		p, err := l.profiled()
		if err != nil {
			return err
		}
		if err := p.whereTimeGoes(w, s.stores, s.items); err != nil {
			return err
		}
	}
	if s.has(partLevers) {
		return l.levers(w, s.items, s.rounds)
	}
	return nil
}
