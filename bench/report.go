package main

import (
	"fmt"
	"io"
)

// print writes the table of one series.
func (s series) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s, %d items, %d rounds\n\n", s.Store, s.Items, len(s.Runs["D"]))
	fmt.Fprintf(w, "| | CPU us/item | D is | items/s | requests/item | connections, late | peak RSS MiB | allocations/item |\n|---|---|---|---|---|---|---|---|\n")
	for _, letter := range []string{"A", "B", "C", "D"} {
		if len(s.Runs[letter]) == 0 {
			continue
		}
		ratio, _ := s.ratio("D", letter)
		fmt.Fprintf(w, "| %s | %.1f | %.3f | %.0f | %.3f | %.0f, %.0f | %.0f | %.0f |\n", letter,
			s.of(letter, measured.perItem)*1e6, ratio,
			s.of(letter, func(m measured) float64 { return float64(m.Items) / m.Wall }),
			s.of(letter, func(m measured) float64 { return float64(m.Counts.total()) / float64(m.Items) }),
			s.of(letter, func(m measured) float64 { return float64(m.Counts.Connections) }),
			s.of(letter, func(m measured) float64 { return float64(m.Counts.Late) }),
			s.of(letter, func(m measured) float64 { return float64(m.RSS) / (1 << 20) }),
			s.of(letter, func(m measured) float64 { return m.Allocs }))
	}
}

func (l *lab) conclude(setting, []series) error { return nil }
