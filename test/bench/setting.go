package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// setting is what is measured, and how much of it.
type setting struct {
	items, rounds int
	given         bool // the number of items is the user's
	few           bool // A and D alone
	small         bool // the ratios for CI, and nothing else
	full          bool // with what takes long
	update        bool
	partial       bool     // PARTS or STORES were given
	looks         []string // the variables that make it a look at one thing, which is nothing to keep
	stores        []string
	parts         []string // of parts()
	quotas        []float64
	seconds       float64 // that the items of a hidden quota last
	memory        []int   // numbers of items
	again         int     // items of the second pass
}

// fewest is how many items a run has at least.
const fewest = 20_000

// The parts of a bench, in the order in which they are measured.
const (
	partSeries   = "series"
	partQuota    = "quota"
	partMemory   = "memory"
	partAgain    = "again"
	partWorkers  = "workers"
	partProfiles = "profiles"
	partLevers   = "levers"
)

// settingOf reads BENCH (small, full), LEVERS, UPDATE, and what is for a look at one
// thing: PARTS and STORES name some, ITEMS, ROUNDS, QUOTA and SECONDS change how much,
// FEW leaves B and C out.
func settingOf(getenv func(string) string) setting {
	s := setting{items: fewest, rounds: 7, few: getenv("FEW") != "", update: getenv("UPDATE") != "", stores: []string{rows, bodies, headers},
		quotas: []float64{1000, 2000}, seconds: 28, memory: []int{fewItems}, again: 20_000,
		parts: []string{partSeries, partQuota, partMemory, partAgain}}
	switch getenv("BENCH") {
	case "small":
		s.items, s.rounds, s.few, s.small, s.parts = 20_000, 5, true, true, []string{partSeries}
	case "full":
		s.full = true
	}
	if s.full = s.full || s.update; s.full { // what is written down is whole
		s.memory, s.again = []int{fewItems, manyItems}, passedOver
	}
	switch {
	case s.small, getenv("LEVERS") == "0":
	case getenv("LEVERS") != "":
		s.parts = []string{partWorkers, partProfiles, partLevers}
	case s.update:
		s.parts = append(s.parts, partWorkers, partProfiles, partLevers)
	}
	for name, field := range map[string]*[]string{"PARTS": &s.parts, "STORES": &s.stores} {
		if given := strings.FieldsFunc(getenv(name), func(r rune) bool { return r == ',' || r == ' ' }); len(given) > 0 {
			*field, s.partial = given, true
		}
	}
	for name, field := range map[string]*int{"ITEMS": &s.items, "ROUNDS": &s.rounds} {
		if n, err := strconv.Atoi(getenv(name)); err == nil && n > 0 {
			*field = n
		}
	}
	if seconds, err := strconv.ParseFloat(getenv("SECONDS"), 64); err == nil && seconds > settled+2 {
		s.seconds = seconds
	}
	if quota, err := strconv.ParseFloat(getenv("QUOTA"), 64); err == nil && quota > 0 {
		s.quotas = []float64{quota}
	}
	if getenv("ITEMS") != "" { // a look, of everything
		s.given, s.again, s.memory = true, s.items, []int{s.items}
	}
	for _, name := range forLooks {
		if getenv(name) != "" {
			s.looks = append(s.looks, name)
		}
	}
	return s
}

// forLooks are the variables of a look: what is measured with one of them is not what
// the page says that it holds.
var forLooks = [...]string{"PARTS", "STORES", "ITEMS", "ROUNDS", "QUOTA", "SECONDS", "FEW", "ROTATOR", "ROTATOR_ENV"}

// keepable says why what is measured must not be written down, where that is so. The
// ratios for CI are of A and D alone, and may be of more rounds.
func (s setting) keepable() error {
	looks := slices.DeleteFunc(slices.Clone(s.looks), func(name string) bool {
		return s.small && (name == "FEW" || name == "ROUNDS")
	})
	if !s.update || len(looks) == 0 {
		return nil
	}
	return fmt.Errorf("UPDATE=1 writes down a whole bench, or all of its levers, of this tree: leave %s out, or UPDATE", strings.Join(looks, ", "))
}

func (s setting) has(part string) bool { return slices.Contains(s.parts, part) }

// itemsOf is how many items a series has. Rows are moved soon, so that there are more of
// them: what a client costs once, such as the first touch of its memory, should not pass
// for what an item costs. CI has little time.
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
