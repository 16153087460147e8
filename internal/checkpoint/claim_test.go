package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const lease = 6 * time.Second

// join returns a tracker of another run on the pass.
func join(t *testing.T, passes *Passes, pass Pass, id string) *Tracker {
	t.Helper()
	tracker, err := passes.Track(t.Context(), pass,
		TrackOptions{Window: 3, Interval: 10 * time.Millisecond, Worker: id, Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	return tracker
}

func begin(t *testing.T, partitions int) (*Passes, Pass) {
	t.Helper()
	passes := NewPasses(NewMemory(), "j")
	pass, err := passes.Begin(t.Context(), 0, newPass(partitions))
	if err != nil {
		t.Fatal(err)
	}
	return passes, pass
}

// TestSilentRunIsFencedOff: a run without heartbeats loses its partitions after a lease. Its next
// operation returns ErrFenced.
func TestSilentRunIsFencedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, pass := begin(t, 2)
		silent := join(t, passes, pass, "silent")
		claimAll(t, silent)
		ticket, err := silent.Begin(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		heir := join(t, passes, pass, "heir")
		beating, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- heir.Run(t.Context(), beating.Done()) }()
		began := time.Now()
		for range 2 {
			claimed, ok, err := heir.Claim(t.Context())
			if err != nil || !ok || len(claimed.Cursor) != 0 {
				t.Fatalf("Claim = %+v, %v, %v", claimed, ok, err)
			}
		}
		if waited := time.Since(began); waited < lease || waited > 3*lease {
			t.Errorf("took over after %s, want one to three leases of %s", waited, lease)
		}
		page(0, 0, 1, ticket)
		if err := silent.Flush(t.Context()); !errors.Is(err, ErrFenced) {
			t.Errorf("save of the silent run: %v, want ErrFenced", err)
		}
		if err := silent.Run(t.Context(), nil); !errors.Is(err, ErrFenced) {
			t.Errorf("heartbeat of the silent run: %v, want ErrFenced", err)
		}
		if progress, err := passes.Progress(t.Context(), 1, 0, 0); err != nil ||
			progress.Owner != "heir" || progress.Counts.Slots.Seen != 0 {
			t.Errorf("the partition is %+v, %v", progress, err)
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// TestClosedPartitionsAreFreeAtOnce: other runs can claim the partitions of a run that has ended
// normally without waiting.
func TestClosedPartitionsAreFreeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, pass := begin(t, 3)
		first := join(t, passes, pass, "first")
		claimAll(t, first)
		if err := first.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		claimAll(t, join(t, passes, pass, "second"))
		if waited := time.Since(began); waited != 0 {
			t.Errorf("claims took %s, want no wait", waited)
		}
	})
}

// TestRestartFencesTheOldPass: a new pass fences off the runs of the old pass.
func TestRestartFencesTheOldPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, pass := begin(t, 1)
		old := join(t, passes, pass, "old")
		next, err := passes.Restart(t.Context(), newPass(1))
		if err != nil || next.Number != 2 {
			t.Fatalf("Restart = pass %d, %v", next.Number, err)
		}
		join(t, passes, next, "new")
		if err := old.Run(t.Context(), nil); !errors.Is(err, ErrFenced) {
			t.Errorf("heartbeat on the old pass: %v, want ErrFenced", err)
		}
		if last, err := passes.Last(t.Context()); err != nil || last.Number != 2 {
			t.Errorf("the last pass is %d, %v", last.Number, err)
		}
		if kept, err := passes.Pass(t.Context(), 1); err != nil || kept.Status != Running {
			t.Errorf("the old pass is %+v, %v", kept, err)
		}
	})
}

// claims records the run that works on each partition.
type claims struct {
	mu    sync.Mutex
	by    map[int]string
	pages map[string]int // begun, by run
}

func (c *claims) enter(t *testing.T, partition int, run string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.by[partition]; other != "" {
		t.Errorf("partition %d is held by both %s and %s", partition, other, run)
	}
	c.by[partition] = run
}

func (c *claims) leave(partition int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.by, partition)
}

// TestRunsSharePartitions: several runs that join one after the other share the partitions. At most
// one run works on a partition at a time, and every page is counted once.
func TestRunsSharePartitions(t *testing.T) {
	for _, runs := range []int{2, 5} {
		t.Run(fmt.Sprint(runs), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testRunsSharePartitions(t, runs) })
		})
	}
}

