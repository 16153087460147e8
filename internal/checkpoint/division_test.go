package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// shares receives the shares of one worker.
type shares struct {
	mu  sync.Mutex
	now Share
}

func (s *shares) set(share Share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = share
}

// get returns the current share.
func (s *shares) get() Share {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.now.Until.IsZero() && !time.Now().Before(s.now.Until) {
		return Share{}
	}
	return s.now
}

// waitVisible waits until the rate is divided among the given number of runs, and returns the time
// that it waited.
func (s *shares) waitVisible(t *testing.T, runs int, most time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	for s.get().Runs != runs {
		if time.Since(began) > most {
			t.Fatalf("the rate is divided by %d after %v, want %d", s.get().Runs, most, runs)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(began)
}

// runUntil runs a tracker until stop is called.
func runUntil(t *testing.T, tracker *Tracker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- tracker.Run(t.Context(), ctx.Done()) }()
	return func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}
}

// worker returns a running tracker of another run on the pass, its shares, and a function that
// stops it.
func worker(t *testing.T, passes *Passes, pass Pass, id string) (*Tracker, *shares, func()) {
	t.Helper()
	tracker, got := join(t, passes, pass, id), &shares{}
	tracker.OnShare(got.set)
	return tracker, got, runUntil(t, tracker)
}

// TestRunsWithoutWorkHaveNoRate: the rate is divided among the runs that have work. A run
// without work gives its share back within a second, and a run that gets work has its share
// within two seconds.
func TestRunsWithoutWorkHaveNoRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, pass := begin(t, 1)
		first, one, stopFirst := worker(t, passes, pass, "first")
		claimAll(t, first)
		if waited := one.waitVisible(t, 1, time.Second); waited > 20*time.Millisecond {
			t.Errorf("the only run waited %v for its share", waited)
		}
		second, two, stopSecond := worker(t, passes, pass, "second")
		third, three, stopThird := worker(t, passes, pass, "third")
		for range 50 {
			time.Sleep(100 * time.Millisecond)
			if got := one.get().Runs; got != 1 {
				t.Fatalf("the rate is divided by %d, but only one run has work", got)
			}
		}
		for round := range 3 {
			done := second.Engage()
			two.waitVisible(t, 2, 2*time.Second)
			if one.get().Runs != 2 || three.get().Runs != 0 {
				t.Errorf("the second run has 1/2, but the first has 1/%d and the third 1/%d",
					one.get().Runs, three.get().Runs)
			}
			time.Sleep(time.Duration(round) * 7 * time.Second)
			more := third.Engage()
			three.waitVisible(t, 3, 2*time.Second)
			done()
			one.waitVisible(t, 2, time.Second)
			more()
			one.waitVisible(t, 1, time.Second)
			if two.get().Runs != 0 || three.get().Runs != 0 {
				t.Error("a run without work has a share")
			}
			time.Sleep(time.Duration(round) * 20 * time.Second)
		}
		stopThird()
		stopSecond()
		stopFirst()
	})
}

// TestDeadRunsKeepTheirShare: the share of a dead run is free after its lease. The share of a
// run that cannot write its entry ends before its lease.
func TestDeadRunsKeepTheirShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, pass := begin(t, 1)
		dead := join(t, passes, pass, "dead")
		last := &shares{}
		dead.OnShare(last.set)
		done := dead.Engage()
		defer done()
		if err := dead.membership.heartbeat(t.Context()); err != nil || last.get().Runs != 1 {
			t.Fatalf("share 1/%d, %v", last.get().Runs, err)
		}
		successor, got, stop := worker(t, passes, pass, "heir")
		began := time.Now()
		defer successor.Engage()()
		for got.get().Runs == 0 && time.Since(began) < 3*lease {
			time.Sleep(time.Millisecond)
			if got.get().Runs > 0 && last.get().Runs > 0 {
				t.Fatal("both runs have a share at the same time")
			}
		}
		if waited := time.Since(began); waited < lease || waited > lease+time.Second {
			t.Errorf("the successor has a share after %v, want a lease of %v", waited, lease)
		}
		err := dead.membership.heartbeat(t.Context())
		if !errors.Is(err, ErrFenced) || last.get().Runs != 0 {
			t.Errorf("the expired run: share 1/%d, %v", last.get().Runs, err)
		}
		stop()
	})
}

