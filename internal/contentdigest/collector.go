package contentdigest

import (
	"encoding/hex"
	"maps"
	"sync"

	"rotator/internal/scan"
)

// Entry is an item with its digest.
type Entry struct {
	Ref    scan.Ref
	Digest Digest
	// NotCovered is the reason why Digest does not cover the whole item, as one word. It is empty
	// if it does.
	NotCovered string
}

// Total is the digest of a target.
type Total struct {
	Sum
	// NotCovered counts the items that Sum does not contain, by reason.
	NotCovered map[string]int64
}

// Collector adds up the digests of the items of a pass. It is safe for concurrent use.
type Collector struct {
	names []string

	mu     sync.Mutex
	totals []Total
	sorter *Sorter
}

// NewCollector returns a Collector for the targets with these names. If sorter is not nil, each
// item is added to it.
func NewCollector(names []string, sorter *Sorter) *Collector {
	c := &Collector{names: names, sorter: sorter}
	_ = c.Restart() // fails only with a sorter that has lines
	return c
}

// Restart discards everything that was added, because the pass begins again.
func (c *Collector) Restart() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.totals = make([]Total, len(c.names))
	for i := range c.totals {
		c.totals[i].NotCovered = map[string]int64{}
	}
	if c.sorter == nil {
		return nil
	}
	return c.sorter.Restart()
}

// Add adds items of a target. It must be called once for each item.
func (c *Collector) Add(target string, entries []Entry) error {
	var sum Sum
	for _, e := range entries { // without the lock, because it takes most of the time
		if e.NotCovered == "" {
			sum.Add(e.Digest)
		}
	}
	index := c.index(target)
	c.mu.Lock()
	defer c.mu.Unlock()
	total := &c.totals[index]
	total.Merge(&sum)
	for _, e := range entries {
		if e.NotCovered != "" {
			total.NotCovered[e.NotCovered]++
		}
		if c.sorter == nil {
			continue
		}
		if err := c.sorter.Add(lineOf(index, e)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Collector) index(target string) int {
	for i, name := range c.names {
		if name == target {
			return i
		}
	}
	panic("contentdigest: unknown target " + target)
}

func lineOf(target int, e Entry) Line {
	line := Line{Target: target, Ref: string(e.Ref), NotCovered: e.NotCovered}
	if e.NotCovered == "" {
		line.Digest = hex.EncodeToString(e.Digest[:])
	}
	return line
}

// Totals returns the digests of the targets, in the order of their names in NewCollector.
func (c *Collector) Totals() []Total {
	c.mu.Lock()
	defer c.mu.Unlock()
	totals := make([]Total, len(c.totals))
	for i, t := range c.totals {
		totals[i] = Total{Sum: t.Sum, NotCovered: maps.Clone(t.NotCovered)}
	}
	return totals
}
