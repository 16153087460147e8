package rotate_test

import (
	"flag"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rotator/internal/checkpoint"
)

var (
	oneSeed = flag.Uint64("seed", 0, "simulate only this seed, and print its history with -v")
	seeds   = flag.Uint64("seeds", 60, "number of seeds to simulate; with -short a third of it")
	full    = flag.Bool("full", false, "compare all groups of runs")
)

// checkEarlier checks that the passes before a pass remain closed, and their counts.
func (h *history) checkEarlier(t *testing.T, number int) {
	t.Helper()
	for n := 1; n < number; n++ {
		pass, err := checkpoint.NewPasses(h.store, "job").Pass(t.Context(), n)
		if err != nil || pass.Status != checkpoint.Finished {
			t.Errorf("pass %d, which is not the last, is %s (%v)", n, pass.Status, err)
		}
		h.checkCounts(t, pass)
	}
}

// simulate simulates the history of a seed. It returns the log of the history and its universe.
func simulate(t *testing.T, seed uint64) (string, *universe) {
	u := newUniverse(seed)
	h := newHistory(t, u, u.chance(600, "shared"))
	var writer sync.WaitGroup
	defer writer.Wait()
	writer.Go(func() {
		for _, a := range u.applications(20 * time.Second) {
			time.Sleep(a.at - time.Since(u.began))
			u.apply(a)
		}
	})
	for n := range u.number(6, "generations") {
		h.generation(t.Context(), n)
	}
	first := h.finish(t, "last")
	writer.Wait()
	counts := h.checkCounts(t, first)
	h.checkEarlier(t, first.Number)
	total, deleted := int64(len(u.items)), int64(0)
	for _, item := range u.items {
		if item.slot == nil {
			deleted++
		}
	}
	if first.Number == 1 && (counts.Slots.Seen > total || counts.Slots.Seen < total-deleted) {
		t.Errorf("pass 1 counts %d slots of %d, of which %d were deleted", counts.Slots.Seen, total,
			deleted)
	}
	for _, violation := range u.check(false) {
		t.Error(violation)
	}
	// moves slots that were written after the cursor had passed
	h.checkConverged(t, h.finish(t, "second"))
	h.checkConverged(t, h.finish(t, "third")) // moves slots that headers hid from the second
	proof := h.finish(t, "verify")
	h.checkConverged(t, proof)
	last := h.checkCounts(t, proof)
	byHeaders := h.audit(t, "audit", false)
	if exact := h.audit(t, "exact audit", true); byHeaders != exact {
		t.Errorf("by headers: %s\nby KMS:     %s", byHeaders, exact)
	}
	if last.Slots.Rotated+last.Slots.Conflict+last.Slots.Gone != 0 ||
		last.Slots.Seen != total-deleted {
		t.Errorf("the last pass, without concurrent writes, counts %+v of %d", last.Slots,
			total-deleted)
	}
	if retried := h.checkCounts(t, h.retryLedger(t, "retry")); retried.Slots != last.Slots {
		t.Errorf("a retry of slots that cannot move changes the counts to %+v from %+v",
			retried.Slots, last.Slots)
	}
	for _, violation := range u.check(true) {
		t.Error(violation)
	}
	return u.log(), u
}

// TestSimulation simulates one history for each seed: items, an application that keeps writing,
// faults of every service, and several generations of concurrent runs and retries, which are
// killed, paused or stopped by a signal. In the end, one process without faults finishes the
// pass. No data may be lost, and all counts and statements must be true.
func TestSimulation(t *testing.T) {
	oneProcessor(t)
	first, last := uint64(1), *seeds
	if testing.Short() {
		last /= 3
	}
	if *oneSeed > 0 {
		first, last = *oneSeed, *oneSeed
	}
	seed := first
	defer func() {
		if t.Failed() {
			t.Logf("replay it: go test ./internal/rotate -run 'TestSimulation$' -v -args -seed=%d",
				seed)
		}
	}()
	began, occurrences := time.Now(), map[string]int{}
	for ; seed <= last && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			history, u := simulate(t, seed)
			for what, n := range u.occurrences {
				occurrences[what] += n
			}
			if *oneSeed > 0 {
				t.Log(history)
			}
		})
	}
	t.Logf("%d histories in %s, with these faults: %v", seed-first,
		time.Since(began).Round(time.Second),
		occurrences)
	for _, what := range []string{"fetch refused", "store refused", "store lost",
		"replace refused", "replace lost", "reencrypt refused", "reencrypt lost",
		"load refused", "load lost", "page refused", "page lost",
		"ledger retried, contested false", "ledger retried, contested true",
		"partition handed over", "idle beside busy", "division not seen",
		"logs prove more moves", "moves of one run"} {
		if seed-first >= 300 && occurrences[what] == 0 {
			t.Errorf("no history had %q: this fault has no effect", what)
		}
	}
}

// oneProcessor sets GOMAXPROCS to 1. Goroutines that become ready at the same virtual time then
// run in the same order in every run of a test, except under the race detector, which makes the
// order random.
func oneProcessor(t *testing.T) {
	before := runtime.GOMAXPROCS(1)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// TestSimulationReplays: a seed has the same history in every run, unless items share data keys.
// One of the seeds may differ. Under the race detector, many seeds differ, because the scheduler
// starts goroutines in random order.
func TestSimulationReplays(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector starts goroutines in random order")
	}
	oneProcessor(t)
	var differ []string
	for seed, n := uint64(1), 0; n < 10; seed++ {
		if newUniverse(seed).shares {
			continue
		}
		n++
		var history [2]string
		for i := range history {
			synctest.Test(t, func(t *testing.T) { history[i], _ = simulate(t, seed) })
		}
		if history[0] != history[1] {
			differ = append(differ,
				fmt.Sprintf("seed %d, of %d and %d bytes", seed, len(history[0]), len(history[1])))
		}
	}
	if len(differ) > 1 {
		t.Errorf("these seeds have different histories: %v", differ)
	}
}
