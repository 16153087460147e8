package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// roster says which workers are on the last pass of a job. Each adds to its own
// beat; nobody's clock is compared with another's.
type roster struct {
	Pass    int              `json:"pass"`
	Workers map[string]int64 `json:"workers"`          // beats, by the id of the worker
	Guests  map[string]bool  `json:"guests,omitempty"` // those among them that claim no partition
}

// drop strikes a worker off.
func (r *roster) drop(id string) {
	delete(r.Workers, id)
	delete(r.Guests, id)
}

// mendRoster puts an empty roster of a pass in the place of one that cannot be
// trusted, which it keeps: nobody could join the pass otherwise. It comes after the
// head: a roster of a pass that the head does not name would fence everybody off.
func (p *Passes) mendRoster(ctx context.Context, pass int) error {
	for range beatAttempts {
		var r roster
		before, broken, err := p.look(ctx, p.rosterID(), "roster", &r)
		if err != nil || !broken {
			return err
		}
		if err := p.keep(ctx, before); err != nil {
			return err
		}
		err = p.swap(ctx, before, p.rosterID(), "roster", roster{Pass: pass, Workers: map[string]int64{}})
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return ErrConflict
}

// team is what one worker knows of the others on its pass. A worker whose beat
// stood still for a whole lease, by the monotonic clock of whoever watches, is
// taken for dead: it leaves the roster, and its partitions are free. That is only
// a belief, and the clocks may be wrong; what keeps a worker that was given up
// from moving a cursor is that the record of the partition has changed under it.
type team struct {
	passes *Passes
	pass   int
	me     string
	guest  bool // it claims no partition
	lease  time.Duration

	beating turn // of reading and writing the roster
	joined  bool // guarded by beating
	// ready is when every living worker has seen this one, and shares with it.
	ready time.Time

	mu   sync.Mutex
	seen map[string]sighting // the others; replaced, never changed
}

func newTeam(passes *Passes, pass int, me string, lease time.Duration) *team {
	return &team{passes: passes, pass: pass, me: me, lease: lease, beating: make(turn, 1), seen: map[string]sighting{}}
}

// sighting is when a beat was first seen.
type sighting struct {
	beat  int64
	at    time.Time
	guest bool
}

// beatAttempts bounds how often one beat is tried while others write the roster.
const beatAttempts = 50

// beat says that this worker is alive, joining the pass with the first, looks who
// else is, and strikes off those who are not. ErrFenced when this worker was
// struck off itself, or when the job is at a later pass.
func (t *team) beat(ctx context.Context) error {
	if err := t.beating.take(ctx); err != nil {
		return err
	}
	defer t.beating.give()
	for n := range beatAttempts { // of those who collide, one always wins
		err := t.tryBeat(ctx)
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
	var r roster
	before, err := t.passes.fetch(ctx, t.passes.rosterID(), "roster", &r)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if r.Pass > t.pass || t.joined && (r.Pass < t.pass || r.Workers[t.me] == 0) {
		return ErrFenced
	}
	// Who is still on an earlier pass learns with its next beat that this is over.
	late := r.Pass < t.pass && len(r.Workers) > 0
	if r.Pass < t.pass || r.Workers == nil {
		r = roster{Pass: t.pass, Workers: map[string]int64{}}
	}
	seen := t.strikeOff(&r)
	r.Workers[t.me]++
	if t.guest {
		if r.Guests == nil {
			r.Guests = map[string]bool{}
		}
		r.Guests[t.me] = true
	}
	if err := t.passes.swap(ctx, before, t.passes.rosterID(), "roster", r); err != nil {
		return err
	}
	if !t.joined && (late || len(seen) > 0) {
		t.ready = time.Now().Add(t.lease / 3)
	}
	t.joined = true
	t.mu.Lock()
	t.seen = seen
	t.mu.Unlock()
	return nil
}

// strikeOff takes the workers off the roster whose beat stands still, and returns
// the others.
func (t *team) strikeOff(r *roster) map[string]sighting {
	now, seen := time.Now(), map[string]sighting{}
	for id, beat := range r.Workers {
		last, known := t.seen[id]
		switch {
		case id == t.me:
		case !known || last.beat != beat:
			seen[id] = sighting{beat: beat, at: now, guest: r.Guests[id]}
		case now.Sub(last.at) > t.lease:
			r.drop(id)
		default:
			seen[id] = last
		}
	}
	return seen
}

// alive says whether the worker was on the roster, apart from ourselves, when we
// wrote it last.
func (t *team) alive(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.seen[id]
	return ok
}

// size is how many workers there are, with this one. Nobody but this one is in a nil
// team.
func (t *team) size() int {
	if t == nil {
		return 1
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.seen) + 1
}

// claimants is how many of them claim partitions, with this one.
func (t *team) claimants() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 1
	for _, s := range t.seen {
		if !s.guest {
			n++
		}
	}
	return n
}

// await waits until every other worker knows of this one.
func (t *team) await(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return pause(ctx, time.Until(t.ready))
}

// beats keeps this worker on the roster until enough or failed is closed. What else
// goes wrong than being struck off may pass: saving tells, and is what counts.
func (t *team) beats(ctx context.Context, enough, failed <-chan struct{}) error {
	if t == nil {
		return nil
	}
	ticker := time.NewTicker(t.lease / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-enough:
			return nil
		case <-failed:
			return nil
		}
		if closed(enough) {
			return nil
		}
		bounded, cancel := context.WithTimeout(ctx, t.lease)
		err := t.beat(bounded)
		cancel()
		if errors.Is(err, ErrFenced) {
			return err
		}
	}
}

// leave takes this worker off the roster.
func (t *team) leave(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.beating.take(ctx); err != nil {
		return err
	}
	defer t.beating.give()
	for range beatAttempts {
		var r roster
		before, err := t.passes.fetch(ctx, t.passes.rosterID(), "roster", &r)
		if errors.Is(err, ErrNotFound) || err == nil && (r.Pass != t.pass || r.Workers[t.me] == 0) {
			return nil
		}
		if err != nil {
			return err
		}
		r.drop(t.me)
		if err := t.passes.swap(ctx, before, t.passes.rosterID(), "roster", r); !errors.Is(err, ErrConflict) {
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
