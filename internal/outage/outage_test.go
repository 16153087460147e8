package outage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
)

var (
	errAway      = errors.New("away")
	errThrottled = errors.New("throttled")
)

func judge(err error) Verdict {
	var gone *givenUpError
	switch {
	case err == nil:
		return Usable
	case errors.As(err, &gone):
		return Unusable
	case errors.Is(err, errThrottled):
		return Throttled
	case errors.Is(err, context.Canceled):
		return Nothing
	}
	return Unusable
}

// testService is a Monitor, a service and its workers in virtual time.
type testService struct {
	*Monitor
	began time.Time

	mu       sync.Mutex
	answer   func(requests string) (time.Duration, error)
	attempts []time.Duration // since began
	served   int
	notices  []Notice
	at       []time.Duration // of the notices
}

// newTestService must be called in a synctest bubble. stop ends the monitor and the workers.
func newTestService(t *testing.T, workers int, requests ...string) (w *testService, stop func()) {
	t.Helper()
	w = &testService{began: time.Now()}
	w.set(func(string) (time.Duration, error) { return 100 * time.Millisecond, nil })
	w.Monitor = New(Config{Judge: judge, Report: func(n Notice) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.notices, w.at = append(w.notices, n), append(w.at, time.Since(w.began))
	}})
	w.SetPatience(10 * time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() { w.Run(ctx) })
	for _, kind := range requests {
		gate := w.Gate("KMS at there", kind)
		for range workers {
			wait.Go(func() { w.work(ctx, gate, kind) })
		}
	}
	return w, func() {
		cancel()
		wait.Wait()
	}
}

// work sends one request after another.
func (w *testService) work(ctx context.Context, gate *Gate, kind string) {
	for ctx.Err() == nil {
		err := w.send(gate, kind)
		var held *HeldError
		if errors.As(err, &held) {
			_ = held.Await(ctx, time.Hour)
		} else if err != nil {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func (w *testService) send(gate *Gate, kind string) error {
	gone := make(chan struct{})
	attempt, err := gate.BeginFor(func() { close(gone) })
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.attempts = append(w.attempts, time.Since(w.began))
	answer := w.answer
	w.mu.Unlock()
	took, err := answer(kind)
	timer := time.NewTimer(took)
	select {
	case <-timer.C:
	case <-gone:
		err = context.Canceled
	}
	if err == nil {
		w.mu.Lock()
		w.served++
		w.mu.Unlock()
	}
	return attempt.End(err)
}

func (w *testService) set(answer func(requests string) (time.Duration, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
}

func (w *testService) servedSoFar() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.served
}

// most returns the largest number of attempts in a second between two times.
func (w *testService) most(from, to time.Duration) (most int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, first := range w.attempts {
		n := 0
		for _, at := range w.attempts[i:] {
			if at < first+time.Second {
				n++
			}
		}
		if first >= from && first+time.Second <= to {
			most = max(most, n)
		}
	}
	return most
}

// TestOutage: every kind of outage is reported within 5 s, every 30 s and at its end. Any
// number of workers make one attempt a second together, and all of them continue when the
// service is available again.
func TestOutage(t *testing.T) {
	refused := func(string) (time.Duration, error) { return 0, errAway }
	silent := func(string) (time.Duration, error) { return 30 * time.Second, errAway }
	lost := func(string) (time.Duration, error) { return time.Hour, errAway }
	slow := func(string) (time.Duration, error) { return 900 * time.Millisecond, errAway }
	for name, away := range map[string]func(string) (time.Duration, error){
		"refused": refused, "silent": silent, "slow": slow, "lost": lost,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, stop := newTestService(t, 64, "")
				time.Sleep(10 * time.Second)
				w.set(away)
				time.Sleep(100 * time.Second)
				w.set(func(string) (time.Duration, error) { return 100 * time.Millisecond, nil })
				time.Sleep(2 * time.Second)
				w.checkLines(t)
				if most := w.most(13*time.Second, 110*time.Second); most > 2 {
					t.Errorf("%d attempts in a second of the outage", most)
				}
				if n := w.most(0, 9*time.Second); n < 64*9 {
					t.Errorf("only %d requests a second before the outage", n)
				}
				before := w.servedSoFar()
				time.Sleep(40 * time.Second) // hanging requests have ended
				if per := (w.servedSoFar() - before) / 40; per < 64*5 {
					t.Errorf("%d requests a second after the outage", per)
				}
				stop()
			})
		})
	}
}

