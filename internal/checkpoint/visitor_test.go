package checkpoint

import (
	"testing"
	"testing/synctest"
	"time"
)

// visit puts a visitor on the roster and keeps it there until leave is called.
func visit(t *testing.T, passes *Passes) (got *shares, leave func()) {
	t.Helper()
	got = &shares{}
	visitor, err := passes.Visit(t.Context(), lease, got.set)
	if err != nil {
		t.Fatal(err)
	}
	enough, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- visitor.Run(t.Context(), enough) }()
	return got, func() {
		close(enough)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := visitor.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestVisitorsDivideTheRate: a visitor divides the rate with another and with the run of the
// first pass and of the next one, whoever comes first. The sum of the shares is at most 1
// at any time. A visitor that leaves gives its share back within a second.
func TestVisitorsDivideTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes := NewPasses(NewMemory(), "j")
		first, leaveFirst := visit(t, passes)
		worker := &shares{}
		defer watchSum(t, first, worker)()
		end := func() {}
		for number := range 2 {
			end()
			first.await(t, 1, time.Second)
			pass, err := passes.Begin(t.Context(), number, newPass(1))
			if err != nil {
				t.Fatal(err)
			}
			tracker := join(t, passes, pass, "worker")
			tracker.OnShare(worker.set)
			stop := runUntil(t, tracker)
			claimAll(t, tracker)
			worker.await(t, 2, 2*time.Second)
			first.await(t, 2, 2*time.Second)
			end = func() {
				stop()
				if err := tracker.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
		leaveFirst()
		worker.await(t, 1, time.Second)
		end()
	})
}

// watchSum fails the test if shares are more than the rate together, until stop is called.
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
				t.Errorf("the shares are %v of the rate", sum)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return func() {
		close(enough)
		<-ended
	}
}
