package checkpoint

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A guest counts where the rate is divided, and not where the partitions are. One that
// was silent for a lease is forgotten.
func TestGuestsClaimNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, pass := begin(t, 4)
		worker := join(t, passes, pass, "worker")
		guest, err := passes.Join(t.Context(), 1, "guest", lease)
		if err != nil {
			t.Fatal(err)
		}
		working, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- worker.Run(t.Context(), working.Done()) }()
		if err := guest.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the beat of that moment
		if w, g := worker.Workers(), guest.Workers(); w != 2 || g != 2 {
			t.Errorf("the worker knows of %d, the guest of %d, when it is ready; want 2", w, g)
		}
		began := time.Now()
		for range 4 {
			if _, ok, err := worker.Claim(t.Context()); !ok || err != nil || time.Since(began) > 0 {
				t.Fatalf("the worker does not get all partitions at once (%v)", err)
			}
		}
		if _, err := worker.Begin(t.Context(), 0); err != nil {
			t.Errorf("the worker gives a partition up, and nobody is there to take it: %v", err)
		}
		time.Sleep(3 * lease)
		synctest.Wait()
		if n := worker.Workers(); n != 1 {
			t.Errorf("a guest that is silent is still one of %d workers", n)
		}
		soon, cancel := context.WithTimeout(t.Context(), lease)
		defer cancel()
		if err := guest.Run(t.Context(), soon.Done()); !errors.Is(err, ErrFenced) {
			t.Errorf("a guest that was struck off goes on: %v", err)
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// A guest that leaves is gone with the next beat of the others.
func TestGuestsLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, _ := begin(t, 1)
		guest, err := passes.Join(t.Context(), 1, "first", lease)
		if err != nil {
			t.Fatal(err)
		}
		if err := guest.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		second, err := passes.Join(t.Context(), 1, "second", lease)
		if err == nil {
			err = second.Ready(t.Context())
		}
		if waited := time.Since(began); err != nil || waited != 0 || second.Workers() != 1 {
			t.Errorf("waited %s for nobody, to be one of %d (%v)", waited, second.Workers(), err)
		}
	})
}

// A guest on a pass that is over may still send requests when a worker begins the next
// one: the worker waits until it must have found out.
func TestTheNextPassWaitsForGuests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, _ := begin(t, 1)
		guest, err := passes.Join(t.Context(), 1, "guest", lease)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan time.Time, 1)
		go func() {
			soon, cancel := context.WithTimeout(t.Context(), 2*lease)
			defer cancel()
			if err := guest.Run(t.Context(), soon.Done()); !errors.Is(err, ErrFenced) {
				t.Errorf("the guest of the pass before ends with %v, want ErrFenced", err)
			}
			ended <- time.Now()
		}()
		time.Sleep(lease / 6)
		next, err := passes.Restart(t.Context(), newPass(1))
		if err != nil {
			t.Fatal(err)
		}
		claimAll(t, join(t, passes, next, "worker"))
		if claimed := time.Now(); claimed.Before(<-ended) {
			t.Error("the worker began while the guest of the pass before was at work")
		}
	})
}
