package main

import (
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
)

// profiled is the lab with a build of rotator that profiles itself.
func (l *lab) profiled() (*lab, error) {
	p := *l
	p.rotator = filepath.Join(l.dir, "rotator-profile")
	p.extra = append(p.extra[:len(p.extra):len(p.extra)], "ROTATOR_PROFILE="+l.dir)
	return &p, build(p.rotator, "-tags", "profile")
}

// profile is where one run of rotator spent its time, and what it allocated.
type profile struct {
	cpu, allocations string // tables of pprof
	allocs           float64
}

// profile runs rotator once; l is a lab with profiles.
func (l *lab) profile(t trial, entries int) (p profile, err error) {
	m, err := l.run(l.us(), t)
	if err != nil {
		return p, err
	}
	p.allocs = m.Allocs
	if p.cpu, err = l.top("cpu.prof", entries); err == nil {
		p.allocations, err = l.top("allocs.prof", entries, "-sample_index=alloc_space")
	}
	return p, err
}

// top returns the first entries of a profile, by what they cost themselves.
func (l *lab) top(file string, entries int, flags ...string) (string, error) {
	args := append([]string{"tool", "pprof", "-top", "-nodecount", fmt.Sprint(entries)}, flags...)
	out, err := exec.Command("go", append(args, l.rotator, filepath.Join(l.dir, file))...).Output()
	if err != nil {
		return "", fmt.Errorf("read the profile: %w", err)
	}
	_, table, _ := strings.Cut(string(out), "Showing")
	return "Showing" + table, nil
}

// profiles shows one run over each store.
func (l *lab) profiles(w io.Writer, stores []string, items int) error {
	fmt.Fprintf(w, "\n## Where the time goes\n\nRotator alone, a build that profiles itself, %d items.\n", items)
	for _, store := range stores {
		p, err := l.profile(trial{store: store, items: items}, 15)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "\n%s. CPU:\n\n```\n%s```\n\n%.0f allocations per item:\n\n```\n%s```\n", titleOf(store), p.cpu, p.allocs, p.allocations)
	}
	return nil
}
