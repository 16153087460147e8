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

// How often a run reads the roster. It is never less often than it must write.
const (
	// readAlone is the interval of the only run of a pass.
	readAlone = time.Second
	// If there are several runs, the interval is 1/readPart of the time since the last
	// change, at least readSoon and at most readShared. For a run that waits for a
	// partition, it is 1/readPart of the time that it has waited, at most readAlone.
	readSoon   = 100 * time.Millisecond
	readShared = 500 * time.Millisecond
	readPart   = 80
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

// team is the membership of one run in its pass, and its view of the other runs. If the beat of
// a run has not changed for a full lease, by the monotonic clock of the observer, the run is
// removed from the roster, and its partitions are free. Correctness does not depend on clocks:
// a removed run cannot move a cursor, because the record of the partition has changed.
type team struct {
	passes *Passes
	pass   int
	me     string
	guest  bool // it claims no partition
	// visits is true for a guest that must not end runs of the previous version.
	visits bool
	lease  time.Duration
	// state returns the partitions that this run holds, and whether it waits for one.
	// It is nil for a guest.
	state func() (holds []int, waits bool)
	// shed is called while another run waits and has no partition. No locks are held.
	shed func()

	beating turn // of reading and writing the roster
	// The following fields are guarded by beating.
	joined bool
	fenced bool
	seen   map[string]sighting // when the beats of the other runs changed last

	wake chan struct{} // holds a token when there is something to write

	mu      sync.Mutex
	written time.Time // when the last successful write began
	failing bool      // the last beat failed
	view    roster    // as read or written last
	wanted  int       // uses of the rate
	idle    time.Time // since when wanted is 0
	asked   time.Time // since when this run waits for its share
	waiting time.Time // since when this run waits for a partition; zero if it does not
	moved   time.Time // when the other runs in view changed last
	share   Share
	use     func(Share) // receives each new share
	version int         // changes with the members and their partitions in view
	news    chan struct{}
}

func newTeam(passes *Passes, pass int, me string, lease time.Duration) *team {
	return &team{
		passes:  passes,
		pass:    pass,
		me:      me,
		lease:   lease,
		shed:    func() {},
		beating: make(turn, 1),
		seen:    map[string]sighting{},
		wake:    make(chan struct{}, 1),
		use:     func(Share) {},
		news:    make(chan struct{}),
	}
}

// sighting is when a beat was first seen.
type sighting struct {
	beat int64
	at   time.Time
}

// beatAttempts bounds how often one beat is tried while others write the roster.
const beatAttempts = 50

// beat reads the roster and applies its division of the rate. It writes the entry of this run
// if the entry has changed or the last write is too old. The first beat joins the pass. The
// error is ErrFenced if this run was removed from the roster or the job is at a later pass; the
// run has no share then.
func (t *team) beat(ctx context.Context) error {
	if err := t.beating.take(ctx); err != nil {
		return err
	}
	defer t.beating.give()
	for n := range beatAttempts { // of those that collide, one always wins
		err := t.tryBeat(ctx)
		if errors.Is(err, ErrFenced) {
			t.fenced = true
			t.divide(Share{})
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
		if err := pause(ctx, time.Duration(n)*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("the roster of the pass was written by others %d times in a row", beatAttempts)
}

func (t *team) tryBeat(ctx context.Context) error {
	began := time.Now()
	stored, before, err := t.read(ctx)
	if err != nil {
		return err
	}
	me, listed := stored.Members[t.me]
	if t.fenced || t.joined && !listed {
		return ErrFenced
	}
	dead := t.look(stored, began)
	if listed {
		t.keep(stored) // before the entry confirms the division
	}
	next, busy := t.next(stored, me, began)
	for _, id := range dead {
		next.drop(id)
	}
	fresh := began.Sub(t.lastWrite()) < t.lease/writeParts
	if listed && fresh && len(dead) == 0 && me.equal(next.Members[t.me]) {
		return nil
	}
	if !busy {
		t.divide(Share{})
	}
	m := next.Members[t.me]
	m.Beat++
	next.set(t.me, m, busy)
	if err := t.passes.swap(ctx, before, t.passes.rosterID(), "roster", next); err != nil {
		return err
	}
	t.joined = true
	t.mu.Lock()
	t.written = began
	t.mu.Unlock()
	t.keep(next)
	return nil
}

// read returns the roster from the view of this run.
func (t *team) read(ctx context.Context) (r roster, before Entry, err error) {
	var stored roster
	before, err = t.passes.fetch(ctx, t.passes.rosterID(), "roster", &stored)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return roster{}, Entry{}, err
	}
	if t.visits && stored.earlierRuns(t.pass) {
		return roster{}, Entry{}, ErrEarlierRuns
	}
	r, err = stored.on(t.passes.rosterID(), t.pass)
	if _, ghost := stored.Ghosts[t.me]; ghost && errors.Is(err, ErrFenced) {
		// The runs of the later pass wait until this run writes that it has stopped sending.
		t.divide(Share{})
		stored.drop(t.me)
		left := t.passes.swap(ctx, before, t.passes.rosterID(), "roster", stored)
		if errors.Is(left, ErrConflict) {
			return roster{}, Entry{}, left // try again
		}
	}
	return r.clone(), before, err
}

// next returns the roster with the new entry of this run, and whether the run is busy. The beat
// is not incremented yet; an unchanged entry need not be written.
func (t *team) next(stored roster, me member, now time.Time) (next roster, busy bool) {
	me.Guest = t.guest
	if t.state != nil {
		me.Holds, me.Waits = t.state()
	}
	if len(stored.Members) <= 1 && len(stored.Ghosts) == 0 {
		me.Holds = nil // no other run reads it
	}
	t.mu.Lock()
	busy = t.wanted > 0 || me.Busy > 0 && t.waiting.IsZero() && now.Sub(t.idle) < idleAfter
	t.mu.Unlock()
	next = stored.clone()
	next.set(t.me, me, busy)
	return next, busy
}

// look records the beats of the other runs in a roster that was read since began. It returns
// the runs whose beats have not changed for a lease. A beat that has changed was written before
// the end of the read. A beat that has not changed was still the last one when the read began.
func (t *team) look(r roster, began time.Time) (dead []string) {
	now := time.Now()
	beats := maps.Clone(r.Ghosts)
	if beats == nil {
		beats = map[string]int64{}
	}
	for id, m := range r.Members {
		beats[id] = m.Beat
	}
	seen := map[string]sighting{}
	for id, beat := range beats {
		last, known := t.seen[id]
		switch {
		case id == t.me:
		case !known || last.beat != beat:
			seen[id] = sighting{beat: beat, at: now}
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

// keep stores a roster that lists this run as its view, and applies its share.
func (t *team) keep(r roster) {
	t.mu.Lock()
	share := Share{Runs: r.share(t.me), Until: t.written.Add(lapse(t.lease))}
	moved := !t.view.sameWork(r, t.me)
	if moved || r.Division != t.view.Division {
		t.moved = time.Now()
	}
	t.view = r
	if moved {
		t.version++
		close(t.news)
		t.news = make(chan struct{})
	}
	t.mu.Unlock()
	t.divide(share)
	if t.others().hungry {
		t.shed()
	}
}

// sameWork reports whether two rosters have the same other runs with the same partitions.
func (r roster) sameWork(other roster, me string) bool {
	same := func(a, b member) bool {
		return a.Waits == b.Waits && a.Guest == b.Guest && slices.Equal(a.Holds, b.Holds)
	}
	a, b := maps.Clone(r.Members), maps.Clone(other.Members)
	delete(a, me)
	delete(b, me)
	return maps.EqualFunc(a, b, same)
}

// divide passes a share to the receiver, which has applied it when divide returns.
func (t *team) divide(share Share) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if share.Runs > 0 {
		t.asked = time.Time{}
	}
	t.share = share
	t.use(share)
}

// onShare sets the receiver of shares. It must not call the team.
func (t *team) onShare(use func(Share)) {
	if t == nil {
		use(sole)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.use = use
	use(t.share)
}

// want adds n to the number of uses of the rate. n may be negative.
func (t *team) want(uses int) {
	if t == nil || uses == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.wanted
	t.wanted += uses
	switch {
	case before == 0:
		t.asked = time.Now()
		signal(t.wake)
	case t.wanted == 0:
		t.idle = time.Now()
		signal(t.wake)
	}
}

// say makes the run write its entry soon, if there are others to read it.
func (t *team) say() {
	if t.size() > 1 {
		signal(t.wake)
	}
}

// alive reports whether the roster listed another run when it was read last.
func (t *team) alive(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.view.Members[id]
	_, ghost := t.view.Ghosts[id]
	return id != t.me && (ok || ghost)
}

// taken reports whether the last roster lists a partition as held by another run.
func (t *team) taken(partition int) bool {
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
func (t *team) size() int {
	if t == nil {
		return 1
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.view.Members)
}

// waitsSince records since when this run waits for a partition; zero means that it does not.
func (t *team) waitsSince(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting.IsZero() != at.IsZero() {
		t.waiting = at
		signal(t.wake)
	}
}

// seenVersion returns a number that changes with the members and their partitions, and a
// channel that is closed with the next change.
func (t *team) seenVersion() (version int, changed <-chan struct{}) {
	if t == nil {
		return 0, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.version, t.news
}

// others summarizes the other runs on the roster that claim partitions.
type others struct {
	runs   int
	held   int  // partitions
	waits  bool // one of them waits for a partition
	hungry bool // one of them waits and has none
}

func (t *team) others() (o others) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, m := range t.view.Members {
		if id == t.me || m.Guest {
			continue
		}
		o.runs++
		o.held += len(m.Holds)
		o.waits = o.waits || m.Waits
		o.hungry = o.hungry || m.hungry()
	}
	return o
}

// gives reports whether this run, which holds partitions, must hand one over.
func (t *team) gives(held int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.view.gives(t.me, held)
}

// interval returns the time until the next beat, after a beat that ended now.
func (t *team) interval() time.Duration {
	now := time.Now()
	due := t.lease / writeParts
	t.mu.Lock()
	defer t.mu.Unlock()
	alone := len(t.view.Members) <= 1 && len(t.view.Ghosts) == 0
	switch busy := t.view.Members[t.me].Busy > 0; {
	case t.failing:
		return min(due, readSoon)
	case t.wanted == 0 && busy:
		return max(min(due, t.idle.Add(idleAfter).Sub(now)), 0)
	case alone:
		return min(due, readAlone)
	case t.wanted > 0 && t.share.Runs == 0 && now.Sub(t.asked) < soonFor:
		return min(due, readSoon)
	case t.wanted == 0 && !t.waiting.IsZero():
		return min(due, max(readSoon, min(now.Sub(t.waiting)/readPart, readAlone)))
	}
	return min(due, max(readSoon, min(now.Sub(t.moved)/readPart, readShared)))
}

// ready waits until this run has a share of the rate.
func (t *team) ready(ctx context.Context) error {
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
		if err := t.beat(ctx); ctx.Err() != nil || errors.Is(err, ErrFenced) {
			return err
		}
	}
}

// beats keeps this run on the roster until enough or failed is closed. Errors of the service
// may be temporary: the run has no share while it cannot write its entry. After the share has
// ended for this reason, beats gives up when an operation of the store times out.
func (t *team) beats(ctx context.Context, enough, failed <-chan struct{}) error {
	if t == nil {
		return nil
	}
	for {
		timer := time.NewTimer(t.interval())
		select {
		case <-timer.C:
		case <-t.wake:
		case <-enough:
		case <-failed:
		}
		timer.Stop()
		if closed(enough) || closed(failed) {
			return nil
		}
		if err := t.renew(ctx); err != nil {
			return err
		}
	}
}

// renew calls beat. While this run may still send, the beat may take at most the time of a
// lease.
func (t *team) renew(ctx context.Context) error {
	lapsed := time.Since(t.lastWrite()) > lapse(t.lease)
	bounded, cancel := ctx, context.CancelFunc(func() {})
	if !lapsed {
		bounded, cancel = context.WithTimeout(ctx, t.lease)
	}
	defer cancel()
	err := t.beat(bounded)
	t.mu.Lock()
	t.failing = err != nil
	t.mu.Unlock()
	if errors.Is(err, ErrFenced) || Untrusted(err) || lapsed && ctx.Err() == nil {
		return err
	}
	return nil
}

func (t *team) lastWrite() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.written
}

// leave ends the share of this run and removes it from the roster.
func (t *team) leave(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.beating.take(ctx); err != nil {
		return err
	}
	defer t.beating.give()
	t.divide(Share{})
	for range beatAttempts {
		r, before, err := t.read(ctx)
		if errors.Is(err, ErrConflict) {
			continue
		}
		if _, listed := r.Members[t.me]; errors.Is(err, ErrFenced) || err == nil && !listed {
			return nil
		}
		if err != nil {
			return err
		}
		r.drop(t.me)
		err = t.passes.swap(ctx, before, t.passes.rosterID(), "roster", r)
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return ErrConflict
}

// turn is a lock that may be held during requests: whoever waits for it gives up
// when its context ends.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) give() { <-t }

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
