package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
)

// profileInto is the variable that names the directory into which a client that can do
// so writes its profiles: rotator, built with the tag "profile", and our loops.
const profileInto = "ROTATOR_PROFILE"

// profiling writes a CPU and an allocation profile of what happens until done is called
// into a directory; into none where there is no name.
func profiling(dir string) (done func() error, err error) {
	if dir == "" {
		return func() error { return nil }, nil
	}
	file, err := os.Create(filepath.Join(dir, "cpu.prof"))
	if err == nil {
		err = pprof.StartCPUProfile(file)
	}
	if err != nil {
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		allocs, err := os.Create(filepath.Join(dir, "allocs.prof"))
		if err != nil {
			return err
		}
		return errors.Join(pprof.Lookup("allocs").WriteTo(allocs, 0), allocs.Close(), file.Close())
	}, nil
}

// profiled is the lab with a build of rotator that profiles itself.
func (l *lab) profiled() (*lab, error) {
	p := *l
	p.rotator, p.profiles = filepath.Join(l.dir, "rotator-profile"), l.dir
	return &p, build(p.rotator, "-tags", "profile")
}

// profile is where one run of a client spent its time, and what it allocated.
type profile struct {
	cpu, allocations string // tables of pprof
	allocs           float64
}

// profile runs a contestant, whose program is a binary, once; l is a lab with profiles.
func (l *lab) profile(c contestant, binary string, t trial, entries int) (p profile, err error) {
	const cpu, allocs = "cpu.prof", "allocs.prof"
	for _, file := range []string{cpu, allocs} { // those of another are none of this one
		if err := os.RemoveAll(filepath.Join(l.profiles, file)); err != nil {
			return p, err
		}
	}
	m, err := l.run(c, t)
	if err != nil {
		return p, err
	}
	p.allocs = m.Allocs
	if p.cpu, err = l.top(binary, cpu, entries); err == nil {
		p.allocations, err = l.top(binary, allocs, entries, "-sample_index=alloc_space")
	}
	return p, err
}

// top returns the first entries of a profile, by what they cost themselves.
func (l *lab) top(binary, file string, entries int, flags ...string) (string, error) {
	args := append([]string{"tool", "pprof", "-top", "-nodecount", fmt.Sprint(entries)}, flags...)
	out, err := exec.Command("go", append(args, binary, filepath.Join(l.profiles, file))...).Output()
	if err != nil {
		return "", fmt.Errorf("read the profile: %w", err)
	}
	_, table, _ := strings.Cut(string(out), "Showing")
	return "Showing" + table, nil
}

// whereTimeGoes shows one run of rotator over each store.
func (l *lab) whereTimeGoes(w io.Writer, stores []string, items int) error {
	fmt.Fprintf(w, "\n## Where the time goes\n\nRotator alone, a build that profiles itself, %d items.\n", items)
	for _, store := range stores {
		p, err := l.profile(l.us(), l.rotator, trial{store: store, items: items}, 15)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "\n%s. CPU:\n\n```\n%s```\n\n%.0f allocations per item:\n\n```\n%s```\n", titleOf(store), p.cpu, p.allocs, p.allocations)
	}
	return nil
}
