package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// ErrYield means that this run holds more than its share of the partitions. The partition is
// released when its open pages are saved.
var ErrYield = errors.New("this partition is handed over to another run")

// Claim is a partition that this run holds, with its saved cursor.
type Claim struct {
	Index  int // in the order of the pass
	Cursor []byte
	// HandOver is closed when the partition must be handed over as soon as possible. The caller
	// must then withdraw the pages whose processing has not begun, and complete the others first.
	HandOver <-chan struct{}
}

// watchEvery is the maximum time between two reads of the partitions of other runs, for a
// Tracker without a lease.
const watchEvery = 2 * time.Second

// Claim claims a partition that no other run holds. While other runs hold all partitions that are
// left, Claim waits until one is handed over or the lease of its holder expires. ok is false if
// every partition is done or held by this run.
func (t *Tracker) Claim(ctx context.Context) (Claim, bool, error) {
	defer t.markWaiting()()
	for {
		_, changed := t.membership.seenVersion()
		t.mu.Lock()
		saved := t.saved
		t.mu.Unlock()
		claimed, ok, err := t.tryClaim(ctx)
		if ok || err != nil {
			return claimed, ok, err
		}
		t.mu.Lock()
		left := slices.ContainsFunc(t.partitions, func(p *tracked) bool {
			return !p.pending.Done && (!p.held || p.handingOver)
		})
		t.mu.Unlock()
		if !left {
			return Claim{}, false, nil
		}
		if err := waitFor(ctx, t.watch(), saved, changed); err != nil {
			return Claim{}, false, err
		}
	}
}

// markWaiting records that a scanner has no partition, until the returned function is called.
func (t *Tracker) markWaiting() (done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.waiting--
		t.updateUses()
	}
}

