package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"
)

// ErrYield says that this worker has more than its share of the partitions: the
// one asked about is given up, once its open pages are saved.
var ErrYield = errors.New("this partition is left to another worker")

// Claimed is a partition that this worker may work on, from where it was saved.
type Claimed struct {
	Index  int // in the order of the pass
	Cursor []byte
}

// watchEvery is the longest time between two looks at the partitions of others.
const watchEvery = 2 * time.Second

// Claim takes a partition that nobody works on, and waits for one while others
// have all that are left: they may die, or hand some over. It is false when every
// partition is done, or is worked on by this very worker.
func (t *Tracker) Claim(ctx context.Context) (Claimed, bool, error) {
	if err := t.team.await(ctx); err != nil {
		return Claimed{}, false, err
	}
	for {
		claimed, ok, err := t.tryClaim(ctx)
		if ok || err != nil {
			return claimed, ok, err
		}
		t.mu.Lock()
		left := slices.ContainsFunc(t.partitions, func(p *tracked) bool { return !p.ahead.Done && (!p.held || p.yielding) })
		changed := t.saved
		t.mu.Unlock()
		if !left {
			return Claimed{}, false, nil
		}
		if err := waitFor(ctx, t.watch(), changed); err != nil {
			return Claimed{}, false, err
		}
	}
}

// waitFor waits for d, or until changed is closed, or returns the reason why ctx
// ended.
func waitFor(ctx context.Context, d time.Duration, changed <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	case <-ctx.Done():
	}
	return ctx.Err()
}

func (t *Tracker) watch() time.Duration {
	if t.team == nil {
		return watchEvery
	}
	return min(watchEvery, t.team.lease/3)
}

// order are the partitions in the order in which this worker wants them: those of the
// targets of which it has the fewest come first, so that none waits for a slow one. Within
// that each worker of several has an order of its own, so that those who start together
// do not all want the same.
func (t *Tracker) order() []int {
	order, ours, own := make([]int, len(t.partitions)), map[string]int{}, make([]uint32, len(t.partitions))
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, part := range t.partitions {
		order[i] = i
		if part.held && !part.yielding {
			ours[part.target]++
		}
		if t.team != nil {
			own[i] = crc32.ChecksumIEEE(fmt.Appendf(nil, "%s/%d", t.team.me, i))
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(ours[t.partitions[a].target], ours[t.partitions[b].target]), cmp.Compare(own[a], own[b]))
	})
	return order
}

// tryClaim looks at each partition that seems free. Where there was nothing a moment ago
// it does not look again.
func (t *Tracker) tryClaim(ctx context.Context) (Claimed, bool, error) {
	if err := t.claiming.take(ctx); err != nil {
		return Claimed{}, false, err
	}
	defer t.claiming.give()
	if time.Since(t.nothing) < t.watch()/2 {
		return Claimed{}, false, nil
	}
	looked := false
	for _, index := range t.order() {
		part := t.partitions[index]
		if !t.mayClaim(part) {
			continue
		}
		got, err := t.acquire(ctx, part)
		if err != nil {
			return Claimed{}, false, err
		}
		if got {
			return Claimed{Index: index, Cursor: part.ahead.Cursor}, true, nil
		}
		looked = true
	}
	if looked {
		t.nothing = time.Now()
	}
	return Claimed{}, false, nil
}

func (t *Tracker) mayClaim(part *tracked) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !part.held && !part.ahead.Done && t.held() < t.share()
}

// held counts the partitions that are ours and stay so; share is how many of
// those that are not done are ours to work on. Both want t.mu.
func (t *Tracker) held() (n int) {
	for _, p := range t.partitions {
		if p.held && !p.yielding {
			n++
		}
	}
	return n
}

func (t *Tracker) share() int {
	if t.team == nil {
		return len(t.partitions)
	}
	left, workers := 0, t.team.claimants()
	for _, p := range t.partitions {
		if !p.ahead.Done {
			left++
		}
	}
	return (left + workers - 1) / workers
}

// acquire makes a partition ours unless a living worker has it, or another is
// quicker. The epoch and the new version of the record fence off whoever had it.
func (t *Tracker) acquire(ctx context.Context, part *tracked) (bool, error) {
	if t.team == nil { // nobody else can be there
		t.hold(part, part.ahead, part.entry)
		return true, nil
	}
	progress, entry, err := t.passes.progress(ctx, t.pass, part.t, part.i)
	if err != nil {
		return false, err
	}
	if !progress.Done && progress.Owner != "" && !t.team.alive(progress.Owner) {
		// It may have joined since we looked.
		if err := t.team.beat(ctx); err != nil {
			return false, err
		}
	}
	if progress.Done || t.team.alive(progress.Owner) {
		t.learn(part, progress, entry)
		return false, nil
	}
	progress.Owner, progress.Epoch = t.team.me, progress.Epoch+1
	entry, err = t.passes.save(ctx, entry, t.passes.partitionID(t.pass, part.t, part.i), "progress", progress)
	if errors.Is(err, ErrFenced) {
		return false, nil // somebody was quicker
	}
	if err != nil {
		return false, err
	}
	t.hold(part, progress, entry)
	return true, nil
}

func (t *Tracker) learn(part *tracked, progress Progress, entry Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	part.ahead, part.entry = progress, entry
}

func (t *Tracker) hold(part *tracked, progress Progress, entry Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	part.ahead, part.entry, part.held, part.yielding = progress, entry, true, false
	part.ledger, part.unsaved, part.open = nil, 0, nil
}

// Workers is how many workers were on the pass when this one looked last.
func (t *Tracker) Workers() int { return t.team.size() }

// Close saves what is complete, gives up every partition and leaves the pass, so
// that others need not wait for the lease to end. Run must have returned.
func (t *Tracker) Close(ctx context.Context) error {
	if err := t.Flush(ctx); err != nil || t.team == nil {
		return err
	}
	for _, part := range t.partitions {
		if !part.held {
			continue
		}
		t.mu.Lock()
		part.yielding, part.open = true, nil // pages that are not complete are read again
		s := part.snapshot()
		t.mu.Unlock()
		if err := t.save(ctx, s); err != nil {
			return err
		}
	}
	return t.team.leave(ctx)
}
