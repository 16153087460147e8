package main

import (
	"fmt"
	"io"
	"time"
)

// farLatency is the response time of the stub in this part: that of AWS from another Region.
// Workers then wait nearly all the time.
const farLatency = 50 * time.Millisecond

// compareWorkers compares a fixed number of workers with the number that rotator determines,
// which it adjusts every second.
func (h *harness) compareWorkers(w io.Writer, items int) error {
	fmt.Fprintf(w, "\n## Workers\n\nDynamoDB, %d items, a response time of %s, and a `kms.rate` "+
		"that "+
		"is no limit. Without `workers` in the job file, rotator adjusts the number every second. "+
		"One run each.\n\n", items, farLatency)
	fmt.Fprintf(w, "| `workers` | items/s | peak RSS, MiB | CPU us/item | connections |\n"+
		"|---|---|---|---|---|\n")
	for _, row := range []struct {
		name    string
		workers int
	}{
		{name: fmt.Sprint(workers), workers: workers},
		{name: "not set", workers: automatic},
	} {
		m, err := h.run(h.rotatorRun(), scenario{
			store:   rows,
			items:   items,
			workers: row.workers,
			stub:    []string{"-latency", farLatency.String()},
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "| %s | %.0f | %.0f | %.1f | %d |\n", row.name, float64(items)/m.Wall,
			m.mebibytes(), microseconds(m), m.Counts.Connections)
	}
	return nil
}
