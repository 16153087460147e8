package main

import (
	"fmt"
	"io"
	"time"
)

// faraway is how long the stub takes to answer where it is about workers: as long as
// AWS may from another Region. Workers wait nearly all the time then.
const faraway = 50 * time.Millisecond

// manyWorkers compares a number of workers that somebody chose with none given, when
// rotator finds out itself how many it needs; it looks every second.
func (l *lab) manyWorkers(w io.Writer, items int) error {
	fmt.Fprintf(w, "\n## Workers\n\nDynamoDB, %d items, answers after %s, and a `kms.rate` that is no limit: `workers` in the job file, and none there, so that rotator looks every second how many it needs. One run each.\n\n", items, faraway)
	fmt.Fprintf(w, "| `workers` | items/s | peak RSS, MiB | CPU us/item | connections |\n|---|---|---|---|---|\n")
	for _, row := range []struct {
		said  string
		trial trial
	}{{fmt.Sprint(workers), trial{workers: workers}}, {"not given", trial{workers: automatic}}} {
		t := row.trial
		t.store, t.items, t.stub = rows, items, []string{"-latency", faraway.String()}
		m, err := l.run(l.us(), t)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "| %s | %.0f | %.0f | %.1f | %d |\n", row.said, float64(items)/m.Wall, m.mebibytes(), microseconds(m), m.Counts.Connections)
	}
	return nil
}
