package watch_test

import (
	"testing"
	"time"

	"rotator/internal/fakeaws/fault"
	"rotator/internal/watch"
)

// rounds asks again and again with one Watcher, as --every does.
type rounds struct {
	*world
	watcher *watch.Watcher
}

// next returns the calls of other callers that a round knows, its trail, and the number of requests
// that it sent to CloudTrail.
func (r rounds) next(ours watch.Own) (calls int64, trail watch.Trail, requests int) {
	r.t.Helper()
	before := r.server.Faults().Counts()["cloudtrail:LookupEvents"]
	result, err := r.watcher.Round(r.t.Context(), ours)
	if err != nil {
		r.t.Fatal(err)
	}
	trail = result.Keys[0].Trail
	for _, c := range trail.Callers {
		calls += c.Calls
	}
	return calls, trail, r.server.Faults().Counts()["cloudtrail:LookupEvents"] - before
}

// TestRoundsReadOnlyWhatIsNew: each round knows all calls of the period, but only the first one
// reads the whole period. Events that CloudTrail delivers late are found, and no event counts
// twice.
func TestRoundsReadOnlyWhatIsNew(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.server.CloudTrail().SetDelay(15 * time.Minute)
		ours := own(w.move())
		r := rounds{w, watch.New(w.config)}
		time.Sleep(time.Hour)
		w.encrypts(w.key, 240)
		time.Sleep(2 * time.Hour)
		calls, trail, requests := r.next(ours)
		if calls != 240 || requests != 5 || trail.Partial || !trail.From.Equal(ours.Last) {
			t.Errorf("the first round: %d calls, %d requests, %+v", calls, requests, trail)
		}
		known := calls
		for range 5 {
			time.Sleep(50 * time.Minute)
			if err := w.decrypt("AKIAAPP"); err != nil { // too late for the next round
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
			calls, trail, requests = r.next(ours)
			if calls != known || requests != 1 || trail.Partial || !trail.From.Equal(ours.Last) {
				t.Errorf("a later round: %d calls of %d, %d requests, %+v", calls, known, requests,
					trail)
			}
			known++ // the next round has it
		}
	})
}

// TestRoundsAfterFailures: after a round that could not read all of what is new, the next one reads
// the whole period. A round that reaches the maximum number of pages is not repeated.
func TestRoundsAfterFailures(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ours := own(w.move())
		w.encrypts(w.key, 120)
		time.Sleep(3 * time.Hour)
		r := rounds{w, watch.New(w.config)}
		if calls, _, requests := r.next(ours); calls != 120 || requests != 3 {
			t.Errorf("the first round: %d calls, %d requests", calls, requests)
		}
		w.server.Faults().Set("cloudtrail:LookupEvents", fault.Fault{Kind: fault.Refusal,
			Answer: fault.Answer{Code: "AccessDeniedException"}})
		if calls, trail, _ := r.next(ours); calls != 120 || !trail.Asked.IsZero() {
			t.Errorf("a denied round: %d calls, asked at %s", calls, trail.Asked)
		}
		w.server.Faults().Clear("cloudtrail:LookupEvents")
		if calls, _, requests := r.next(ours); calls != 120 || requests != 3 {
			t.Errorf("the round after it: %d calls, %d requests", calls, requests)
		}
		time.Sleep(3 * time.Hour)
		w.encrypts(w.key, 60)
		w.config.Pages = 1
		r.watcher = watch.New(w.config)
		// The newest of the 50 events is the DescribeKey of the round.
		if calls, trail, requests := r.next(ours); calls != 49 || requests != 1 || !trail.Partial {
			t.Errorf("with one page: %d calls, %d requests, %+v", calls, requests, trail)
		}
		time.Sleep(3 * time.Hour)
		calls, trail, requests := r.next(ours)
		if calls != 49 || requests != 1 || !trail.Partial || trail.Why != "more-pages" ||
			!trail.From.After(ours.Last) {
			t.Errorf("the next round: %d calls, %d requests, %+v", calls, requests, trail)
		}
	})
}

// TestRoundsOfADisabledKey: the time at which a key was disabled is looked up once, unless the key
// was enabled and disabled again.
func TestRoundsOfADisabledKey(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ours := own(w.move())
		time.Sleep(time.Hour)
		w.disable()
		first := time.Now()
		time.Sleep(48 * time.Hour)
		r := rounds{w, watch.New(w.config)}
		for n := range 3 {
			result, err := r.watcher.Round(t.Context(), ours)
			if err != nil || !result.Keys[0].Disabled.Equal(first) {
				t.Fatalf("round %d: disabled at %s, %v", n, result.Keys[0].Disabled, err)
			}
			time.Sleep(24 * time.Hour)
		}
		w.enable()
		w.disable()
		again := time.Now()
		time.Sleep(time.Hour)
		result, err := r.watcher.Round(t.Context(), ours)
		if err != nil || !result.Keys[0].Disabled.Equal(again.Truncate(time.Second)) {
			t.Errorf("disabled again at %s, %v", result.Keys[0].Disabled, err)
		}
	})
}
