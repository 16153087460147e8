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
	oneSeed = flag.Uint64("seed", 0, "simulate this seed alone, and print its history with -v")
	seeds   = flag.Uint64("seeds", 400, "how many seeds to simulate")
)

// simulate tells the history of a seed and returns it, with its universe.
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
	kept := h.evidence(t, first)
	for n := 1; n < first.Number; n++ { // what was closed before stays closed
		pass, err := checkpoint.NewPasses(h.store, "job").Pass(t.Context(), n)
		if err != nil || pass.Status != checkpoint.Finished {
			t.Errorf("pass %d, before the last, is %s (%v)", n, pass.Status, err)
		}
		h.evidence(t, pass)
	}
	total, gone := int64(len(u.things)), int64(0)
	for _, thing := range u.things {
		if thing.slot == nil {
			gone++
		}
	}
	if first.Number == 1 && (kept.Slots.Seen > total || kept.Slots.Seen < total-gone) {
		t.Errorf("pass 1 counts %d slots of %d, of which %d were deleted", kept.Slots.Seen, total,
			gone)
	}
	for _, broken := range u.check(false) {
		t.Error(broken)
	}
	h.believe(t, h.finish(t, "second")) // moves what was written behind the cursor
	h.believe(t, h.finish(t, "third"))  // moves what headers had hidden from the second
	proof := h.finish(t, "verify")
	h.believe(t, proof)
	last := h.evidence(t, proof)
	if told, said := h.look(t, "look", false), h.look(t, "exact look", true); told != said {
		t.Errorf("by headers: %s\nby KMS:     %s", told, said)
	}
	if last.Slots.Rotated+last.Slots.Conflict+last.Slots.Gone != 0 ||
		last.Slots.Seen != total-gone {
		t.Errorf("the last pass, in a world at rest, counts %+v of %d", last.Slots, total-gone)
	}
	if again := h.evidence(t, h.retried(t, "retry")); again.Slots != last.Slots {
		t.Errorf("a retry of what cannot be moved makes %+v of %+v", again.Slots, last.Slots)
	}
	for _, broken := range u.check(true) {
		t.Error(broken)
	}
	return u.history(), u
}

// TestSimulation tells one history for each seed: a universe of items, an
// application that goes on writing, faults of every service, and generations of
// processes, runs and retries, that are killed, stopped, told to end, or work side by
// side; until one is left alone to finish. Nothing may be lost, and all that is said must be true.
func TestSimulation(t *testing.T) {
	oneProcessor(t)
	first, last := uint64(1), *seeds
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
	began, met := time.Now(), map[string]int{}
	for ; seed <= last && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			told, u := simulate(t, seed)
			for what, n := range u.met {
				met[what] += n
			}
			if *oneSeed > 0 {
				t.Log(told)
			}
		})
	}
	t.Logf("%d histories in %s, which met %v", seed-first, time.Since(began).Round(time.Second),
		met)
	for _, what := range []string{"fetch refused", "store refused", "store lost",
		"replace refused", "replace lost", "reencrypt refused", "reencrypt lost",
		"load refused", "load lost", "page refused", "page lost",
		"ledger retried, contested false", "ledger retried, contested true",
		"partition handed over", "idle beside busy", "division not seen"} {
		if seed-first >= 300 && met[what] == 0 {
			t.Errorf("no history met %q: its faults have no effect", what)
		}
	}
}

// oneProcessor has goroutines that are ready in the same instant of virtual time run in
// an order of their own, which is the same each time; but under the race detector, for
// which Go's scheduler draws lots.
func oneProcessor(t *testing.T) {
	before := runtime.GOMAXPROCS(1)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// TestSimulationReplays: a seed tells the same history each time, unless items share
// data keys. One of those tried here may not. Under the race detector, which makes the
// scheduler start goroutines in random order, many do not.
func TestSimulationReplays(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector starts goroutines in random order")
	}
	oneProcessor(t)
	var differ []string
	for seed, n := uint64(1), 0; n < 20; seed++ {
		if newUniverse(seed).shares {
			continue
		}
		n++
		var told [2]string
		for i := range told {
			synctest.Test(t, func(t *testing.T) { told[i], _ = simulate(t, seed) })
		}
		if told[0] != told[1] {
			differ = append(differ,
				fmt.Sprintf("seed %d, of %d and %d bytes", seed, len(told[0]), len(told[1])))
		}
	}
	if len(differ) > 1 {
		t.Errorf("these tell two histories: %v", differ)
	}
}
