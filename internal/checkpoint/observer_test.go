package checkpoint

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// The rate is divided with an observer, but the partitions are not. An observer without
// heartbeats is removed after a lease.
func TestObserversClaimNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, pass := begin(t, 4)
		worker := join(t, passes, pass, "worker")
		observer, err := passes.ObservePass(t.Context(), 1, "observer", lease)
		if err != nil {
			t.Fatal(err)
		}
		working, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- worker.Run(t.Context(), working.Done()) }()
		if err := observer.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(readAlone) // until the worker reads the member list
		synctest.Wait()
		if w, g := worker.Workers(), observer.Workers(); w != 2 || g != 2 {
			t.Errorf("the worker counts %d members, the ready observer %d; want 2", w, g)
		}
		began := time.Now()
		for range 4 {
			if _, ok, err := worker.Claim(t.Context()); !ok || err != nil || time.Since(began) > 0 {
				t.Fatalf("the worker does not get all partitions at once (%v)", err)
			}
		}
		if _, err := worker.Begin(t.Context(), 0); err != nil {
			t.Errorf("the worker hands a partition over although no other run needs it: %v", err)
		}
		time.Sleep(3 * lease)
		synctest.Wait()
		if n := worker.Workers(); n != 1 {
			t.Errorf("a silent observer is still one of %d members", n)
		}
		soon, cancel := context.WithTimeout(t.Context(), lease)
		defer cancel()
		if err := observer.Run(t.Context(), soon.Done()); !errors.Is(err, ErrFenced) {
			t.Errorf("an expired observer continues: %v", err)
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// The next heartbeat of the others does not count an observer that has left.
func TestObserversLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, _ := begin(t, 1)
		observer, err := passes.ObservePass(t.Context(), 1, "first", lease)
		if err != nil {
			t.Fatal(err)
		}
		if err := observer.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		second, err := passes.ObservePass(t.Context(), 1, "second", lease)
		if err == nil {
			err = second.Ready(t.Context())
		}
		if waited := time.Since(began); err != nil || waited != 0 || second.Workers() != 1 {
			t.Errorf("waited %s, with %d members (%v)", waited, second.Workers(), err)
		}
	})
}

// An observer of a finished pass may still send requests when a worker begins the next
// pass. The worker has no share until the observer has noticed the new pass.
func TestTheNextPassWaitsForObservers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, _ := begin(t, 1)
		observer, err := passes.ObservePass(t.Context(), 1, "observer", lease)
		if err != nil {
			t.Fatal(err)
		}
		of := &shares{}
		observer.OnShare(of.set)
		ended := make(chan error, 1)
		go func() { ended <- observer.Run(t.Context(), nil) }()
		time.Sleep(lease / 6)
		next, err := passes.Restart(t.Context(), newPass(1))
		if err != nil {
			t.Fatal(err)
		}
		began, worker := time.Now(), &shares{}
		tracker := join(t, passes, next, "worker")
		tracker.OnShare(func(s Share) {
			if s.Runs > 0 && of.get().Runs > 0 {
				t.Error("the worker has a share while the observer of the pass before has one")
			}
			worker.set(s)
		})
		stop := runUntil(t, tracker)
		claimAll(t, tracker)
		worker.waitVisible(t, 1, 2*time.Second)
		if err := <-ended; !errors.Is(err, ErrFenced) {
			t.Errorf("the observer of the pass before ends with %v, want ErrFenced", err)
		}
		if waited := time.Since(began); waited >= lease/2 {
			t.Errorf("the worker has a share after %v although the observer has ended", waited)
		}
		stop()
	})
}
