package outage

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"testing/synctest"
	"time"
)

// probeWith makes the monitor send probes, and begins a worker of the service.
func (w *testService) probeWith(t *testing.T, probe func(ctx context.Context) error) (stop func()) {
	t.Helper()
	w.Monitor.mu.Lock()
	w.probe = func(ctx context.Context, _ *url.URL) error {
		w.mu.Lock()
		w.attempts = append(w.attempts, time.Since(w.began))
		w.mu.Unlock()
		return probe(ctx)
	}
	w.Monitor.mu.Unlock()
	gate := w.Gate("KMS at there", "").At(&url.URL{Scheme: "http", Host: "there"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.work(ctx, gate, "")
	}()
	return func() {
		cancel()
		<-done
	}
}

// TestOnlyRequestIsLost: if the only request of the only worker is lost, the end of the outage
// is reported within 2 s, at any time between two probes. The service gets at most two requests
// a second.
func TestOnlyRequestIsLost(t *testing.T) {
	for ends := 14 * time.Second; ends < 27*time.Second; ends += 330 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			w, stop := newTestService(t, 0)
			up := func() bool {
				at := time.Since(w.began)
				return at < 10*time.Second || at >= ends
			}
			w.set(func(string) (time.Duration, error) {
				if !up() {
					return time.Hour, errAway
				}
				return 100 * time.Millisecond, nil
			})
			stopWorker := w.probeWith(t, func(ctx context.Context) error {
				if !up() {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			})
			time.Sleep(ends + 3*time.Second)
			stopWorker()
			stop()
			if len(w.notices) != 2 || w.notices[1].Kind != Ended || w.at[1] > ends+2*time.Second {
				t.Errorf("an outage until %v: notices %+v at %v", ends, w.notices, w.at)
			}
			if most := w.most(11*time.Second, ends); most > 2 {
				t.Errorf("%d attempts in a second of the outage", most)
			}
		})
	}
}

// TestSlowServiceIsNotGivenUp: a probe that succeeds without one that failed before it does not
// give up a request, because its response may only be late.
func TestSlowServiceIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newTestService(t, 0)
		w.set(func(string) (time.Duration, error) { return 9 * time.Second, nil })
		probes := 0
		stopWorker := w.probeWith(t, func(context.Context) error {
			probes++
			return nil
		})
		time.Sleep(89 * time.Second)
		stopWorker()
		stop()
		if w.served < 9 || probes < 9*5 {
			t.Errorf("%d requests were served, with %d probes", w.served, probes)
		}
	})
}

// TestProbe: a probe succeeds if the service responds, also with an error. Pages of proxies and
// server errors are not responses of the service.
func TestProbe(t *testing.T) {
	for name, c := range map[string]struct {
		status    int
		id, body  string
		succeeded bool
	}{
		"DynamoDB":        {200, "", "healthy: dynamodb.eu-west-1.amazonaws.com", true},
		"KMS":             {404, "1f6b", "", true},
		"S3":              {403, "", "\ufeff<?xml version=\"1.0\"?><Error/>", true},
		"JSON":            {400, "", `{"__type":"MissingAuthenticationToken"}`, true},
		"page":            {200, "", "<!DOCTYPE html>\n<HTML lang=en>", false},
		"text of a proxy": {404, "", "404 page not found", false},
		"redirect":        {302, "", "", false},
		"throttled":       {429, "1f6b", "{}", false},
		"unavailable":     {503, "1f6b", "<Error/>", false},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(
				func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Authorization") != "" || r.URL.Path != "/" {
						t.Errorf("%s with %v", r.URL, r.Header)
					}
					if c.id != "" {
						w.Header().Set("x-amzn-RequestId", c.id)
					}
					w.WriteHeader(c.status)
					_, _ = io.WriteString(w, c.body)
				}))
			defer server.Close()
			endpoint, err := url.Parse(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			m := New(Config{Judge: judge})
			m.UseTransport(&http.Transport{})
			gate := m.Gate("KMS at there", "").At(endpoint)
			if err := m.probe(t.Context(), gate.service.endpoint); (err == nil) != c.succeeded {
				t.Errorf("the request failed: %v", err)
			}
		})
	}
}
