package checkpoint

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestObserversClaimNothing: the rate is divided with an observer, but the partitions are not. An
// observer without heartbeats is removed after a lease.
func TestObserversClaimNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, pass := begin(t, 4)
		run := join(t, passes, pass, "worker")
		observer, err := passes.ObservePass(t.Context(), 1, "observer", lease)
		if err != nil {
			t.Fatal(err)
		}
		working, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- run.Run(t.Context(), working.Done()) }()
		if err := observer.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(readAlone) // until the run reads the member list
		synctest.Wait()
		if w, g := run.Workers(), observer.Workers(); w != 2 || g != 2 {
			t.Errorf("the run counts %d members and the observer %d, want 2", w, g)
		}
		began := time.Now()
		for range 4 {
			if _, ok, err := run.Claim(t.Context()); !ok || err != nil || time.Since(began) > 0 {
				t.Fatalf("the run did not get all partitions at once: %v", err)
			}
		}
		if _, err := run.Begin(t.Context(), 0); err != nil {
			t.Errorf("the run hands over a partition that no other run needs: %v", err)
		}
		time.Sleep(3 * lease)
		synctest.Wait()
		if n := run.Workers(); n != 1 {
			t.Errorf("%d members, want the run without the silent observer", n)
		}
		soon, cancel := context.WithTimeout(t.Context(), lease)
		defer cancel()
		if err := observer.Run(t.Context(), soon.Done()); !errors.Is(err, ErrFenced) {
			t.Errorf("Run of the expired observer: %v, want ErrFenced", err)
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// TestObserversLeave: the next heartbeat of the other members does not count an observer that has
// left.
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
			t.Errorf("ready after %s with %d members (%v), want at once with 1", waited,
				second.Workers(), err)
		}
	})
}

// TestTheNextPassWaitsForObservers: an observer of a finished pass may still send requests when a
// run begins the next pass. The run has no share until the observer has noticed the new pass.
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
		began, run := time.Now(), &shares{}
		tracker := join(t, passes, next, "worker")
		tracker.OnShare(func(s Share) {
			if s.Runs > 0 && of.get().Runs > 0 {
				t.Error("the run has a share while the observer of the previous pass has one")
			}
			run.set(s)
		})
		stop := runUntil(t, tracker)
		claimAll(t, tracker)
		run.waitVisible(t, 1, 2*time.Second)
		if err := <-ended; !errors.Is(err, ErrFenced) {
			t.Errorf("the observer of the previous pass: %v, want ErrFenced", err)
		}
		if waited := time.Since(began); waited >= lease/2 {
			t.Errorf("the run has a share only after %v although the observer has ended", waited)
		}
		stop()
	})
}
