package rotate_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rotator/internal/checkpoint"
)

// The seeds of TestCrashSweep: of a universe in which KMS is asked about every slot, and
// of one in which headers are used and data keys shared.
const (
	sweepExact   = 5
	sweepHeaders = 1
)

// TestCrashSweep kills a small pass at every one of its durable steps (writes of
// items, of the audit log, of the ledger, of the checkpoint), before and after the
// step is applied, lets another process finish it, and checks everything.
func TestCrashSweep(t *testing.T) {
	for _, test := range []struct {
		shared bool
		seed   uint64
	}{{false, sweepExact}, {true, sweepExact}, {false, sweepHeaders}, {true, sweepHeaders}} {
		t.Run(fmt.Sprintf("shared %v, seed %d", test.shared, test.seed), func(t *testing.T) {
			steps, kills := 1, 0
			for at := 1; at <= steps; at++ {
				for _, after := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						if n := sweep(t, test.seed, test.shared, at, after); at == 1 && !after {
							steps = n
						}
					})
					kills++
				}
				if t.Failed() {
					t.Fatalf("at step %d of %d", at, steps)
				}
			}
			t.Logf("killed at each of %d durable steps, before and after: %d histories", steps,
				kills)
		})
	}
}

// sweep kills at one step, and returns how many there are in a pass without a
// kill, when asked for the first.
func sweep(t *testing.T, seed uint64, shared bool, at int, after bool) (steps int) {
	if at == 1 && !after { // count them
		h := newHistory(t, newUniverse(seed), shared)
		h.interval = time.Nanosecond
		p, ctx := h.process(t.Context(), "counted")
		if _, err := h.run(ctx, p); err != nil {
			t.Fatal(err)
		}
		steps = p.steps
	}
	h := newHistory(t, newUniverse(seed), shared)
	h.interval = time.Nanosecond
	p, ctx := h.process(t.Context(), "counted")
	p.killAt, p.killAfter = at, after
	_, err := h.run(ctx, p)
	p.cancel()
	if p.alive() {
		t.Errorf("the process outlived step %d of %d (%v)", at, p.steps, err)
	}
	pass := h.finish(t, "heir")
	counts := h.evidence(t, pass)
	for _, broken := range h.check(true) {
		t.Error(broken)
	}
	if h.lies {
		t.Fatal("what headers hide is not to be seen in one pass; take another seed")
	}
	// A pass that was closed before the kill leaves the heir nothing to move.
	if want := h.outcomes(); pass.Number == 1 && counts.Slots != want {
		t.Errorf("killed at step %d, after %v: counts %+v, want %+v", at, after, counts.Slots, want)
	}
	return steps
}

// TestCrashSweepOfRetries does the same to a retry of a ledger that holds most of the
// items: alone, with the power gone as well, and while another retry works on the same
// ledger.
func TestCrashSweepOfRetries(t *testing.T) {
	for _, way := range []retryWay{
		{},
		{power: true},
		{shared: true},
		{shared: true, power: true},
		{shared: true, beside: true},
	} {
		t.Run(fmt.Sprintf("%+v", way), func(t *testing.T) {
			steps, kills := 0, 0
			synctest.Test(t, func(t *testing.T) { steps = sweepRetry(t, way, 0, false) })
			for at := 1; at <= steps && !t.Failed(); at++ {
				for _, after := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) { sweepRetry(t, way, at, after) })
					kills++
				}
				if t.Failed() {
					t.Errorf("at step %d of %d", at, steps)
				}
			}
			t.Logf("killed at each of %d durable steps, before and after: %d histories", steps,
				kills)
		})
	}
}

// retryWay is a way in which a retry is killed.
type retryWay struct {
	shared bool
	power  bool // what it has not synced is lost as well
	beside bool // another retry lives
}

// sweepRetry kills a retry at one step, has another go through what is left, and
// returns how many steps it took; 0 kills at none.
func sweepRetry(t *testing.T, way retryWay, at int, after bool) (steps int) {
	h := newHistory(t, newUniverse(sweepExact), way.shared)
	h.interval = time.Nanosecond
	denied, ctx := h.process(t.Context(), "denied")
	denied.denied = true
	if pass, err := h.run(ctx, denied); err != nil || pass.Status != checkpoint.Finished {
		t.Fatalf("the run that is denied everything: pass %s, %v", pass.Status, err)
	}
	p, ctx := h.process(t.Context(), "killed")
	p.killAt, p.killAfter = at, after
	var others sync.WaitGroup
	if way.beside {
		h.rate = 3 // so that they meet although the second waits until it is known
		others.Go(func() {
			time.Sleep(500 * time.Millisecond)
			twin, ctx := h.process(ctx, "twin")
			twin.machine = 1
			if _, err := h.retry(context.WithoutCancel(ctx), twin); err != nil {
				t.Errorf("the retry beside it: %v", err)
			}
		})
	}
	_, err := h.retry(ctx, p)
	// beside another it may have less to do
	if at == 0 && err != nil || at > 0 && !way.beside && p.alive() {
		t.Errorf("the retry, to be killed at step %d of %d, ended with %v, alive: %v", at, p.steps,
			err, p.alive())
	}
	p.cancel()
	if way.power && at > 0 {
		h.disks[0].blackout()
	}
	others.Wait()
	counts := h.evidence(t, h.retried(t, "heir"))
	for _, broken := range h.check(true) {
		t.Error(broken)
	}
	got, want := counts.Slots, h.outcomes()
	// What a process wrote of which its heir has no log, or which lives, is current.
	if way.beside || way.power && at > 0 {
		got.Rotated, got.Current = got.Rotated+got.Current, 0
		want.Rotated, want.Current = want.Rotated+want.Current, 0
	} else if counts.Items.Written != want.Rotated {
		t.Errorf("killed at step %d, after %v: %d items written, want %d", at, after,
			counts.Items.Written, want.Rotated)
	}
	if got != want {
		t.Errorf("killed at step %d, after %v: counts %+v, want %+v", at, after, counts.Slots, want)
	}
	if at == 0 && way.beside && h.met["ledger retried, contested true"] == 0 {
		t.Error("the two retries never wanted to save the same chunk")
	}
	return p.steps
}

// outcomes is what becomes of the things in a world without an application.
func (u *universe) outcomes() (want checkpoint.SlotCounts) {
	for _, thing := range u.things {
		want.Seen++
		switch thing.key {
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
