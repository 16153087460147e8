package main

import (
	"fmt"
	"io"
)

// memory measures how rotator's peak grows with the number of items.
func (l *lab) memory(w io.Writer, sizes []int) (runs []measured, err error) {
	fmt.Fprintf(w, "\n## Memory\n\nDynamoDB, %d workers.\n\n| items | peak RSS, MiB | CPU us/item | items/s | connections | of them late |\n|---|---|---|---|---|---|\n", workers)
	for _, items := range sizes {
		m, err := l.run(l.us(), trial{store: rows, items: items})
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(w, "| %d | %.0f | %.1f | %.0f | %d | %.0f |\n", items, m.mebibytes(), microseconds(m), float64(items)/m.Wall, m.Counts.Connections, m.late())
		runs = append(runs, m)
	}
	return runs, nil
}
