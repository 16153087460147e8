package rotate_test

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rotator/internal/checkpoint"
)

// The seeds of TestCrashSweep. With the first, KMS is asked about every slot. With the second,
// headers are used and items share data keys.
const (
	sweepExact   = 5
	sweepHeaders = 1
)

var sweepEvery = flag.Int("every", 6,
	"kill at every n-th durable step; with -short at half of these steps")

// sweepStride returns the distance between the steps at which a crash sweep kills. The sweeps
// begin at different steps.
func sweepStride() int {
	if testing.Short() {
		return 2 * *sweepEvery
	}
	return *sweepEvery
}

// TestCrashSweep kills a small pass at its durable steps (writes of items, of the audit log, of
// the ledger, of the checkpoint), before and after the step is applied, lets another process
// finish it, and checks everything.
func TestCrashSweep(t *testing.T) {
	for i, test := range []struct {
		shared bool
		seed   uint64
	}{{false, sweepExact}, {true, sweepExact}, {false, sweepHeaders}, {true, sweepHeaders}} {
		t.Run(fmt.Sprintf("shared %v, seed %d", test.shared, test.seed), func(t *testing.T) {
			steps, kills := 0, 0
			synctest.Test(t, func(t *testing.T) { steps = countSteps(t, test.seed, test.shared) })
			for at := 1 + i%sweepStride(); at <= steps; at += sweepStride() {
				for _, after := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						sweep(t, test.seed, test.shared, at, after)
					})
					kills++
				}
				if t.Failed() {
					t.Fatalf("at step %d of %d", at, steps)
				}
			}
			t.Logf("killed at one in %d of %d durable steps, before and after: %d histories",
				sweepStride(), steps, kills)
		})
	}
}

// countSteps returns the number of durable steps of a pass.
func countSteps(t *testing.T, seed uint64, shared bool) int {
	h := newHistory(t, newUniverse(seed), shared)
	h.interval = time.Nanosecond
	p, ctx := h.process(t.Context(), "counted")
	if _, err := h.run(ctx, p); err != nil {
		t.Fatal(err)
	}
	return p.steps
}

// sweep executes a pass in which a process is killed at a step.
func sweep(t *testing.T, seed uint64, shared bool, at int, after bool) {
	h := newHistory(t, newUniverse(seed), shared)
	h.interval = time.Nanosecond
	p, ctx := h.process(t.Context(), "counted")
	p.killAt, p.killAfter = at, after
	_, err := h.run(ctx, p)
	p.cancel()
	if p.alive() {
		t.Errorf("the process survived step %d of %d (%v)", at, p.steps, err)
	}
	pass := h.finish(t, "heir")
	counts := h.checkCounts(t, pass)
	for _, broken := range h.check(true) {
		t.Error(broken)
	}
	if l := h.logged(pass); pass.Number == 1 && l.Slots != counts.Slots.Rotated {
		t.Errorf("the audit log proves %+v, but the counts are %+v", l, counts.Slots)
	}
	if h.wrongHeaders {
		t.Fatal("wrong headers hide slots from a single pass; use another seed")
	}
	// If the pass was closed before the kill, the next process has nothing to move.
	if want := h.outcomes(); pass.Number == 1 && counts.Slots != want {
		t.Errorf("killed at step %d, after %v: counts %+v, want %+v", at, after, counts.Slots, want)
	}
}

// TestCrashSweepOfRetries does the same with a retry whose ledger has most of the items: with no
// other process, with a power loss, and with a concurrent retry of the same ledger.
func TestCrashSweepOfRetries(t *testing.T) {
	for i, kill := range []retryKill{
		{},
		{power: true},
		{shared: true},
		{shared: true, power: true},
		{shared: true, concurrent: true},
	} {
		t.Run(fmt.Sprintf("%+v", kill), func(t *testing.T) {
			steps, kills := 0, 0
			synctest.Test(t, func(t *testing.T) { steps = sweepRetry(t, kill, 0, false) })
			for at := 1 + i%sweepStride(); at <= steps && !t.Failed(); at += sweepStride() {
				for _, after := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) { sweepRetry(t, kill, at, after) })
					kills++
				}
				if t.Failed() {
					t.Errorf("at step %d of %d", at, steps)
				}
			}
			t.Logf("killed at one in %d of %d durable steps, before and after: %d histories",
				sweepStride(), steps, kills)
		})
	}
}

// retryKill describes how a retry is killed.
type retryKill struct {
	shared     bool
	power      bool // data that is not synced is lost too
	concurrent bool // another retry runs concurrently and is not killed
}

// sweepRetry kills a retry at a step and executes another retry for the remaining entries. It
// returns the number of steps of the first retry. If at is 0, the retry is not killed.
func sweepRetry(t *testing.T, kill retryKill, at int, after bool) (steps int) {
	h := newHistory(t, newUniverse(sweepExact), kill.shared)
	h.interval = time.Nanosecond
	denied, ctx := h.process(t.Context(), "denied")
	denied.denied = true
	if pass, err := h.run(ctx, denied); err != nil || pass.Status != checkpoint.Finished {
		t.Fatalf("the run without permissions: pass %s, %v", pass.Status, err)
	}
	p, ctx := h.process(t.Context(), "killed")
	p.killAt, p.killAfter = at, after
	var others sync.WaitGroup
	if kill.concurrent {
		h.rate = 3 // so that both retries overlap, although the second first waits for its share
		others.Go(func() {
			time.Sleep(500 * time.Millisecond)
			twin, ctx := h.process(ctx, "twin")
			twin.machine = 1
			if _, err := h.retry(context.WithoutCancel(ctx), twin); err != nil {
				t.Errorf("the concurrent retry: %v", err)
			}
		})
	}
	_, err := h.retry(ctx, p)
	// concurrent another it may have less to do
	if at == 0 && err != nil || at > 0 && !kill.concurrent && p.alive() {
		t.Errorf("the retry that should be killed at step %d of %d ended with %v, alive: %v", at,
			p.steps,
			err, p.alive())
	}
	p.cancel()
	if kill.power && at > 0 {
		h.disks[0].losePower()
	}
	others.Wait()
	counts := h.checkCounts(t, h.retryLedger(t, "heir"))
	for _, broken := range h.check(true) {
		t.Error(broken)
	}
	got, want := counts.Slots, h.outcomes()
	// A slot counts as current if the next process does not have the log of its write, or if the
	// concurrent retry wrote it.
	if kill.concurrent || kill.power && at > 0 {
		got.Rotated, got.Current = got.Rotated+got.Current, 0
		want.Rotated, want.Current = want.Rotated+want.Current, 0
	} else if counts.Items.Written != want.Rotated {
		t.Errorf("killed at step %d, after %v: %d items written, want %d", at, after,
			counts.Items.Written, want.Rotated)
	}
	if got != want {
		t.Errorf("killed at step %d, after %v: counts %+v, want %+v", at, after, counts.Slots, want)
	}
	if at == 0 && kill.concurrent && h.occurrences["ledger retried, contested true"] == 0 {
		t.Error("the two retries never saved the same chunk concurrently")
	}
	return p.steps
}

// outcomes returns the expected counts if no application writes.
func (u *universe) outcomes() (want checkpoint.SlotCounts) {
	for _, item := range u.items {
		want.Seen++
		switch item.key {
		case oldKey:
			want.Rotated++
		case newKey:
			want.Current++
		case otherKey:
			want.Foreign++
		default:
			want.Failed++
		}
	}
	return want
}
