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

// profileInto is the environment variable with the directory for profiles. Rotator, if built
// with the tag "profile", and the loops write them.
const profileInto = "ROTATOR_PROFILE"

// profiling writes a CPU and an allocation profile to a directory when done is called. It does
// nothing if dir is empty.
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

// profiled returns the harness with a build of rotator that writes profiles.
func (h *harness) profiled() (*harness, error) {
	p := *h
	p.rotator, p.profiles = filepath.Join(h.dir, "rotator-profile"), h.dir
	return &p, build(p.rotator, "-tags", "profile")
}

// profile is where one run of a client spent its time, and what it allocated.
type profile struct {
	cpu, allocations string // tables of pprof
	allocs           float64
}

// print writes both tables under a title.
func (p profile) print(w io.Writer, title string) {
	fmt.Fprintf(w, "\n%s: CPU\n\n%s\n%s: %.0f allocations per item\n\n%s",
		title, p.cpu, title, p.allocs, p.allocations)
}

// profile runs a candidate once, whose program is binary. h must be a harness of profiled.
func (h *harness) profile(
	c candidate, binary string, t scenario, entries int,
) (p profile, err error) {
	const cpu, allocs = "cpu.prof", "allocs.prof"
	for _, file := range []string{cpu, allocs} { // of an earlier run
		if err := os.RemoveAll(filepath.Join(h.profiles, file)); err != nil {
			return p, err
		}
	}
	m, err := h.run(c, t)
	if err != nil {
		return p, err
	}
	p.allocs = m.Allocs
	if p.cpu, err = h.top(binary, cpu, entries); err == nil {
		p.allocations, err = h.top(binary, allocs, entries, "-sample_index=alloc_space")
	}
	return p, err
}

// top returns the first entries of a profile, by their own cost.
func (h *harness) top(binary, file string, entries int, flags ...string) (string, error) {
	args := append([]string{"tool", "pprof", "-top", "-nodecount", fmt.Sprint(entries)}, flags...)
	args = append(args, binary, filepath.Join(h.profiles, file))
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		return "", fmt.Errorf("read the profile: %w", err)
	}
	_, table, _ := strings.Cut(string(out), "Showing")
	return "Showing" + table, nil
}

// profileStores writes the profiles of one run of rotator over each store to h.raw.
func (h *harness) profileStores(stores []string, items int) error {
	for _, store := range stores {
		p, err := h.profile(h.rotatorRun(), h.rotator, scenario{store: store, items: items}, 15)
		if err != nil {
			return err
		}
		p.print(h.raw, fmt.Sprintf("%s, %d items", titleOf(store), items))
	}
	return nil
}