// waitFor waits for d, or until a channel is closed, or returns the reason why ctx ended.
func waitFor(ctx context.Context, d time.Duration, saved, changed <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-saved:
	case <-changed:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// watch returns the maximum time between two reads of a partition that no other run lists as
// held.
func (t *Tracker) watch() time.Duration {
	if t.membership == nil {
		return watchEvery
	}
	return t.membership.lease
}

// order returns the partitions in the order in which this run claims them. Partitions of targets of
// which the run holds the fewest come first, so that a slow target does not delay the others. The
// rest of the order depends on the id of the run, so that runs that start at the same time do not
// all try the same partition.
func (t *Tracker) order() []int {
	order, perTarget := make([]int, len(t.partitions)), map[string]int{}
	own := make([]uint32, len(t.partitions))
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, part := range t.partitions {
		order[i] = i
		if part.held && !part.handingOver {
			perTarget[part.target]++
		}
		if t.membership != nil {
			own[i] = crc32.ChecksumIEEE(fmt.Appendf(nil, "%s/%d", t.membership.me, i))
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		held := func(i int) int { return perTarget[t.partitions[i].target] }
		return cmp.Or(cmp.Compare(held(a), held(b)), cmp.Compare(own[a], own[b]))
	})
	return order
}

// tryClaim reads each partition that seems free, once for each change of the other members.
func (t *Tracker) tryClaim(ctx context.Context) (Claim, bool, error) {
	if err := t.claiming.lock(ctx); err != nil {
		return Claim{}, false, err
	}
	defer t.claiming.unlock()
	if time.Since(t.roundBegan) >= t.watch() {
		t.roundBegan = time.Now()
		t.round++
	}
	version, _ := t.membership.seenVersion()
	round := claimRound{version: version, number: t.round}
	order := t.order()
	if err := t.refreshAll(ctx, order, round); err != nil {
		return Claim{}, false, err
	}
	for _, index := range order {
		part := t.partitions[index]
		if !t.mayClaim(index, round) {
			continue
		}
		got, err := t.acquire(ctx, part)
		if err != nil {
			return Claim{}, false, err
		}
		t.mu.Lock()
		if t.noneFree = t.noneFree && !got; !got {
			part.triedIn = round
		}
		claimed := Claim{Index: index, Cursor: part.pending.Cursor, HandOver: part.handOver}
		t.mu.Unlock()
		if got {
			return claimed, true, nil
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.noneFree = true
	t.updateUses()
	return Claim{}, false, nil
}

// refreshAll reads the records of all partitions that may be free, if this run has not found a free
// one before. Most of them are done.
func (t *Tracker) refreshAll(ctx context.Context, order []int, round claimRound) error {
	t.mu.Lock()
	waits := t.noneFree
	t.mu.Unlock()
	if t.membership == nil || !waits {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for _, index := range order {
		if !t.mayClaim(index, round) {
			continue
		}
		part := t.partitions[index]
		group.Go(func() error {
			progress, entry, err := t.passes.progress(ctx, t.pass, part.t, part.i)
			if err == nil {
				t.refresh(part, progress, entry)
			}
			return err
		})
	}
	return group.Wait()
}

// claimRound identifies one read of the partitions that are not done. It is never the zero value.
type claimRound struct{ version, number int }

// mayClaim reports whether a partition may be free and this run may claim it. Runs without a
// partition have priority.
func (t *Tracker) mayClaim(index int, round claimRound) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	part := t.partitions[index]
	if part.held || part.pending.Done {
		return false
	}
	held := t.held()
	if t.membership == nil || held >= t.share() {
		return t.membership == nil
	}
	if part.triedIn == round || t.membership.heldByOther(index) {
		return false
	}
	return held == 0 || !t.membership.others().starved
}

// held returns the number of partitions that this run holds and will not hand over, and that
// are not done. It must be called with t.mu held.
func (t *Tracker) held() (n int) {
	for _, p := range t.partitions {
		if p.held && !p.handingOver && !p.pending.Done {
			n++
		}
	}
	return n
}

// share returns the number of partitions that this run should hold, at least 1. If another run
// waits for a partition, only partitions that runs hold are divided. It must be called with t.mu
// held.
func (t *Tracker) share() int {
	if t.membership == nil {
		return len(t.partitions)
	}
	others, left := t.membership.others(), 0
	if others.waits {
		left = others.held + t.held()
	} else {
		for _, p := range t.partitions {
			if !p.pending.Done {
				left++
			}
		}
	}
	return max(1, (left+others.runs)/(others.runs+1))
}

// memberState is the state of a run for the member list.
type memberState struct {
	holds    []int
	waits    bool
	complete bool // every partition is done and saved
}

// state returns the state of this run. A run that has partitions, but not enough work to hand
// over a part of it, does not ask for more.
func (t *Tracker) state() (s memberState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := false
	for i, p := range t.partitions {
		if p.held {
			s.holds = append(s.holds, i)
		}
		left = left || !p.pending.Done && !p.held
	}
	s.waits = left && t.waiting > 0 && t.noneFree && t.held() < t.share() &&
		(len(s.holds) == 0 || t.hasEnough())
	s.complete = !left && len(s.holds) == 0
	return s
}

// updateUses reports to the membership whether this run needs a share of the rate. It must be
// called with t.mu held, after every change of a field that it uses.
func (t *Tracker) updateUses() {
	if t.membership == nil {
		return
	}
	uses := t.engaged
	for _, p := range t.partitions {
		if p.held && !p.pending.Done && !p.drained() {
			uses++
		}
	}
	t.membership.addUses(uses - t.uses)
	if uses == 0 && t.uses > 0 { // other runs may wait for partitions that are not saved
		signal(t.urgent)
		signal(t.wake)
	}
	t.uses = uses
	if uses == 0 && t.waiting > 0 && t.noneFree {
		t.membership.waitsSince(time.Now())
	} else {
		t.membership.waitsSince(time.Time{})
	}
}

// Needs reports what this run needs: a partition, because other runs hold all that are left, or a
// share of the rate, because it has work.
func (t *Tracker) Needs() (partition, rate bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.uses == 0 && t.waiting > 0 && t.noneFree, t.uses > 0
}

// Engage requests a share of the rate even if this run holds no partition, until the returned
// function is called.
func (t *Tracker) Engage() (done func()) {
	add := func(n int) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.engaged += n
		t.updateUses()
	}
	add(1)
	return func() { add(-1) }
}

// OnShare calls use with the share of the rate of this run, now and after each change.
func (t *Tracker) OnShare(use func(Share)) { t.membership.onShare(use) }

// acquire makes this run the owner of a partition. It returns false if a live run owns the
// partition or another run acquires it first. The new epoch and the new version of the record fence
// off the previous owner.
func (t *Tracker) acquire(ctx context.Context, part *tracked) (bool, error) {
	if t.membership == nil { // no other process works on the pass
		t.hold(part, part.pending, part.entry)
		return true, nil
	}
	progress, entry, err := t.passes.progress(ctx, t.pass, part.t, part.i)
	if err != nil {
		return false, err
	}
	if !progress.Done && progress.Owner != "" && !t.membership.alive(progress.Owner) {
		// The owner may have joined since the member list was read.
		if err := t.membership.heartbeat(ctx); err != nil {
			return false, err
		}
	}
	if progress.Done || t.membership.alive(progress.Owner) {
		t.refresh(part, progress, entry)
		return false, nil
	}
	progress.Owner, progress.Epoch = t.membership.me, progress.Epoch+1
	id := t.passes.partitionID(t.pass, part.t, part.i)
	entry, err = t.passes.save(ctx, entry, id, "progress", progress)
	if errors.Is(err, ErrFenced) {
		return false, nil // another run was faster
	}
	if err != nil {
		return false, err
	}
	t.hold(part, progress, entry)
	return true, nil
}

func (t *Tracker) refresh(part *tracked, progress Progress, entry Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	part.pending, part.entry = progress, entry
}

func (t *Tracker) hold(part *tracked, progress Progress, entry Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	part.pending, part.entry, part.held, part.handingOver = progress, entry, true, false
	part.ledger, part.unsaved, part.open = nil, 0, nil
	part.handOver, part.scannerDone = make(chan struct{}), false
	t.updateUses()
}

// Workers returns the number of members of the pass, as read last.
func (t *Tracker) Workers() int { return t.membership.size() }

// Close saves all complete pages, releases every partition and leaves the pass, so that
// other runs need not wait until the lease expires. An idle run does not leave a pass that is
// complete: nothing waits for its lease. Run must have returned.
func (t *Tracker) Close(ctx context.Context) error {
	if err := t.Flush(ctx); err != nil || t.membership == nil {
		return err
	}
	for _, part := range t.partitions {
		if !part.held {
			continue
		}
		t.mu.Lock()
		// Pages that are not complete are read again.
		part.handingOver, part.scannerDone, part.open = true, true, nil
		s := part.snapshot()
		t.mu.Unlock()
		if err := t.save(ctx, s); err != nil {
			return err
		}
	}
	if t.state().complete && t.membership.isIdle() {
		return nil
	}
	return t.membership.leave(ctx)
}
