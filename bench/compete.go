package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
)

// series are the runs of all contestants over one store, round by round.
type series struct {
	Store string
	Items int
	Runs  map[string][]measured // by letter
}

// setting is how much is measured.
type setting struct {
	items, rounds int
	few           bool // A and D alone
}

// settingOf reads BENCH, and ITEMS and ROUNDS, which change it.
func settingOf() setting {
	s := setting{items: 20_000, rounds: 7}
	if os.Getenv("BENCH") == "small" {
		s = setting{items: 10_000, rounds: 5, few: true}
	}
	s.few = s.few || os.Getenv("FEW") != ""
	for name, field := range map[string]*int{"ITEMS": &s.items, "ROUNDS": &s.rounds} {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
			*field = n
		}
	}
	return s
}

func compete() error {
	l, err := newLab()
	if err != nil {
		return err
	}
	defer l.close()
	s := settingOf()
	var all []series
	stores := []string{"dynamodb", "s3"}
	if only := os.Getenv("STORE"); only != "" {
		stores = []string{only}
	}
	for _, store := range stores {
		s := s
		if store == "s3" && s.few {
			s.items /= 2 // its items take longer
		}
		one, err := l.series(store, s)
		if err != nil {
			return err
		}
		one.print(os.Stdout)
		all = append(all, one)
	}
	return l.conclude(s, all)
}

// series runs the contestants in rounds; who begins changes from round to round.
func (l *lab) series(store string, s setting) (series, error) {
	out := series{Store: store, Items: s.items, Runs: map[string][]measured{}}
	contestants := l.contestants(s.few)
	for round := range s.rounds {
		for n := range contestants {
			c := contestants[(n+round)%len(contestants)]
			m, err := l.run(c, store, s.items)
			if err != nil {
				return out, err
			}
			fmt.Fprintf(os.Stderr, "%s round %d: %s %.1f us/item, %.0f items/s\n", store, round+1, c.Letter, m.perItem()*1e6, float64(m.Items)/m.Wall)
			out.Runs[c.Letter] = append(out.Runs[c.Letter], m)
		}
	}
	return out, nil
}

// ratio is the median of the ratios of two contestants, round by round.
func (s series) ratio(over, under string) (median float64, ok bool) {
	var ratios []float64
	for round := range min(len(s.Runs[over]), len(s.Runs[under])) {
		ratios = append(ratios, s.Runs[over][round].perItem()/s.Runs[under][round].perItem())
	}
	return middle(ratios), len(ratios) > 0
}

// of is the median of a figure over a contestant's runs.
func (s series) of(letter string, figure func(measured) float64) float64 {
	var all []float64
	for _, m := range s.Runs[letter] {
		all = append(all, figure(m))
	}
	return middle(all)
}

func middle[T cmp.Ordered](values []T) (median T) {
	if len(values) == 0 {
		return median
	}
	return slices.Sorted(slices.Values(values))[len(values)/2]
}
