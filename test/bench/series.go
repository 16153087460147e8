package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// series are the runs of all contestants over one store, round by round.
type series struct {
	Store        string
	Items        int
	contestants  []contestant
	Runs         map[string][]measured // by letter
	roundsBefore int
}

func (l *lab) newSeries(store string, items int, few bool) *series {
	return &series{Store: store, Items: items, contestants: l.contestants(store, few), Runs: map[string][]measured{}}
}

// round runs every contestant once. In every other round they run in reverse but for the
// first two, which always come first: they are held against each other the most closely,
// and a machine does not stay the same for long.
func (s *series) round(l *lab) error {
	order := slices.Clone(s.contestants)
	if s.roundsBefore%2 == 1 {
		slices.Reverse(order[:2])
		slices.Reverse(order[2:])
	}
	for _, c := range order {
		items := s.Items
		if c.most > 0 {
			items = min(items, c.most)
		}
		m, err := l.run(c, trial{store: s.Store, items: items})
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s round %d: %s %.1f us/item, %.0f items/s\n", s.Store, s.roundsBefore+1, c.letter, microseconds(m), float64(m.Items)/m.Wall)
		s.Runs[c.letter] = append(s.Runs[c.letter], m)
	}
	s.roundsBefore++
	return nil
}

// allSeries runs the contestants over all stores, round by round. In CI it stops
// before time is up.
func (l *lab) allSeries(s setting) (all []*series, err error) {
	for _, store := range s.stores {
		all = append(all, l.newSeries(store, s.itemsOf(store), s.few))
	}
	for round := range s.rounds {
		if s.small && round >= leastRounds && time.Since(l.began) > enoughTime {
			break
		}
		for _, one := range all {
			if err := one.round(l); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// ratio is the median of the ratios of two contestants.
func (s *series) ratio(over, under string) (median float64, ok bool) {
	each := ratios(s.Runs[over], s.Runs[under])
	return middle(each), len(each) > 0
}

// of is the median of a figure over a contestant's runs.
func (s *series) of(letter string, figure func(measured) float64) float64 {
	var all []float64
	for _, m := range s.Runs[letter] {
		all = append(all, figure(m))
	}
	return middle(all)
}

// most is the largest of a figure over a contestant's runs.
func (s *series) most(letter string, figure func(measured) float64) (most float64) {
	for _, m := range s.Runs[letter] {
		most = max(most, figure(m))
	}
	return most
}

func titleOf(store string) string {
	return map[string]string{rows: "DynamoDB", bodies: "S3, in bodies of 4 KB: GET and PUT", headers: "S3, in user metadata: HEAD and COPY"}[store]
}

// print writes the table of one series.
func (s *series) print(w io.Writer) {
	fmt.Fprintf(w, "\n## %s\n\n%d rounds; medians.\n\n", titleOf(s.Store), s.roundsBefore)
	fmt.Fprintf(w, "| | | items | CPU us/item | D is so much of it | items/s | ReEncrypt/item | other requests/item | connections | of them late | peak RSS, MiB | allocations/item |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, letter := range []string{"A", "B", "C", "D"} {
		for _, c := range s.contestants {
			if c.letter == letter {
				s.printRow(w, c)
			}
		}
	}
	if runs := s.Runs[ours]; len(runs) > 0 {
		fmt.Fprintf(w, "\nThe requests of D in its last round: %s.\n", runs[len(runs)-1].Counts.byOperation())
	}
}

// byOperation are the requests of a run, most of them first.
func (c counts) byOperation() string {
	names := slices.SortedFunc(maps.Keys(c.Requests), func(a, b string) int {
		return cmp.Or(cmp.Compare(c.Requests[b], c.Requests[a]), cmp.Compare(a, b))
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, c.Requests[name])
	}
	return strings.Join(names, ", ")
}

func (s *series) printRow(w io.Writer, c contestant) {
	ratio, _ := s.ratio(ours, c.letter)
	allocs := "-"
	if n := s.of(c.letter, func(m measured) float64 { return m.Allocs }); n > 0 {
		allocs = fmt.Sprintf("%.0f", n)
	}
	fmt.Fprintf(w, "| %s | %s | %.0f | %.1f | %.3f | %.0f | %.3f | %.3f | %.0f | %.0f | %.0f | %s |\n", c.letter, c.what,
		s.of(c.letter, func(m measured) float64 { return float64(m.Items) }),
		s.of(c.letter, microseconds), ratio,
		s.of(c.letter, func(m measured) float64 { return float64(m.Items) / m.Wall }),
		s.of(c.letter, func(m measured) float64 { return float64(m.Counts.reEncrypts()) / float64(m.Items) }),
		s.of(c.letter, measured.others),
		s.of(c.letter, func(m measured) float64 { return float64(m.Counts.Connections) }),
		s.of(c.letter, measured.late),
		s.of(c.letter, measured.mebibytes), allocs)
}
