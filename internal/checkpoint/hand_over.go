package checkpoint

import (
	"cmp"
	"context"
	"time"
)

const (
	// handOverLeast is the minimum time for which a run has work left if it hands over a
	// partition. A hand-over costs a part of the rate: it takes several writes of the
	// checkpoint, and the rate is divided again. Near the end of the pass nothing is gained,
	// because a run that is left alone uses the whole rate.
	handOverLeast = 3 * time.Second
	// offerFor is the time for which a partition that was handed over is reserved for the
	// waiting run, before another one is handed over.
	offerFor = 2 * time.Second
	// paceSpan is the time over which the items per second of a run are measured.
	paceSpan = 5 * time.Second
	// sizeTolerance is the factor by which a partition may be larger than the finished
	// partitions of its target. The size of one that is larger still is unknown.
	sizeTolerance = 1.25
)

// handOver hands over a partition if another run waits and has none, and enough work is left.
// It hands over one at a time: the partition with the fewest completed items, because it
// probably has the most work left.
func (t *Tracker) handOver(ctx context.Context) {
	t.learnSizes(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, p := range t.partitions {
		offered := !p.held && !p.pending.Done && time.Since(p.handedOverAt) < offerFor &&
			!t.membership.heldByOther(i)
		if p.held && p.handingOver || offered {
			return
		}
	}
	if !t.membership.mustHandOver(t.held()) || !t.hasEnough() {
		return
	}
	var least *tracked
	for _, p := range t.partitions {
		if p.held && !p.pending.Done && (least == nil || p.didLessThan(least)) {
			least = p
		}
	}
	if least == nil {
		return
	}
	least.handingOver = true
	close(least.handOver)
	t.saveIfAwaited(least)
	t.updateUses()
}

func (p *tracked) didLessThan(other *tracked) bool {
	return cmp.Or(cmp.Compare(p.pending.Counts.Items.Seen, other.pending.Counts.Items.Seen),
		cmp.Compare(len(p.open), len(other.open))) < 0
}

// saveIfAwaited starts an immediate save of a partition for which another run waits: a partition
// that is to be handed over and has no open page, or one that is done, because a waiting run
// ends when the pass is complete. It must be called with t.mu held.
func (t *Tracker) saveIfAwaited(part *tracked) {
	if part.drained() || t.membership != nil && part.pending.Done && t.membership.others().waits {
		signal(t.urgent) // first, so that the next save includes this partition
		signal(t.wake)
	}
}

// hasEnough reports whether this run has enough work left to hand over a part of it. If this
// cannot be estimated, it has. It must be called with t.mu held.
func (t *Tracker) hasEnough() bool {
	left := 0.0 // items
	for _, p := range t.partitions {
		if !p.held || p.pending.Done {
			continue
		}
		size, known := t.size(p.target)
		seen := float64(p.pending.Counts.Items.Seen)
		if !known || seen > sizeTolerance*size {
			return true
		}
		left += max(0, size-seen)
	}
	perSecond := t.pace.perSecond(time.Now())
	return perSecond == 0 || left >= perSecond*handOverLeast.Seconds()
}

// size returns the mean number of items of the partitions of a target that are done, as far as
// this run knows. It must be called with t.mu held.
func (t *Tracker) size(target string) (items float64, known bool) {
	done := 0
	for _, p := range t.partitions {
		if p.target == target && p.pending.Done {
			items += float64(p.pending.Counts.Items.Seen)
			done++
		}
	}
	return items / max(1, float64(done)), items > 0
}

// learnSizes reads the record of one partition of each target of which this run knows no size.
// Errors are ignored: the size then stays unknown.
func (t *Tracker) learnSizes(ctx context.Context) {
	for _, i := range t.unknownSizes() {
		part := t.partitions[i]
		progress, entry, err := t.passes.progress(ctx, t.pass, part.t, part.i)
		if err == nil && progress.Done {
			t.finished(part, progress, entry)
		}
	}
}

// finished records that another run has finished a partition.
func (t *Tracker) finished(part *tracked, progress Progress, entry Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !part.held {
		part.pending, part.entry = progress, entry
	}
}

// unknownSizes returns one partition that is probably done, for each target of which this run
// holds partitions and knows none that is done.
func (t *Tracker) unknownSizes() (list []int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	targets := map[string]bool{}
	for _, p := range t.partitions {
		if !p.held || targets[p.target] {
			continue
		}
		if _, known := t.size(p.target); !known {
			targets[p.target] = true
		}
	}
	for i, p := range t.partitions {
		if targets[p.target] && !p.held && !t.membership.heldByOther(i) {
			list = append(list, i)
			delete(targets, p.target)
		}
	}
	return list
}

// pace measures items per second. The zero value is ready for use.
type pace struct {
	items        int64
	began, later paceMark // the later one becomes the beginning after paceSpan
}

type paceMark struct {
	items int64
	at    time.Time
}

// add counts items that were completed now.
func (p *pace) add(items int64, now time.Time) {
	p.items += items
	if now.Sub(p.later.at) > paceSpan {
		p.began, p.later = p.later, paceMark{p.items, now}
	}
}

// perSecond returns 0 if it is unknown.
func (p *pace) perSecond(now time.Time) float64 {
	since := p.began
	if since.at.IsZero() {
		since = p.later
	}
	if seconds := now.Sub(since.at).Seconds(); seconds > 0 && !since.at.IsZero() {
		return float64(p.items-since.items) / seconds
	}
	return 0
}
