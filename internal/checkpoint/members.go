package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// How often a run reads the member list. It is never less often than it must write.
const (
	// readAlone is the interval of the only run of a pass.
	readAlone = time.Second
	// If there are several runs, the interval is 1/readPart of the time since the last
	// change, at least readSoon and at most readShared. For a run that waits for a
	// partition, it is 1/readPart of the time that it has waited, at most readAlone. After
	// a change of the division, the part of the rate that a run gives to another one is
	// unused until the other run reads it.
	readSoon   = 25 * time.Millisecond
	readShared = 500 * time.Millisecond
	readPart   = 80
	// readHeld is the least interval after a change of the partitions of other runs only.
	readHeld = 100 * time.Millisecond
	// readFailed is the interval after a heartbeat that failed.
	readFailed = 100 * time.Millisecond
	// soonFor is how long a run that waits for the others to confirm a division reads at
	// intervals of readSoon. Runs that have not confirmed it by then may be dead.
	soonFor = 2 * time.Second
	// idleAfter is the time without requests after which a run becomes idle. A run that
	// knows that no partition is free becomes idle at once.
	idleAfter = 200 * time.Millisecond
	// writeParts is the number of times that a run writes its entry within its lease.
	writeParts = 3
)

// lapse returns how long a run may send requests after the start of its last successful write
// of its entry. The other runs assume that it is dead after a full lease. For them the lease
// begins later, when they read the entry.
func lapse(lease time.Duration) time.Duration { return lease - lease/10 }

// Share is the part of the rate that a run may use.
type Share struct {
	// Runs is the number of runs that divide the rate, or 0 if this run must not send.
	Runs int
	// Until is the time when the share ends, unless it is renewed. Zero means no end.
	Until time.Time
}

// sole is the share of a run on a checkpoint that no other process uses.
var sole = Share{Runs: 1}

// membership is the membership of one run in its pass, and its view of the other runs. If the
// heartbeat of a run has not changed for a full lease, by the monotonic clock of the observer,
// the run is removed from the member list, and its partitions are free. Correctness does not
// depend on clocks: a removed run cannot move a cursor, because the record of the partition has
// changed.
type membership struct {
	passes   *Passes
	pass     int
	me       string
	observer bool // it claims no partition
	writes   bool // an observer that writes to the targets
	// sparesOldRuns is true for an observer that must not end runs of the previous version.
	sparesOldRuns bool
	lease         time.Duration
	// state returns the state of this run. It is nil for an observer.
	state func() memberState
	// handOver is called while another run waits for a partition. Only heartbeatLock is held.
	handOver func(context.Context)

	heartbeatLock ctxLock // of reading and writing the member list
	// The following fields are guarded by heartbeatLock.
	joined bool
	fenced bool
	seen   map[string]lastSeen // when the heartbeats of the other runs changed last
	latest reading             // of view

	wake chan struct{} // holds a token when there is something to write

	mu          sync.Mutex
	written     time.Time  // when the last successful write began
	failing     bool       // the last heartbeat failed
	view        memberList // as read or written last
	uses        int        // uses of the rate
	idle        time.Time  // since when uses is 0
	asked       time.Time  // since when this run waits for its share
	waiting     time.Time  // since when this run waits for a partition; zero if it does not
	dividedAt   time.Time  // when the division or the waiting runs in view changed last
	heldAt      time.Time  // when the partitions of the other runs in view changed last
	share       Share
	use         func(Share) // receives each new share
	version     int         // changes with the members and their partitions in view
	viewChanged chan struct{}
}

func newMembership(passes *Passes, pass int, me string, lease time.Duration) *membership {
	return &membership{
		passes:        passes,
		pass:          pass,
		me:            me,
		lease:         lease,
		handOver:      func(context.Context) {},
		heartbeatLock: make(ctxLock, 1),
		seen:          map[string]lastSeen{},
		wake:          make(chan struct{}, 1),
		use:           func(Share) {},
		viewChanged:   make(chan struct{}),
	}
}

// lastSeen is when a heartbeat was first seen.
type lastSeen struct {
	heartbeat int64
	at        time.Time
}

// heartbeatAttempts is the maximum number of attempts of one heartbeat while other members write
// the member list.
const heartbeatAttempts = 50

// heartbeat reads the member list and applies its division of the rate. It writes the entry of
// this run if the entry has changed or the last write is too old. The first heartbeat joins the
// pass. The error is ErrFenced if this run was removed from the member list or the job is at a
// later pass; the run has no share then.
func (t *membership) heartbeat(ctx context.Context) error { return t.beat(ctx, false) }

