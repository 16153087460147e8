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

// series holds the runs of all candidates over one store, in rounds.
type series struct {
	Store        string
	Items        int
	candidates   []candidate
	Runs         map[string][]measured // by letter
	roundsBefore int
}

func (h *harness) newSeries(store string, items int, few bool) *series {
	return &series{
		Store:      store,
		Items:      items,
		candidates: h.candidates(store, few),
		Runs:       map[string][]measured{},
	}
}

// round runs every candidate once. Every second round reverses the order, but the first two
// candidates, A and D, always come first: their ratio is compared with the baseline, and the
// speed of a machine changes over time.
func (s *series) round(h *harness) error {
	order := slices.Clone(s.candidates)
	if s.roundsBefore%2 == 1 {
		slices.Reverse(order[:2])
		slices.Reverse(order[2:])
	}
	for _, c := range order {
		items := s.Items
		if c.most > 0 {
			items = min(items, c.most)
		}
		m, err := h.run(c, scenario{store: s.Store, items: items})
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s round %d: %s %.1f us/item, %.0f items/s\n", s.Store,
			s.roundsBefore+1, c.letter, microseconds(m), float64(m.Items)/m.Wall)
		s.Runs[c.letter] = append(s.Runs[c.letter], m)
	}
	s.roundsBefore++
	return nil
}

// allSeries runs the candidates over all stores, in rounds. In CI it begins no further round
// after enoughTime.
func (h *harness) allSeries(s setting) (all []*series, err error) {
	for _, store := range s.stores {
		all = append(all, h.newSeries(store, s.itemsOf(store), s.few))
	}
	for round := range s.rounds {
		if s.small && round >= leastRounds && time.Since(h.began) > enoughTime {
			break
		}
		for _, one := range all {
			if err := one.round(h); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// ratio returns the median of the ratios of two candidates. ok is false if there are none.
func (s *series) ratio(over, under string) (median float64, ok bool) {
	each := ratios(s.Runs[over], s.Runs[under])
	return middle(each), len(each) > 0
}

// of returns the median of a figure over the runs of a candidate.
func (s *series) of(letter string, figure func(measured) float64) float64 {
	var all []float64
	for _, m := range s.Runs[letter] {
		all = append(all, figure(m))
	}
	return middle(all)
}

// most returns the maximum of a figure over the runs of a candidate.
func (s *series) most(letter string, figure func(measured) float64) (most float64) {
	for _, m := range s.Runs[letter] {
		most = max(most, figure(m))
	}
	return most
}

func titleOf(store string) string {
	return map[string]string{
		rows:    "DynamoDB",
		bodies:  "S3, in bodies of 4 KB: GET and PUT",
		headers: "S3, in user metadata: HEAD and COPY",
	}[store]
}

// printSeries writes one table of all series.
func printSeries(w io.Writer, all []*series) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(w, "\n## Cost of an item\n\n%d rounds; medians. "+
		"\"D/client\" is the CPU time of D divided by that of the client.\n\n", all[0].roundsBefore)
	fmt.Fprintf(w, "| client | items | CPU us/item | D/client | items/s | ReEncrypt/item "+
		"| other requests/item | connections | late | peak RSS, MiB | allocations/item |\n"+
		"|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, one := range all {
		fmt.Fprintf(w, "| **%s** | | | | | | | | | | |\n", titleOf(one.Store))
		for _, letter := range []string{"A", "B", "C", "D"} {
			for _, c := range one.candidates {
				if c.letter == letter {
					one.printRow(w, c)
				}
			}
		}
	}
}

// printRequests writes the requests of rotator in its last round, by operation.
func (s *series) printRequests(w io.Writer) {
	if runs := s.Runs[letterRotator]; len(runs) > 0 {
		fmt.Fprintf(w, "%s: requests of D in its last round: %s\n", titleOf(s.Store),
			runs[len(runs)-1].Counts.byOperation())
	}
}

// byOperation lists the requests of a run, the most frequent operation first.
func (c counts) byOperation() string {
	names := slices.SortedFunc(maps.Keys(c.Requests), func(a, b string) int {
		return cmp.Or(cmp.Compare(c.Requests[b], c.Requests[a]), cmp.Compare(a, b))
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, c.Requests[name])
	}
	return strings.Join(names, ", ")
}

func (s *series) printRow(w io.Writer, c candidate) {
	ratio, _ := s.ratio(letterRotator, c.letter)
	allocs := "-"
	if n := s.of(c.letter, func(m measured) float64 { return m.Allocs }); n > 0 {
		allocs = fmt.Sprintf("%.0f", n)
	}
	fmt.Fprintf(w, "| %s: %s | %.0f | %.1f | %.3f | %.0f | %.3f | %.3f | %.0f | %.0f | %.0f | "+
		"%s |\n",
		c.letter, c.what,
		s.of(c.letter, func(m measured) float64 { return float64(m.Items) }),
		s.of(c.letter, microseconds), ratio,
		s.of(c.letter, func(m measured) float64 { return float64(m.Items) / m.Wall }),
		s.of(c.letter, func(m measured) float64 {
			return float64(m.Counts.reEncrypts()) / float64(m.Items)
		}),
		s.of(c.letter, measured.others),
		s.of(c.letter, func(m measured) float64 { return float64(m.Counts.Connections) }),
		s.of(c.letter, measured.late),
		s.of(c.letter, measured.mebibytes), allocs)
}