// oldMemberList is the member list as the previous version reads it.
type oldMemberList struct {
	Pass      int              `json:"pass"`
	Workers   map[string]int64 `json:"workers"`
	Observers map[string]bool  `json:"guests,omitempty"`
}

// TestMemberListOfThePreviousVersion: a member list of the previous version can be read. Its runs
// may still send, so the new run has no share until their leases are over. The old runs find a
// later pass in the member list that the new run writes, and end with ErrFenced.
func TestMemberListOfThePreviousVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, pass := begin(t, 1)
		before := oldMemberList{Pass: 1, Workers: map[string]int64{"old": 7}}
		_, err := passes.swap(t.Context(), Entry{}, passes.memberListID(), "roster", before)
		if err != nil {
			t.Fatal(err)
		}
		tracker, got, stop := worker(t, passes, pass, "new")
		defer tracker.Engage()()
		var read oldMemberList
		_, err = passes.fetch(t.Context(), passes.memberListID(), "roster", &read)
		if err != nil || read.Pass <= 1 {
			t.Errorf("the previous version sees %+v, %v, want a later pass", read, err)
		}
		if waited := got.waitVisible(t, 1, 2*lease); waited < lease {
			t.Errorf("the new run has a share after %v, want at least a lease of %v", waited, lease)
		}
		stop()
	})
}

// TestMemberListOfANewerVersion: a member list that a newer program wrote is refused because of its
// version number, and ends a run of the pass.
func TestMemberListOfANewerVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, pass := begin(t, 1)
		tracker := join(t, passes, pass, "worker")
		newer := newMemberList(1)
		newer.Form, newer.Pass = memberListForm+1, 2
		if err := passes.put(t.Context(), passes.memberListID(), "roster", newer); err != nil {
			t.Fatal(err)
		}
		schema := (*SchemaError)(nil)
		err := tracker.Run(t.Context(), nil)
		if !errors.As(err, &schema) || !schema.Newer() || schema.Schema != memberListForm+1 {
			t.Errorf("the run of the pass: %v", err)
		}
		_, err = passes.Track(t.Context(), pass, TrackOptions{Worker: "another", Lease: lease})
		if !errors.As(err, &schema) || !schema.Newer() {
			t.Errorf("another run: %v", err)
		}
	})
}

// counting counts the requests of a store.
type counting struct {
	Store
	mu             sync.Mutex
	fetches, saves int
}

func (c *counting) add(fetches, saves int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fetches, c.saves = c.fetches+fetches, c.saves+saves
}

func (c *counting) Fetch(ctx context.Context, id string) (Entry, error) {
	c.add(1, 0)
	return c.Store.Fetch(ctx, id)
}

func (c *counting) Replace(ctx context.Context, e Entry, data []byte) (Entry, error) {
	c.add(0, 1)
	return c.Store.Replace(ctx, e, data)
}

// TestRequestsOfWaitingRuns: a run that works alone on a pass, and one that waits for work, read
// one record per second, and write it three times per lease.
func TestRequestsOfWaitingRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Store: NewMemory()}
		passes := NewPasses(store, "j")
		pass, err := passes.Begin(t.Context(), 0, newPass(64))
		if err != nil {
			t.Fatal(err)
		}
		const minutes = 10
		cost := func(what string, fetches, saves int) {
			t.Helper()
			time.Sleep(2 * time.Minute) // until reads are infrequent
			store.mu.Lock()
			store.fetches, store.saves = 0, 0
			store.mu.Unlock()
			time.Sleep(minutes * time.Minute)
			store.mu.Lock()
			defer store.mu.Unlock()
			if store.fetches > minutes*fetches || store.saves > minutes*saves {
				t.Errorf("%s: %d reads and %d writes per minute",
					what, store.fetches/minutes, store.saves/minutes)
			}
		}
		first, _, stopFirst := worker(t, passes, pass, "first")
		claimAll(t, first)
		cost("alone", 60+1, 3*60/int(lease.Seconds())+1)
		second, _, stopSecond := worker(t, passes, pass, "second")
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error, 1)
		go func() {
			_, _, err := second.Claim(ctx)
			waited <- err
		}()
		cost("one run works and one waits", 2*60+60+2, 2*(3*60/int(lease.Seconds())+1))
		cancel()
		if err := <-waited; !errors.Is(err, context.Canceled) {
			t.Errorf("Claim of the waiting run: %v", err)
		}
		stopSecond()
		stopFirst()
	})
}