func (w *testService) checkLines(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	kinds := []Kind{Began, Continues, Continues, Continues, Ended}
	due := []int{14, 44, 74, 104, 112} // seconds, at the latest
	if len(w.notices) != len(kinds) {
		t.Fatalf("%d notices, want %d: %+v", len(w.notices), len(kinds), w.notices)
	}
	for i, n := range w.notices {
		latest := time.Duration(due[i]) * time.Second
		if n.Kind != kinds[i] || w.at[i] > latest || w.at[i] < latest-3*time.Second {
			t.Errorf("notice %d of kind %d at %v, want kind %d by %v", i, n.Kind, w.at[i],
				kinds[i], latest)
		}
		if n.Service != "KMS at there" {
			t.Errorf("notice %d names %q", i, n.Service)
		}
		since := w.at[i] - 10*time.Second
		if d := n.For - since; d.Abs() > 100*time.Millisecond {
			t.Errorf("notice %d: away for %v, want %v", i, n.For, since)
		}
		left := 10*time.Minute - n.For
		if n.Kind != Ended && n.GivesUpIn != left {
			t.Errorf("notice %d: gives up in %v, want %v", i, n.GivesUpIn, left)
		}
	}
	if last := w.notices[4]; last.Attempts < 60 && w.notices[0].Err != nil {
		t.Errorf("the last notice has %d attempts", last.Attempts)
	}
}

// TestFailuresBetweenAnswers: a service that responds to half of the requests has no outage.
func TestFailuresBetweenAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestService(t, 8, "")
		var mu sync.Mutex
		n := 0
		w.set(func(string) (time.Duration, error) {
			mu.Lock()
			defer mu.Unlock()
			if n++; n%2 == 0 {
				return 100 * time.Millisecond, errAway
			}
			return 100 * time.Millisecond, nil
		})
		time.Sleep(time.Minute)
		stop()
		if len(w.notices) > 0 || w.served < 60*20 {
			t.Errorf("%d requests were served, notices %+v", w.served, w.notices)
		}
	})
}

// TestOutageOfWrites: if only writes get no response, writes wait and reads continue. The notice
// names the writes.
func TestOutageOfWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestService(t, 4, "reads", "writes")
		w.set(func(kind string) (time.Duration, error) {
			if kind == "writes" {
				return 0, errAway
			}
			return 100 * time.Millisecond, nil
		})
		time.Sleep(20 * time.Second)
		served := w.servedSoFar()
		w.set(func(string) (time.Duration, error) { return 100 * time.Millisecond, nil })
		time.Sleep(time.Second)
		stop()
		if len(w.notices) != 2 || w.notices[0].Requests != "writes" || w.notices[1].Kind != Ended {
			t.Errorf("notices: %+v", w.notices)
		}
		if served < 20*30 {
			t.Errorf("%d reads were served", served)
		}
	})
}

// TestFlappingService: a service with many short outages is reported at most once in 10 s.
func TestFlappingService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestService(t, 8, "")
		for range 12 {
			w.set(func(string) (time.Duration, error) { return 0, errAway })
			time.Sleep(4500 * time.Millisecond)
			w.set(func(string) (time.Duration, error) { return 100 * time.Millisecond, nil })
			time.Sleep(1500 * time.Millisecond)
		}
		stop()
		var last time.Duration
		began := 0
		for i, n := range w.notices {
			if n.Kind == Ended {
				continue
			}
			if began++; began > 1 && w.at[i]-last < 10*time.Second {
				t.Errorf("warnings at %v and %v", last, w.at[i])
			}
			last = w.at[i]
		}
		if began < 4 {
			t.Errorf("%d warnings in 72 s", began)
		}
	})
}

// TestLostRequestsFailAfterTheOutage: requests that were lost in an outage and fail after its
// end, in silence or with an error, do not begin another one.
func TestLostRequestsFailAfterTheOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestService(t, 0)
		gate := w.Gate("S3 at there", "")
		begin := func() Attempt {
			a, err := gate.Begin(false)
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		var lost []Attempt
		for range 8 {
			lost = append(lost, begin())
		}
		time.Sleep(5 * time.Second)
		if !gate.closed() {
			t.Fatal("there are no responses, and the gate is open")
		}
		_ = begin().End(nil)
		time.Sleep(10 * time.Second)
		for _, a := range lost {
			_ = a.End(errAway)
		}
		time.Sleep(5 * time.Second)
		if gate.closed() || len(w.notices) != 2 {
			t.Errorf("want the notices of one outage: %+v", w.notices)
		}
		begin() // without a response
		time.Sleep(5 * time.Second)
		if !gate.closed() {
			t.Error("a new request has no response, and the gate is open")
		}
		stop()
	})
}

