package fault

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func kind(i *Injector, operation string) Kind {
	f, _ := i.draw(operation, nil)
	return f.Kind
}

// TestDraw: Share, Skip and Times determine how many requests a fault hits, and which request
// is the first.
func TestDraw(t *testing.T) {
	hits := func(f Fault, requests int) (n int, first int) {
		i := New(1)
		i.Set("s3:GetObject", f)
		for r := range requests {
			if kind(i, "s3:GetObject") == Throttle {
				if n == 0 {
					first = r
				}
				n++
			}
		}
		return n, first
	}
	if n, _ := hits(Fault{Kind: Throttle}, 10); n != 10 {
		t.Errorf("all: %d of 10", n)
	}
	if n, first := hits(Fault{Kind: Throttle, Skip: 3, Times: 2}, 10); n != 2 || first != 3 {
		t.Errorf("two, after three: %d from %d on", n, first)
	}
	if n, _ := hits(Fault{Kind: Throttle, Share: 0.25}, 4000); n < 900 || n > 1100 {
		t.Errorf("a quarter: %d of 4000", n)
	}
	i := New(1)
	i.Set("*", Fault{Kind: Throttle})
	i.Set("s3:PutObject", Fault{})
	if kind(i, "s3:GetObject") != Throttle || kind(i, "s3:PutObject") != None {
		t.Error("* stands for operations that have no fault of their own, and no others")
	}
	i.Clear("")
	if kind(i, "s3:GetObject") != None || i.Counts()["s3:GetObject"] != 2 {
		t.Error("Clear takes all faults off, and no counts")
	}
}

// echo is a service that answers with what it was sent, and counts.
type echo struct{ served int }

func (e *echo) Operation(r *http.Request) string { return "echo:" + r.Method }
func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.served++
	_, _ = io.Copy(w, r.Body)
}
func (e *echo) Throttle(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }
func (e *echo) Fail(w http.ResponseWriter, _ *http.Request)     { w.WriteHeader(500) }
func (e *echo) Refuse(w http.ResponseWriter, _ *http.Request, a Answer) {
	w.WriteHeader(a.Status)
	_, _ = io.WriteString(w, a.Code)
}

// TestKinds: what reaches the service, what the client gets to see, and what a
// watcher is shown, for every kind of fault.
func TestKinds(t *testing.T) {
	sent := strings.Repeat("0123456789", 2000)
	whole := fmt.Sprintf("200 %d <nil>", len(sent))
	for _, test := range []struct {
		name  string
		fault Fault
		// got is status, bytes of the answer that came, and what ended it.
		got    string
		served bool
	}{
		{"none", Fault{}, whole, true},
		{"throttle", Fault{Kind: Throttle}, "429 0 <nil>", false},
		{"internal error", Fault{Kind: InternalError}, "500 0 <nil>", false},
		{"refusal", Fault{Kind: Refusal, Answer: Answer{Code: "ExpiredToken"}}, "400 12 <nil>", false},
		{"reset", Fault{Kind: Reset}, "lost", false},
		{"half of the request", Fault{Kind: HalfRequest}, "lost", false},
		{"lost response", Fault{Kind: LostResponse}, "lost", true},
		{"half of the response", Fault{Kind: HalfResponse}, "cut", true},
		{"not of these requests", Fault{Kind: Reset, Of: func(r *http.Request) bool { return r.Method == "PUT" }}, whole, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			service, i := &echo{}, New(1)
			server := httptest.NewServer(i.Handler(service))
			defer server.Close()
			var seen []Exchange
			i.Watch(func(e Exchange) { seen = append(seen, e) })
			i.Set("*", test.fault)
			if got := ask(server.Client(), server.URL, sent); got != test.got {
				t.Errorf("the client got %q, want %q", got, test.got)
			}
			server.Close()
			if (service.served == 1) != test.served || len(seen) != 1 || seen[0].Served != test.served {
				t.Fatalf("served %d times, and %d exchanges were shown: %+v", service.served, len(seen), seen)
			}
			if test.served {
				if diff := cmp.Diff(sent, string(seen[0].Answer)); diff != "" || seen[0].Status != 200 {
					t.Errorf("status %d; answer (-sent +shown): %.100s", seen[0].Status, diff)
				}
			}
			if test.fault.Kind != HalfRequest && !bytes.Equal(seen[0].Body, []byte(sent)) {
				t.Errorf("%d bytes of the request were shown, and %d were sent", len(seen[0].Body), len(sent))
			}
		})
	}
}

// ask posts and says what came back.
func ask(client *http.Client, url, body string) string {
	answer, err := client.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		return "lost"
	}
	defer func() { _ = answer.Body.Close() }()
	got, err := io.ReadAll(answer.Body)
	if err != nil && len(got) < len(body) {
		return "cut"
	}
	return fmt.Sprintf("%d %d %v", answer.StatusCode, len(got), err)
}
