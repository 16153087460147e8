package checkpoint

import (
	"testing"
	"testing/synctest"
	"time"
)

// checkWorking checks what Working returns, and that it takes at most some time.
func checkWorking(t *testing.T, passes *Passes, what string, want int, most time.Duration) {
	t.Helper()
	began, waited := time.Now(), false
	got, err := passes.Working(t.Context(), lease, func() { waited = true })
	took := time.Since(began)
	if err != nil || got != want || took > most {
		t.Errorf("%s: pass %d after %s, %v; want pass %d within %s", what, got, took, err, want,
			most)
	}
	if waited != (took > 0) {
		t.Errorf("%s: it took %s, and the caller knows of a wait: %v", what, took, waited)
	}
}

// TestWorking: a run that has not saved anything is working, and so is a retry of a finished pass.
// An audit is not, and neither is a run that was killed, once a lease has passed.
func TestWorking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes := NewPasses(NewMemory(), "j")
		checkWorking(t, passes, "no pass", 0, 0)
		_, leave := observeJob(t, passes)
		checkWorking(t, passes, "an audit", 0, 0)
		pass, err := passes.Begin(t.Context(), 0, newPass(1))
		if err != nil {
			t.Fatal(err)
		}
		tracker := join(t, passes, pass, "worker")
		stop := runUntil(t, tracker)
		checkWorking(t, passes, "a run and an audit", 1, lease)
		leave()
		checkWorking(t, passes, "a run", 1, lease)
		stop()
		checkWorking(t, passes, "a run that was killed", 0, lease+lease/workingParts)
		finished, err := passes.Update(t.Context(), 1, func(p *Pass) { p.Status = Finished })
		if err != nil {
			t.Fatal(err)
		}
		checkWorking(t, passes, "a run that has not left its finished pass", 0, 0)
		observer, err := passes.ObservePass(t.Context(), finished.Number, "retry", lease)
		if err != nil {
			t.Fatal(err)
		}
		enough, ended := make(chan struct{}), make(chan error, 1)
		go func() { ended <- observer.Run(t.Context(), enough) }()
		checkWorking(t, passes, "a retry", 1, lease)
		close(enough)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := observer.Leave(t.Context()); err != nil {
			t.Error(err)
		}
		checkWorking(t, passes, "a retry that has left", 0, 0)
	})
}