// TestUnneededService: an outage is not reported while no request needs the service, and its
// gate opens after some time.
func TestUnneededService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestService(t, 0)
		gate := w.RareGate("KMS at there", "")
		w.set(func(string) (time.Duration, error) { return 0, errAway })
		for range 3 {
			_ = w.send(gate, "")
		}
		var held *HeldError
		if err := w.send(gate, ""); !errors.As(err, &held) {
			t.Errorf("the gate is open: %v", err)
		}
		time.Sleep(time.Minute)
		w.set(func(string) (time.Duration, error) { return 0, nil })
		if err := w.send(gate, ""); err != nil || len(w.notices) > 1 {
			t.Errorf("error %v, notices %+v", err, w.notices)
		}
		stop()
	})
}

// TestThrottlingIsNoOutage: throttled requests close a gate only if they pass no rate limiter.
func TestThrottlingIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestService(t, 0)
		w.set(func(string) (time.Duration, error) { return 0, errThrottled })
		limited, rare := w.Gate("KMS at there", ""), w.RareGate("DynamoDB at there", "checkpoint")
		var held *HeldError
		for n := range 30 {
			if err := w.send(limited, ""); errors.As(err, &held) {
				t.Fatalf("request %d is held", n)
			}
			if err := w.send(rare, ""); errors.As(err, &held) != (n >= 2) {
				t.Fatalf("request %d: %v", n, err)
			}
		}
		stop()
	})
}

// TestAwait: waiters are served in order, one each second, and wait at most for their limit.
func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestService(t, 0)
		gate := w.StrictGate("KMS at there", "")
		w.set(func(string) (time.Duration, error) { return 0, errAway })
		_ = w.send(gate, "")
		var held *HeldError
		if err := w.send(gate, ""); !errors.As(err, &held) {
			t.Fatal(err)
		}
		began := time.Now()
		var mu sync.Mutex
		var order []string
		var wait sync.WaitGroup
		for n := range 4 {
			wait.Go(func() {
				_ = held.Await(t.Context(), time.Hour)
				_ = w.send(gate, "")
				mu.Lock()
				defer mu.Unlock()
				order = append(order, fmt.Sprintf("%d at %v", n, time.Since(began)))
			})
			synctest.Wait()
		}
		if err := held.Await(t.Context(), 1500*time.Millisecond); err != nil ||
			time.Since(began) != 1500*time.Millisecond {
			t.Errorf("error %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := held.Await(ctx, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("a request failed: %v", err)
		}
		wait.Wait()
		if fmt.Sprint(order) != "[0 at 1s 1 at 2s 2 at 3s 3 at 4s]" {
			t.Errorf("order: %v", order)
		}
		stop()
	})
}

// TestSuspended: a process that was suspended for longer than the time limit of outages does
// not report an outage.
func TestSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Config{Judge: judge, Report: func(n Notice) { t.Errorf("reported: %+v", n) }})
		gate := m.Gate("KMS at there", "")
		before, err := gate.Begin(false)
		if err != nil {
			t.Fatal(err)
		}
		m.check(time.Now())
		time.Sleep(time.Minute) // nothing runs
		after, err := gate.Begin(false)
		if err != nil {
			t.Errorf("the first request is held: %v", err)
		}
		if notices, _ := m.check(time.Now()); len(notices) > 0 {
			t.Errorf("reported: %+v", notices)
		}
		_, _ = before.End(nil), after.End(nil)
	})
}

// TestFirstRequestAfterTheCut: an outage is reported within 5 s, although the first request of
// the outage is sent a second and a half after its beginning.
func TestFirstRequestAfterTheCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestService(t, 0)
		w.set(func(string) (time.Duration, error) { return 0, errAway })
		gate := w.Gate("KMS at there", "")
		time.Sleep(1500 * time.Millisecond)
		for time.Since(w.began) < 6*time.Second {
			_ = w.send(gate, "")
			time.Sleep(100 * time.Millisecond)
		}
		stop()
		if len(w.at) != 1 || w.at[0] > 5*time.Second {
			t.Errorf("notices at %v, want one by 5 s", w.at)
		}
	})
}

// silentBody is a body whose Read returns when the request is given up.
type silentBody struct{ ctx context.Context }

func (b silentBody) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

func (b silentBody) Close() error { return nil }