func testRunsSharePartitions(t *testing.T, runs int) {
	const partitions, pages = 10, 300
	passes, pass := begin(t, partitions)
	work := &claims{by: map[int]string{}, pages: map[string]int{}}
	var group sync.WaitGroup
	for w := range runs {
		group.Go(func() {
			time.Sleep(time.Duration(w) * 700 * time.Millisecond)
			id := fmt.Sprintf("worker-%d", w)
			tracker := join(t, passes, pass, id)
			running, stop := context.WithCancel(t.Context())
			var saver sync.WaitGroup
			saver.Go(func() {
				if err := tracker.Run(t.Context(), running.Done()); err != nil {
					t.Errorf("%s: %v", id, err)
				}
			})
			var scanners sync.WaitGroup
			for range 4 {
				scanners.Go(func() { walkPages(t, tracker, work, id, pages) })
			}
			scanners.Wait()
			stop()
			saver.Wait()
			if err := tracker.Close(t.Context()); err != nil {
				t.Errorf("%s: Close: %v", id, err)
			}
		})
	}
	group.Wait()
	totals, err := passes.Totals(t.Context(), pass)
	if err != nil || totals["t"].Slots.Seen != partitions*pages {
		t.Errorf("%d pages counted, %v, want %d", totals["t"].Slots.Seen, err, partitions*pages)
	}
	if records, err := passes.Records(t.Context(), pass); err != nil || !records.Done() {
		t.Errorf("a partition of the pass is not done, %v", err)
	}
	for w := range runs {
		if id := fmt.Sprintf("worker-%d", w); work.pages[id] < partitions*pages/runs/4 {
			t.Errorf("%s processed %d of %d pages, which is less than a fair share: %v",
				id, work.pages[id], partitions*pages, work.pages)
		}
	}
}

// walkPages claims partitions and completes their pages, like a scanner of the engine.
func walkPages(t *testing.T, tracker *Tracker, work *claims, id string, pages int) {
	for {
		claimed, ok, err := tracker.Claim(t.Context())
		if err != nil || !ok {
			if err != nil {
				t.Errorf("%s: Claim: %v", id, err)
			}
			return
		}
		work.enter(t, claimed.Index, id)
		n, _ := strconv.Atoi(string(claimed.Cursor))
		for ; n < pages; n++ {
			ticket, err := tracker.Begin(t.Context(), claimed.Index)
			if errors.Is(err, ErrYield) {
				break
			}
			if err != nil {
				t.Errorf("%s: Begin: %v", id, err)
				return
			}
			work.mu.Lock()
			work.pages[id]++
			work.mu.Unlock()
			time.Sleep(time.Duration(50+rand.IntN(100)) * time.Millisecond)
			page(claimed.Index, n, pages, ticket)
		}
		work.leave(claimed.Index)
	}
}

// TestConcurrentBegin: runs that begin at the same time work on one pass. An unlinked pass is used
// and not duplicated.
func TestConcurrentBegin(t *testing.T) {
	store := NewMemory()
	var group sync.WaitGroup
	var mu sync.Mutex
	numbers := map[int]int{}
	for w := range 8 {
		group.Go(func() {
			passes := NewPasses(store, "j")
			mine := newPass(1)
			mine.Started = time.Unix(int64(w), 0).UTC()
			for range 100 {
				last, err := passes.Last(t.Context())
				if errors.Is(err, ErrNotFound) {
					last, err = passes.Begin(t.Context(), 0, mine)
				}
				if errors.Is(err, ErrFenced) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				stored, err := passes.Pass(t.Context(), last.Number)
				if err != nil || !stored.Started.Equal(last.Started) {
					t.Errorf("the run works on the pass started at %s, but the stored one "+
						"started at %s, %v", last.Started, stored.Started, err)
				}
				mu.Lock()
				numbers[last.Number]++
				mu.Unlock()
				return
			}
			t.Error("fenced off 100 times")
		})
	}
	group.Wait()
	if numbers[1] != 8 {
		t.Errorf("runs by pass: %v, want 8 on pass 1", numbers)
	}
}

// TestRestartAfterUnreadableRecords: everything that reads an unreadable record, or one of another
// version, fails, except a restart. The restart keeps the record and begins a pass that runs can
// join and finish.
func TestRestartAfterUnreadableRecords(t *testing.T) {
	for _, id := range []string{"jobs/j/head", "jobs/j/roster", "jobs/j/pass/1",
		"jobs/j/pass/1/partition/0/1", "jobs/j/pass/1/ledger/0/1/1.0"} {
		for how, change := range map[string]func([]byte) []byte{
			"cut": func(data []byte) []byte {
				return append(data[:len(data)-1:len(data)-1], ' ')
			},
			"empty": func([]byte) []byte { return nil },
			"older": func(data []byte) []byte {
				return bytes.Replace(data, []byte(`"schema":2`), []byte(`"schema":1`), 1)
			},
			"newer": func(data []byte) []byte {
				return bytes.Replace(data, []byte(`"schema":2`), []byte(`"schema":3`), 1)
			},
		} {
			t.Run(id+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testRestartAfterUnreadable(t, id, change) })
			})
		}
	}
}

