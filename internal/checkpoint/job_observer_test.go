package checkpoint

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// observeJob adds a job observer to the member list and keeps it there until leave is called.
func observeJob(t *testing.T, passes *Passes) (got *shares, leave func()) {
	t.Helper()
	got = &shares{}
	jobObserver, err := passes.ObserveJob(t.Context(), lease, got.set)
	if err != nil {
		t.Fatal(err)
	}
	enough, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- jobObserver.Run(t.Context(), enough) }()
	return got, func() {
		close(enough)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := jobObserver.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestJobObserversDivideTheRate: a job observer divides the rate with another job observer, with
// the run of the first pass, and with the run of the next pass, in any order of arrival. The
// sum of the shares is never more than 1. A job observer that leaves gives its share back
// within a second.
func TestJobObserversDivideTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes := NewPasses(NewMemory(), "j")
		first, leaveFirst := observeJob(t, passes)
		worker := &shares{}
		defer watchSum(t, first, worker)()
		end := func() {}
		for number := range 2 {
			end()
			first.waitVisible(t, 1, time.Second)
			pass, err := passes.Begin(t.Context(), number, newPass(1))
			if err != nil {
				t.Fatal(err)
			}
			tracker := join(t, passes, pass, "worker")
			tracker.OnShare(worker.set)
			stop := runUntil(t, tracker)
			claimAll(t, tracker)
			worker.waitVisible(t, 2, 2*time.Second)
			first.waitVisible(t, 2, 2*time.Second)
			end = func() {
				stop()
				if err := tracker.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
		leaveFirst()
		worker.waitVisible(t, 1, time.Second)
		end()
	})
}

// watchSum fails the test if the sum of the shares is more than the rate, until stop is called.
func watchSum(t *testing.T, all ...*shares) (stop func()) {
	enough, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for !closed(enough) {
			sum := 0.0
			for _, s := range all {
				if runs := s.get().Runs; runs > 0 {
					sum += 1 / float64(runs)
				}
			}
			if sum > 1 {
				t.Errorf("the sum of the shares is %v of the rate", sum)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return func() {
		close(enough)
		<-ended
	}
}

// TestJobObserversDoNotEndEarlierRuns: a run of the previous version ends when the member list of
// its pass changes to the form of this version. A job observer must not change the form, neither
// when it starts nor when such a run begins a pass later. It can join a member list without such
// runs.
func TestJobObserversDoNotEndEarlierRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, pass := begin(t, 1)
		write := func(pass int, workers map[string]int64) {
			r := oldMemberList{Pass: pass, Workers: workers}
			if err := passes.put(t.Context(), passes.memberListID(), "roster", r); err != nil {
				t.Fatal(err)
			}
		}
		intact := func(pass int) {
			t.Helper()
			var r memberList
			_, err := passes.fetch(t.Context(), passes.memberListID(), "roster", &r)
			if err != nil || !r.listsOldRuns(pass) {
				t.Errorf("the member list of the earlier run is now %+v, %v", r, err)
			}
		}
		write(pass.Number, map[string]int64{"old": 7})
		got := &shares{}
		_, err := passes.ObserveJob(t.Context(), lease, got.set)
		if !errors.Is(err, ErrEarlierRuns) {
			t.Errorf("the observer joined a run of the previous version: %v", err)
		}
		intact(pass.Number)

		write(pass.Number, map[string]int64{})
		jobObserver, err := passes.ObserveJob(t.Context(), lease, got.set)
		if err != nil {
			t.Fatal(err)
		}
		next, err := passes.Begin(t.Context(), pass.Number, newPass(1))
		if err != nil {
			t.Fatal(err)
		}
		write(next.Number, map[string]int64{"old": 1})
		if err := jobObserver.Run(t.Context(), nil); !errors.Is(err, ErrEarlierRuns) {
			t.Errorf("the observer followed a run of the previous version: %v", err)
		}
		intact(next.Number)
		if got.get().Runs != 0 {
			t.Errorf("the observer still has 1/%d of the rate", got.get().Runs)
		}
	})
}