// TestMemberListShares: a run that becomes busy has no share until the other run has confirmed the
// division. Reading the record again gives the same shares.
func TestMemberListShares(t *testing.T) {
	r := newMemberList(1)
	for i := range 4 {
		r.set(fmt.Sprint(i), member{}, i == 0)
	}
	if got := r.share("0"); got != 1 {
		t.Errorf("the only busy run has 1/%d", got)
	}
	r.set("1", r.Members["1"], true)
	if got := r.share("1"); got != 0 {
		t.Errorf("a run has 1/%d before the other has confirmed the division", got)
	}
	r.set("0", r.Members["0"], true)
	if got := r.share("1"); got != 2 {
		t.Errorf("a run has 1/%d after the other has confirmed the division", got)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var again memberList
	if err := json.Unmarshal(text, &again); err != nil || again.share("1") != 2 {
		t.Errorf("decoded again: %+v, %v", again, err)
	}
}

// TestHandOverIsFenced: a run that joins gets a partition as soon as the page in progress is
// complete, and continues after that page. A run that lost its lease meanwhile cannot hand a
// partition over.
func TestHandOverIsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, pass := begin(t, 2)
		giver, _, stopGiver := worker(t, passes, pass, "giver")
		claimed := map[int]Claim{}
		tickets := map[int]*PageTicket{}
		for range 2 {
			c, ok, err := giver.Claim(t.Context())
			if !ok || err != nil {
				t.Fatal(ok, err)
			}
			claimed[c.Index] = c
			if tickets[c.Index], err = giver.Begin(t.Context(), c.Index); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		taker, _, stopTaker := worker(t, passes, pass, "taker")
		got := make(chan Claim, 1)
		go func() {
			c, ok, err := taker.Claim(t.Context())
			if !ok || err != nil {
				t.Error(ok, err)
			}
			got <- c
		}()
		given := -1
		select {
		case <-claimed[0].HandOver:
			given = 0
		case <-claimed[1].HandOver:
			given = 1
		case <-time.After(2 * time.Second):
			t.Fatal("no partition was handed over within 2 s")
		}
		if waited := time.Since(began); waited > 1500*time.Millisecond {
			t.Errorf("the hand-over began after %v", waited)
		}
		if _, err := giver.Begin(t.Context(), given); !errors.Is(err, ErrYield) {
			t.Errorf("Begin = %v, want ErrYield", err)
		}
		time.Sleep(2 * time.Second)
		select {
		case c := <-got:
			t.Fatalf("partition %d was handed over while one of its pages was open", c.Index)
		default:
		}
		page(given, 0, 3, tickets[given])
		ended := time.Now()
		if c := <-got; c.Index != given || string(c.Cursor) != "1" {
			t.Errorf("the other run has partition %d at %q, want %d at 1", c.Index, c.Cursor, given)
		}
		if waited := time.Since(ended); waited > time.Second {
			t.Errorf("the other run got the partition after %v, want at most 1s", waited)
		}
		stopTaker()
		stopGiver()
		testLateHandOver(t, passes, giver, 1-given)
	})
}

// testLateHandOver stores that another run has taken the partition. Its former holder then tries to
// hand it over, and has saved nothing meanwhile.
func testLateHandOver(t *testing.T, passes *Passes, giver *Tracker, index int) {
	t.Helper()
	progress, entry, err := passes.progress(t.Context(), 1, 0, index)
	if err != nil || progress.Owner != "giver" {
		t.Fatalf("%+v, %v", progress, err)
	}
	progress.Owner, progress.Epoch = "heir", progress.Epoch+1
	if _, err := passes.save(t.Context(), entry, entry.ID, "progress", progress); err != nil {
		t.Fatal(err)
	}
	if err := giver.Close(t.Context()); !errors.Is(err, ErrFenced) {
		t.Errorf("Close = %v, want ErrFenced", err)
	}
	now, err := passes.Progress(t.Context(), 1, 0, index)
	if err != nil || now.Owner != "heir" || len(now.Cursor) > 0 {
		t.Errorf("the partition is %+v, %v", now, err)
	}
}
