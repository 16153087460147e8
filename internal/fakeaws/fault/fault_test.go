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
		t.Errorf("without Share and Times: %d of 10 requests hit", n)
	}
	if n, first := hits(Fault{Kind: Throttle, Skip: 3, Times: 2}, 10); n != 2 || first != 3 {
		t.Errorf("Skip 3, Times 2: %d requests hit, the first is %d", n, first)
	}
	if n, _ := hits(Fault{Kind: Throttle, Share: 0.25}, 4000); n < 900 || n > 1100 {
		t.Errorf("Share 0.25: %d of 4000 requests hit", n)
	}
	i := New(1)
	i.Set("*", Fault{Kind: Throttle})
	i.Set("s3:PutObject", Fault{})
	if kind(i, "s3:GetObject") != Throttle || kind(i, "s3:PutObject") != None {
		t.Error("the fault of * must apply to exactly the operations that have no other fault")
	}
	i.Clear("")
	if kind(i, "s3:GetObject") != None || i.Counts()["s3:GetObject"] != 2 {
		t.Error("Clear must remove all faults and keep the counts")
	}
}

// echo is a service that returns the body of the request and counts the requests.
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

// TestKinds checks, for every kind of fault, what reaches the service, what the client
// receives and what the function of Watch receives.
func TestKinds(t *testing.T) {
	sent := strings.Repeat("0123456789", 2000)
	whole := fmt.Sprintf("200 %d <nil>", len(sent))
	for _, test := range []struct {
		name  string
		fault Fault
		// got is the status, the number of bytes received, and the error that ended the
		// answer.
		got    string
		served bool
	}{
		{"none", Fault{}, whole, true},
		{"throttle", Fault{Kind: Throttle}, "429 0 <nil>", false},
		{"internal error", Fault{Kind: InternalError}, "500 0 <nil>", false},
		{
			"refusal",
			Fault{Kind: Refusal, Answer: Answer{Code: "ExpiredToken"}},
			"400 12 <nil>",
			false,
		},
		{"reset", Fault{Kind: Reset}, "lost", false},
		{"half of the request", Fault{Kind: HalfRequest}, "lost", false},
		{"lost response", Fault{Kind: LostResponse}, "lost", true},
		{"half of the response", Fault{Kind: HalfResponse}, "cut", true},
		{
			"Of is false",
			Fault{Kind: Reset, Of: func(r *http.Request) bool { return r.Method == "PUT" }},
			whole,
			true,
		},
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
			if (service.served == 1) != test.served || len(seen) != 1 ||
				seen[0].Served != test.served {
				t.Fatalf("served %d times, %d exchanges watched: %+v", service.served, len(seen),
					seen)
			}
			if test.served {
				if diff := cmp.Diff(sent, string(seen[0].Answer)); diff != "" ||
					seen[0].Status != 200 {
					t.Errorf("status %d; answer (-sent +watched): %.100s", seen[0].Status, diff)
				}
			}
			if test.fault.Kind != HalfRequest && !bytes.Equal(seen[0].Body, []byte(sent)) {
				t.Errorf("%d bytes of the request watched, %d sent", len(seen[0].Body), len(sent))
			}
		})
	}
}

// ask sends a POST request and describes the answer in the form of got.
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