func testRestartAfterUnreadable(t *testing.T, id string, change func([]byte) []byte) {
	store := NewMemory()
	passes := NewPasses(store, "j")
	pass, err := passes.Begin(t.Context(), 0, newPass(2))
	if err != nil {
		t.Fatal(err)
	}
	finishPage(t, join(t, passes, pass, "first")) // one partition of two
	e, err := store.Fetch(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	broken := change(e.Data)
	if _, err := store.Replace(t.Context(), e, broken); err != nil {
		t.Fatal(err)
	}
	if err := openAll(t, passes); !IsUnreadable(err) {
		t.Errorf("with %s unreadable: %v, want *CorruptError or *SchemaError", id, err)
	}
	next, err := passes.Restart(t.Context(), newPass(2))
	if err != nil || next.Number != 2 {
		t.Fatalf("Restart = pass %d, %v", next.Number, err)
	}
	if last, err := passes.Last(t.Context()); err != nil || last.Number != 2 {
		t.Errorf("after the restart the last pass is %d, %v", last.Number, err)
	}
	tracker := join(t, passes, next, "second")
	finishPage(t, tracker)
	finishPage(t, tracker)
	if err := tracker.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := openAll(t, passes); err != nil {
		t.Errorf("records after the restart: %v", err)
	}
	if records, err := passes.Records(t.Context(), next); err != nil || !records.Done() {
		t.Errorf("a partition of the new pass is not done, %v", err)
	}
	if !kept(store, id, broken) {
		t.Errorf("the restart did not keep %s", id)
	}
}

// finishPage completes a partition with one page and one ledger entry.
func finishPage(t *testing.T, tracker *Tracker) {
	t.Helper()
	claimed, ok, err := tracker.Claim(t.Context())
	if err != nil || !ok {
		t.Fatalf("Claim = %v, %v", ok, err)
	}
	ticket, err := tracker.Begin(t.Context(), claimed.Index)
	if err != nil {
		t.Fatal(err)
	}
	ticket.Complete(nil, true, Counts{}, []LedgerEntry{{Ref: "item"}})
	if err := tracker.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// openAll reads all records of the last pass that a run needs.
func openAll(t *testing.T, passes *Passes) error {
	last, err := passes.Last(t.Context())
	if err != nil {
		return err
	}
	if _, err := passes.Totals(t.Context(), last); err != nil {
		return err
	}
	_, err = passes.Track(t.Context(), last, TrackOptions{Worker: "another", Lease: lease})
	return err
}

// kept reports whether the record or a copy of it is unchanged.
func kept(store *Memory, id string, data []byte) bool {
	for there, e := range store.records {
		if (there == id || strings.HasPrefix(there, id+".kept-")) && bytes.Equal(e.Data, data) {
			return true
		}
	}
	return false
}

// TestClaimsAreShared: a target with slow partitions does not delay the partitions of other
// targets.
func TestClaimsAreShared(t *testing.T) {
	passes := NewPasses(NewMemory(), "j")
	plan := newPass(8)
	plan.Targets = append(plan.Targets, plan.Targets[0])
	plan.Targets[0].Name, plan.Targets[1].Name = "slow", "other"
	pass, err := passes.Begin(t.Context(), 0, plan)
	if err != nil {
		t.Fatal(err)
	}
	tracker, err := passes.Track(t.Context(), pass, TrackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	claimed := map[string]int{}
	claim := func() (int, string) {
		got, ok, err := tracker.Claim(t.Context())
		if err != nil || !ok {
			t.Fatalf("Claim = %v, %v", ok, err)
		}
		target := pass.Targets[got.Index/8].Name
		claimed[target]++
		return got.Index, target
	}
	var others []int
	for range 4 {
		if index, target := claim(); target == "other" {
			others = append(others, index)
		}
	}
	if claimed["slow"] != 2 {
		t.Errorf("%d of the first four claims are of the slow target, want 2", claimed["slow"])
	}
	for len(others) > 0 {
		ticket, err := tracker.Begin(t.Context(), others[0])
		if err != nil {
			t.Fatal(err)
		}
		ticket.Complete(nil, true, Counts{}, nil)
		if err := tracker.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		others = others[1:]
		if index, target := claim(); target == "other" {
			others = append(others, index)
		} else if claimed["other"] < 8 {
			t.Fatalf("claimed a third partition of the slow target while the other target had "+
				"%d left",
				8-claimed["other"])
		}
	}
}
