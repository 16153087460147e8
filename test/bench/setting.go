package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// setting states what is measured.
type setting struct {
	items, rounds int
	given         bool // ITEMS sets the number of items
	few           bool // only A and D
	small         bool // only the ratios for CI
	full          bool // includes the parts that take long
	update        bool
	partial       bool     // PARTS or STORES is set
	overrides     []string // variables that are set and with which no page may be written
	stores        []string
	parts         []string
	quotas        []float64
	seconds       float64 // duration of the items at a hidden quota
	memory        []int   // numbers of items
	rerun         int     // items of the second pass
}

// fewest is the minimum number of items of a run.
const fewest = 20_000

// The parts of a bench, in the order in which they are measured.
const (
	partSeries    = "series"
	partQuota     = "quota"
	partMemory    = "memory"
	partRerun     = "rerun"
	partWorkers   = "workers"
	partProfiles  = "profiles"
	partAblations = "ablations"
)

// settingOf reads BENCH (small, full), ABLATIONS and UPDATE, and the variables for a partial
// bench: PARTS and STORES select parts, ITEMS, ROUNDS, QUOTA and SECONDS change the amount, and
// FEW leaves out B and C.
func settingOf(getenv func(string) string) setting {
	s := setting{
		items:   fewest,
		rounds:  7,
		few:     getenv("FEW") != "",
		update:  getenv("UPDATE") != "",
		stores:  []string{rows, bodies, headers},
		quotas:  []float64{1000, 2000},
		seconds: 28,
		memory:  []int{fewItems},
		rerun:   20_000,
		parts:   []string{partSeries, partQuota, partMemory, partRerun},
	}
	s.readBench(getenv)
	s.readOverrides(getenv)
	return s
}

// readBench reads BENCH and ABLATIONS.
func (s *setting) readBench(getenv func(string) string) {
	switch getenv("BENCH") {
	case "small":
		s.items, s.rounds, s.few, s.small, s.parts = 20_000, 5, true, true, []string{partSeries}
	case "full":
		s.full = true
	}
	if s.full = s.full || s.update; s.full { // a page has all figures
		s.memory, s.rerun = []int{fewItems, manyItems}, passedOver
	}
	switch {
	case s.small, getenv("ABLATIONS") == "0":
	case getenv("ABLATIONS") != "":
		s.parts = []string{partWorkers, partProfiles, partAblations}
	case s.update:
		s.parts = append(s.parts, partWorkers, partProfiles, partAblations)
	}
}

// readOverrides reads the variables for a partial bench.
func (s *setting) readOverrides(getenv func(string) string) {
	separates := func(r rune) bool { return r == ',' || r == ' ' }
	for name, field := range map[string]*[]string{"PARTS": &s.parts, "STORES": &s.stores} {
		if given := strings.FieldsFunc(getenv(name), separates); len(given) > 0 {
			*field, s.partial = given, true
		}
	}
	for name, field := range map[string]*int{"ITEMS": &s.items, "ROUNDS": &s.rounds} {
		if n, err := strconv.Atoi(getenv(name)); err == nil && n > 0 {
			*field = n
		}
	}
	seconds, err := strconv.ParseFloat(getenv("SECONDS"), 64)
	if err == nil && seconds > settleSeconds+2 {
		s.seconds = seconds
	}
	if quota, err := strconv.ParseFloat(getenv("QUOTA"), 64); err == nil && quota > 0 {
		s.quotas = []float64{quota}
	}
	if getenv("ITEMS") != "" {
		s.given, s.rerun, s.memory = true, s.items, []int{s.items}
	}
	for _, name := range overrides() {
		if getenv(name) != "" {
			s.overrides = append(s.overrides, name)
		}
	}
}

// overrides returns the variables with which the figures are not those that the page describes.
func overrides() []string {
	return []string{
		"PARTS", "STORES", "ITEMS", "ROUNDS", "QUOTA", "SECONDS", "FEW", "ROTATOR", "ROTATOR_ENV",
	}
}

// checkUpdate returns an error if UPDATE=1 is combined with an override. The ratios for CI are
// of A and D only, and can have more rounds.
func (s setting) checkUpdate() error {
	found := slices.DeleteFunc(slices.Clone(s.overrides), func(name string) bool {
		return s.small && (name == "FEW" || name == "ROUNDS")
	})
	if !s.update || len(found) == 0 {
		return nil
	}
	return fmt.Errorf("UPDATE=1 writes a complete bench, or all ablations, of this tree: "+
		"leave %s out, or UPDATE", strings.Join(found, ", "))
}

func (s setting) has(part string) bool { return slices.Contains(s.parts, part) }

// itemsOf returns the number of items of a series. There are more rows than objects, because
// rows are moved faster and the fixed costs of a client should not count as the cost of an
// item. In CI there are fewer.
func (s setting) itemsOf(store string) int {
	switch {
	case s.small && store != rows:
		return s.items / 5
	case store == rows && !s.small && !s.given:
		return 5 * s.items
	}
	return s.items
}

func environment() setting { return settingOf(os.Getenv) }