// TestSilentBody: a server that becomes silent in the middle of a body is reported within 5 s,
// and the request is given up.
func TestSilentBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestService(t, 0)
		gate := w.Gate("KMS at there", "")
		ctx, cancel := context.WithCancel(t.Context())
		object := &s3.GetObjectOutput{Body: silentBody{ctx}}
		if !gate.watchBody(middleware.DeserializeOutput{Result: object}, cancel) {
			t.Fatal("the body is not watched")
		}
		_, err := object.Body.Read(nil)
		var away *Error
		var gone *givenUpError
		took := time.Since(w.began)
		if !errors.As(err, &away) || !errors.As(err, &gone) || took > 11*time.Second {
			t.Errorf("error %v after %v", err, took)
		}
		if len(w.at) != 1 || w.at[0] > 5*time.Second {
			t.Errorf("notices at %v, want one by 5 s", w.at)
		}
		stop()
	})
}

// closed reports whether the gate is closed.
func (g *Gate) closed() bool {
	g.monitor.mu.Lock()
	defer g.monitor.mu.Unlock()
	return g.opens != nil
}

// TestBodiesDuringAnOutage: reading an open body does not end the outage of a service that
// refuses new requests. It ends a silence.
func TestBodiesDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestService(t, 0)
		gate := w.StrictGate("KMS at there", "")
		open := func() {
			object := &s3.GetObjectOutput{Body: io.NopCloser(strings.NewReader("text"))}
			gate.watchBody(middleware.DeserializeOutput{Result: object}, func() {})
			if text, err := io.ReadAll(object.Body); string(text) != "text" || err != nil {
				t.Errorf("%q, %v", text, err)
			}
		}
		w.set(func(string) (time.Duration, error) { return 0, errAway })
		_ = w.send(gate, "")
		open()
		if !gate.closed() {
			t.Error("a body opened the gate")
		}
		time.Sleep(time.Minute)
		lost, _ := gate.Begin(false)
		time.Sleep(4 * time.Second)
		if !gate.closed() {
			t.Error("the gate is open during a silence")
		}
		open()
		if gate.closed() {
			t.Error("the gate is closed although bytes arrive")
		}
		_ = lost.End(nil)
		stop()
	})
}

// TestPatience: no request is in flight for longer than the program waits in an outage.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestService(t, 0)
		w.SetPatience(4 * time.Second)
		w.set(func(string) (time.Duration, error) { return time.Hour, nil })
		err := w.send(w.Gate("KMS at there", ""), "")
		if took := time.Since(w.began); err == nil || took > 5*time.Second {
			t.Errorf("error %v after %v", err, took)
		}
		stop()
	})
}

// TestCutAttemptIsNotSilence: the program gives up a young attempt because its patience has ended.
// The cause is the failure of the attempts before, not silence.
func TestCutAttemptIsNotSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestService(t, 0)
		w.SetPatience(4 * time.Second)
		gate := w.StrictGate("KMS at there", "")
		w.set(func(string) (time.Duration, error) { return 0, syscall.ECONNREFUSED })
		for time.Since(w.began) < 3500*time.Millisecond {
			_ = w.send(gate, "")
			time.Sleep(100 * time.Millisecond)
		}
		w.set(func(string) (time.Duration, error) { return time.Hour, nil })
		var err error
		for sent := 0; sent < 2; time.Sleep(100 * time.Millisecond) { // the second is cut too
			if err = w.send(gate, ""); !errors.As(err, new(*HeldError)) {
				sent++
			}
		}
		stop()
		if !errors.As(err, new(*givenUpError)) || Cause(err) != "connection refused" {
			t.Errorf("%v: %s", err, Cause(err))
		}
	})
}

// TestGivesUpInIsKnown: the notice of an outage states when the program gives up, unless the
// program can continue without the requests.
func TestGivesUpInIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestService(t, 0)
		w.SetPatience(time.Minute)
		w.set(func(string) (time.Duration, error) { return 0, errAway })
		strict, rare := w.StrictGate("KMS at there", ""), w.RareGate("S3 at there", "checkpoint")
		for time.Since(w.began) < 4*time.Second {
			_, _ = w.send(strict, ""), w.send(rare, "")
			time.Sleep(100 * time.Millisecond)
		}
		stop()
		if len(w.notices) != 2 || w.notices[0].GivesUpIn < 55*time.Second ||
			w.notices[1].GivesUpIn != 0 {
			t.Errorf("notices %+v", w.notices)
		}
	})
}
