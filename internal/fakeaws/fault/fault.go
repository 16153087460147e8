// Package fault plays the failures of a network and of a service in front of
// the fake AWS services: added latency, throttling, server errors, a connection
// that is reset before the request is applied, a response that is lost after it
// was applied, and a hook that runs just before a request (a concurrent writer).
// It also counts every request by operation.
package fault

import (
	"bytes"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// Kind is what goes wrong with a request.
type Kind int

// The kinds of faults.
const (
	None          Kind = iota // nothing: for Delay and Before alone
	Throttle                  // the service's own throttling answer; not applied
	InternalError             // the service's own HTTP 500; not applied
	Reset                     // the connection is reset; not applied
	LostResponse              // applied, then the connection is reset
)

// Fault is what happens to the requests of one operation.
type Fault struct {
	Kind  Kind
	Delay time.Duration // added before the request is handled
	// Share is the fraction of requests that are hit, drawn at random; 0 means
	// all of them.
	Share float64
	// Skip lets so many requests pass before the fault begins.
	Skip int
	// Times ends the fault after so many hits; 0 means never.
	Times int
	// Before runs before the request is handled, with its body. It may call the
	// services itself: no lock is held.
	Before func(r *http.Request, body []byte)
}

// Service is a fake service as the injector sees it.
type Service interface {
	http.Handler
	// Operation names the request as IAM would: "kms:ReEncrypt", "s3:PutObject".
	Operation(r *http.Request) string
	// Throttle and Fail answer as the service does when it throttles or fails.
	Throttle(w http.ResponseWriter, r *http.Request)
	Fail(w http.ResponseWriter, r *http.Request)
}

// Injector holds the faults that are set and the counts. It is safe for
// concurrent use.
type Injector struct {
	mu     sync.Mutex
	random *rand.Rand
	faults map[string]*Fault
	counts map[string]int
}

// New makes an Injector without faults; seed feeds the draws of Share.
func New(seed uint64) *Injector {
	return &Injector{
		random: rand.New(rand.NewPCG(seed, seed)),
		faults: map[string]*Fault{},
		counts: map[string]int{},
	}
}

// Set puts a fault on an operation ("kms:ReEncrypt"), in the place of the one
// before. "*" stands for every operation that has none of its own.
func (i *Injector) Set(operation string, f Fault) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.faults[operation] = &f
}

// Clear takes the fault off an operation; "" clears all.
func (i *Injector) Clear(operation string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if operation == "" {
		clear(i.faults)
	}
	delete(i.faults, operation)
}

// Counts returns how many requests came in, by operation, those with faults
// included.
func (i *Injector) Counts() map[string]int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(i.counts)
}

// draw counts the request and says what happens to it.
func (i *Injector) draw(operation string) Fault {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.counts[operation]++
	f := i.faults[operation]
	if f == nil {
		f = i.faults["*"]
	}
	if f == nil || (f.Share > 0 && i.random.Float64() >= f.Share) {
		return Fault{}
	}
	if f.Skip > 0 {
		f.Skip--
		return Fault{}
	}
	hit := *f
	if f.Times > 0 {
		if f.Times--; f.Times == 0 {
			f.Times = -1
		}
	} else if f.Times < 0 {
		return Fault{}
	}
	return hit
}

// Handler puts the injector in front of a service.
func (i *Injector) Handler(s Service) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := i.draw(s.Operation(r))
		if f.Before != nil || f.Delay > 0 {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				reset(w) // an empty answer would read as success
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			if f.Before != nil {
				f.Before(r, body)
			}
			if !wait(r, f.Delay) {
				reset(w)
				return
			}
		}
		switch f.Kind {
		case Throttle:
			s.Throttle(w, r)
		case InternalError:
			s.Fail(w, r)
		case Reset:
			reset(w)
		case LostResponse:
			s.ServeHTTP(&discard{header: http.Header{}}, r)
			reset(w)
		default:
			s.ServeHTTP(w, r)
		}
	})
}

// wait sleeps for d and is false when the client went away first.
func wait(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// reset drops the connection so that the client sees it reset.
func reset(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2: net/http resets the stream
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// discard is a response that nobody gets to read.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}