// announce is like heartbeat, after a change of the entry of this run. It first tries to replace
// the member list as it was read or written last, which saves the read. If other runs have
// changed the list since, this attempt has no effect.
func (t *membership) announce(ctx context.Context) error { return t.beat(ctx, true) }

// reading is one read of the member list. A read by a write that collided is its error.
type reading struct {
	began time.Time
	found error // see Passes.fetchAfter; nil: the member list must be read
}

func (t *membership) beat(ctx context.Context, unread bool) error {
	if err := t.heartbeatLock.lock(ctx); err != nil {
		return err
	}
	defer t.heartbeatLock.unlock()
	var known reading
	if unread {
		known = t.latest
	}
	for n := range heartbeatAttempts { // of several concurrent writes, one always succeeds
		began := time.Now()
		wrote, err := t.tryHeartbeat(ctx, known)
		if err == nil && !wrote && unread && n == 0 {
			known = reading{}
			continue // there is nothing to write, so this is a heartbeat
		}
		if errors.Is(err, ErrFenced) {
			t.fenced = true
			t.divide(Share{})
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
		known = reading{began, err}
		if err := pause(ctx, time.Duration(n)*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("other processes changed the member list %d times in a row",
		heartbeatAttempts)
}

func (t *membership) tryHeartbeat(ctx context.Context, known reading) (wrote bool, err error) {
	began := time.Now()
	if known.found == nil {
		known.began = began
	}
	t.latest = reading{}
	stored, before, err := t.read(ctx, known.found)
	if err != nil {
		return false, err
	}
	me, listed := stored.Members[t.me]
	if t.fenced || t.joined && !listed {
		return false, ErrFenced
	}
	dead := t.observe(stored, known.began)
	if listed {
		t.setView(ctx, stored) // before the entry confirms the division
		t.latest = reading{known.began, &conflictError{before}}
	}
	next, busy := t.next(stored, me, began)
	for _, id := range dead {
		next.remove(id)
	}
	fresh := began.Sub(t.lastWrite()) < t.lease/writeParts
	if listed && fresh && len(dead) == 0 && me.equal(next.Members[t.me]) && !stored.awaits(t.me) {
		return false, nil
	}
	return true, t.write(ctx, before, next, busy)
}

// write replaces the member list by one with a new entry of this run.
func (t *membership) write(
	ctx context.Context, before Entry, next memberList, busy bool,
) error {
	began := time.Now()
	if !busy {
		t.divide(Share{})
	}
	m := next.Members[t.me]
	m.Heartbeat++
	next.set(t.me, m, busy)
	t.latest = reading{}
	entry, err := t.passes.swap(ctx, before, t.passes.memberListID(), "roster", next)
	if err != nil {
		return err
	}
	t.latest = reading{began, &conflictError{entry}}
	t.joined = true
	t.mu.Lock()
	t.written = began
	t.mu.Unlock()
	t.setView(ctx, next)
	return nil
}

// read returns the member list from the view of this run. found is the error of a write of the
// list that collided, or nil.
func (t *membership) read(
	ctx context.Context, found error,
) (r memberList, before Entry, err error) {
	var stored memberList
	before, err = t.passes.fetchAfter(ctx, found, t.passes.memberListID(), "roster", &stored)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return memberList{}, Entry{}, err
	}
	if t.sparesOldRuns && stored.listsOldRuns(t.pass) {
		return memberList{}, Entry{}, ErrEarlierRuns
	}
	r, err = stored.forPass(t.passes.memberListID(), t.pass)
	if _, former := stored.Former[t.me]; former && errors.Is(err, ErrFenced) {
		// The runs of the later pass wait until this run writes that it has stopped sending.
		t.divide(Share{})
		stored.remove(t.me)
		_, left := t.passes.swap(ctx, before, t.passes.memberListID(), "roster", stored)
		if errors.Is(left, ErrConflict) {
			return memberList{}, Entry{}, left // try again
		}
	}
	return r.clone(), before, err
}

// next returns the member list with the new entry of this run, and whether the run is busy. The
// heartbeat is not incremented yet; an unchanged entry need not be written.
func (t *membership) next(
	stored memberList, me member, now time.Time,
) (next memberList, busy bool) {
	me.Observer, me.Writes = t.observer, t.writes
	if t.state != nil {
		s := t.state()
		me.Holds = s.holds
		if !s.complete { // after that, it does not matter to any run
			me.Waits = s.waits
		}
	}
	if len(stored.Members) <= 1 && len(stored.Former) == 0 {
		me.Holds = nil // no other run reads it
	}
	t.mu.Lock()
	busy = t.uses > 0 || me.Busy > 0 && t.waiting.IsZero() && now.Sub(t.idle) < idleAfter
	t.mu.Unlock()
	next = stored.clone()
	next.set(t.me, me, busy)
	return next, busy
}

// observe records the heartbeats of the other runs in a member list that was read since began.
// It returns the runs whose heartbeats have not changed for a lease. A heartbeat that has
// changed was written before the end of the read. A heartbeat that has not changed was still
// the last one when the read began.
func (t *membership) observe(r memberList, began time.Time) (dead []string) {
	now := time.Now()
	heartbeats := maps.Clone(r.Former)
	if heartbeats == nil {
		heartbeats = map[string]int64{}
	}
	for id, m := range r.Members {
		heartbeats[id] = m.Heartbeat
	}
	seen := map[string]lastSeen{}
	for id, heartbeat := range heartbeats {
		last, known := t.seen[id]
		switch {
		case id == t.me:
		case !known || last.heartbeat != heartbeat:
			seen[id] = lastSeen{heartbeat: heartbeat, at: now}
		default:
			seen[id] = last
			if began.Sub(last.at) > t.lease {
				dead = append(dead, id)
			}
		}
	}
	t.seen = seen
	slices.Sort(dead)
	return dead
}

// setView stores a member list that lists this run as its view, and applies its share.
func (t *membership) setView(ctx context.Context, r memberList) {
	t.mu.Lock()
	share := Share{Runs: r.share(t.me), Until: t.written.Add(lapse(t.lease))}
	moved := !t.view.sameWork(r, t.me)
	if r.Division != t.view.Division || !t.view.sameWaits(r) {
		t.dividedAt = time.Now()
	}
	if moved {
		t.heldAt = time.Now()
	}
	t.view = r
	if moved {
		t.version++
		close(t.viewChanged)
		t.viewChanged = make(chan struct{})
	}
	t.mu.Unlock()
	t.divide(share)
	if t.others().waits {
		t.handOver(ctx)
	}
}

// sameWork reports whether two member lists have the same other runs with the same partitions.
func (r memberList) sameWork(other memberList, me string) bool {
	same := func(a, b member) bool {
		return a.Waits == b.Waits && a.Observer == b.Observer && slices.Equal(a.Holds, b.Holds)
	}
	a, b := maps.Clone(r.Members), maps.Clone(other.Members)
	delete(a, me)
	delete(b, me)
	return maps.EqualFunc(a, b, same)
}

// sameWaits reports whether two member lists have the same members, and the same of them wait
// for a partition.
func (r memberList) sameWaits(other memberList) bool {
	return maps.EqualFunc(r.Members, other.Members,
		func(a, b member) bool { return a.Waits == b.Waits })
}

// divide passes a share to the receiver, which has applied it when divide returns.
func (t *membership) divide(share Share) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if share.Runs > 0 {
		t.asked = time.Time{}
	}
	t.share = share
	t.use(share)
}

// onShare sets the receiver of shares. It must not call the membership.
func (t *membership) onShare(use func(Share)) {
	if t == nil {
		use(sole)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.use = use
	use(t.share)
}

// addUses adds n to the number of uses of the rate. n may be negative.
func (t *membership) addUses(uses int) {
	if t == nil || uses == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.uses
	t.uses += uses
	switch {
	case before == 0:
		t.asked = time.Now()
		signal(t.wake)
	case t.uses == 0:
		t.idle = time.Now()
		signal(t.wake)
	}
}

// changed makes the run write its entry soon, if there are others to read it.
func (t *membership) changed() {
	if t.size() > 1 {
		signal(t.wake)
	}
}

// alive reports whether the member list listed another run when it was read last.
func (t *membership) alive(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.view.Members[id]
	_, former := t.view.Former[id]
	return id != t.me && (ok || former)
}

// heldByOther reports whether the last member list lists a partition as held by another run.
func (t *membership) heldByOther(partition int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, m := range t.view.Members {
		if id != t.me && slices.Contains(m.Holds, partition) {
			return true
		}
	}
	return false
}

// size returns the number of runs, including this one.
func (t *membership) size() int {
	if t == nil {
		return 1
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.view.Members)
}

// waitsSince records since when this run waits for a partition; zero means that it does not.
func (t *membership) waitsSince(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting.IsZero() != at.IsZero() {
		t.waiting = at
		signal(t.wake)
	}
}

// seenVersion returns a number that changes with the members and their partitions, and a
// channel that is closed with the next change.
func (t *membership) seenVersion() (version int, changed <-chan struct{}) {
	if t == nil {
		return 0, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.version, t.viewChanged
}

// others summarizes the other runs on the member list that claim partitions.
type others struct {
	runs    int
	held    int  // partitions
	waits   bool // one of them waits for a partition
	starved bool // one of them waits and has none
}

func (t *membership) others() (o others) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, m := range t.view.Members {
		if id == t.me || m.Observer {
			continue
		}
		o.runs++
		o.held += len(m.Holds)
		o.waits = o.waits || m.Waits
		o.starved = o.starved || m.starved()
	}
	return o
}

// mustHandOver reports whether this run, which holds partitions, must hand one over.
func (t *membership) mustHandOver(held int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.view.mustHandOver(t.me, held)
}

// interval returns the time until the next heartbeat, after a heartbeat that ended now.
func (t *membership) interval() time.Duration {
	now := time.Now()
	due := t.lease / writeParts
	t.mu.Lock()
	defer t.mu.Unlock()
	alone := len(t.view.Members) <= 1 && len(t.view.Former) == 0
	switch busy := t.view.Members[t.me].Busy > 0; {
	case t.failing:
		return min(due, readFailed)
	case t.uses == 0 && busy:
		return max(min(due, t.idle.Add(idleAfter).Sub(now)), 0)
	case alone:
		return min(due, readAlone)
	case t.uses > 0 && t.share.Runs == 0 && now.Sub(t.asked) < soonFor:
		return min(due, readSoon)
	case t.uses == 0 && !t.waiting.IsZero():
		return min(due, max(readSoon, min(now.Sub(t.waiting)/readPart, readAlone)))
	}
	return min(due, readShared, max(readSoon, now.Sub(t.dividedAt)/readPart),
		max(readHeld, now.Sub(t.heldAt)/readPart))
}

// ready waits until this run has a share of the rate.
func (t *membership) ready(ctx context.Context) error {
	if t == nil {
		return nil
	}
	for {
		t.mu.Lock()
		share := t.share
		t.mu.Unlock()
		if share.Runs > 0 {
			return nil
		}
		if err := pause(ctx, t.interval()); err != nil {
			return err
		}
		if err := t.heartbeat(ctx); ctx.Err() != nil || errors.Is(err, ErrFenced) {
			return err
		}
	}
}

// keepAlive keeps this run on the member list until enough or failed is closed. Errors of the
// service may be temporary: the run has no share while it cannot write its entry. After the
// share has ended for this reason, keepAlive returns an error if an operation of the store
// times out.
func (t *membership) keepAlive(ctx context.Context, enough, failed <-chan struct{}) error {
	if t == nil {
		return nil
	}
	for {
		timer, beat := time.NewTimer(t.interval()), t.heartbeat
		select {
		case <-timer.C:
		case <-t.wake:
			beat = t.announce
		case <-enough:
		case <-failed:
		}
		timer.Stop()
		if closed(enough) || closed(failed) {
			return nil
		}
		if err := t.renew(ctx, beat); err != nil {
			return err
		}
	}
}

// renew calls beat, which is heartbeat or announce. While this run may still send, it may take
// at most the time of a lease.
func (t *membership) renew(ctx context.Context, beat func(context.Context) error) error {
	lapsed := time.Since(t.lastWrite()) > lapse(t.lease)
	bounded, cancel := ctx, context.CancelFunc(func() {})
	if !lapsed {
		bounded, cancel = context.WithTimeout(ctx, t.lease)
	}
	defer cancel()
	err := beat(bounded)
	t.mu.Lock()
	t.failing = err != nil
	t.mu.Unlock()
	if errors.Is(err, ErrFenced) || IsUnreadable(err) || lapsed && ctx.Err() == nil {
		return err
	}
	return nil
}

func (t *membership) lastWrite() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.written
}

// isIdle reports whether the member list lists this run as idle and without a partition.
func (t *membership) isIdle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	me, listed := t.view.Members[t.me]
	return listed && me.Busy == 0 && len(me.Holds) == 0 && t.share.Runs == 0
}

// leave ends the share of this run and removes it from the member list.
func (t *membership) leave(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.heartbeatLock.lock(ctx); err != nil {
		return err
	}
	defer t.heartbeatLock.unlock()
	t.divide(Share{})
	found := t.latest.found
	for range heartbeatAttempts {
		r, before, err := t.read(ctx, found)
		if errors.Is(err, ErrConflict) {
			found = err
			continue
		}
		if _, listed := r.Members[t.me]; errors.Is(err, ErrFenced) || err == nil && !listed {
			return nil
		}
		if err != nil {
			return err
		}
		r.remove(t.me)
		_, found = t.passes.swap(ctx, before, t.passes.memberListID(), "roster", r)
		if !errors.Is(found, ErrConflict) {
			return found
		}
	}
	return ErrConflict
}

// ctxLock is a lock that may be held during requests. A goroutine that waits for it stops
// waiting when its context ends.
type ctxLock chan struct{}

func (l ctxLock) lock(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l ctxLock) unlock() { <-l }

// pause waits for d, or returns the reason why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
