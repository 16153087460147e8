package main

import (
	"fmt"
	"io"
)

// memory measures how the peak memory of rotator depends on the number of items.
func (h *harness) memory(w io.Writer, sizes []int) (runs []measured, err error) {
	fmt.Fprintf(w, "\n## Memory\n\nDynamoDB, %d workers.\n\n", workers)
	fmt.Fprintf(w, "| items | peak RSS, MiB | CPU us/item | items/s | connections | late |\n"+
		"|---|---|---|---|---|---|\n")
	for _, items := range sizes {
		m, err := h.run(h.rotatorRun(), scenario{store: rows, items: items})
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(w, "| %d | %.0f | %.1f | %.0f | %d | %.0f |\n", items, m.mebibytes(),
			microseconds(m), float64(items)/m.Wall, m.Counts.Connections, m.late())
		runs = append(runs, m)
	}
	return runs, nil
}
