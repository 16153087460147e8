// Package fault injects network and service failures in front of the fake AWS services: added
// latency, throttling, server errors and other refusals, a connection that is reset before or
// during a request, a response that is lost or truncated after the request was applied, and a
// hook that runs just before a request, such as a concurrent write. It also counts the
// requests of each operation and reports each exchange to an observer.
package fault

import (
	"bytes"
	"cmp"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Kind is the kind of failure of a request.
type Kind int

// The kinds of faults.
const (
	None          Kind = iota // no failure: only Delay, Before and Change apply
	Throttle                  // throttling error of the service; not applied
	InternalError             // HTTP 500 of the service; not applied
	Refusal                   // the error in Fault.Answer; not applied
	Reset                     // connection reset; not applied
	HalfRequest               // connection reset while the request is sent; not applied
	LostResponse              // applied, then connection reset
	HalfResponse              // applied, then connection reset in the middle of the body
)

// Answer is an error of a service. The service writes it in the form of its protocol.
type Answer struct {
	Status  int    // HTTP status; default 400
	Code    string // "AccessDeniedException"
	Message string // default: the code
}

// Fault is what happens to the requests of one operation.
type Fault struct {
	Kind Kind
	// Answer is the error for Refusal.
	Answer Answer
	// RetryAfter is sent in the header x-amz-retry-after with Throttle, InternalError and
	// Refusal, in milliseconds; 0 omits the header.
	RetryAfter time.Duration
	// Of limits the fault to the requests for which it returns true; nil means all requests.
	// It is called before the body is read and must not read it. It must not call the
	// Injector.
	Of    func(r *http.Request) bool
	Delay time.Duration // added before the request is handled
	// Share is the fraction of requests that the fault hits, drawn at random; 0 means all.
	Share float64
	// Skip is the number of requests that pass before the fault takes effect.
	Skip int
	// Times is the number of requests that the fault hits before it ends; 0 means no end.
	Times int
	// Before is called with the request and its body before the service handles the request.
	// It may call the services: no lock is held. It may run concurrently.
	Before func(r *http.Request, body []byte)
	// Change returns the body that the client receives in place of the answer of the service,
	// and may change the header. Nil leaves the answer unchanged. It may run concurrently.
	Change func(r *http.Request, header http.Header, answer []byte) []byte
}

// Service is a fake service, as an Injector uses it.
type Service interface {
	http.Handler
	// Operation returns the IAM name of the request, such as "kms:ReEncrypt".
	Operation(r *http.Request) string
	// Throttle and Fail write the throttling error and the HTTP 500 of the service.
	Throttle(w http.ResponseWriter, r *http.Request)
	Fail(w http.ResponseWriter, r *http.Request)
	// Refuse writes any other error.
	Refuse(w http.ResponseWriter, r *http.Request, a Answer)
}

// Exchange is a request and its answer.
type Exchange struct {
	Operation string // "kms:ReEncrypt"
	Request   *http.Request
	Body      []byte // of the request; nil with HalfRequest, which is not read
	// Served reports whether the service received the request. If so, Status, Header and
	// Answer are those of the service, even if they did not reach the client.
	Served bool
	Status int
	Header http.Header
	Answer []byte
}

// Injector holds the faults and counts requests. It is safe for concurrent use.
type Injector struct {
	mu     sync.Mutex
	random *rand.Rand
	faults map[string]*Fault
	counts map[string]int
	watch  func(Exchange)
}

// New creates an Injector without faults. seed determines which requests Share selects.
func New(seed uint64) *Injector {
	return &Injector{
		random: rand.New(rand.NewPCG(seed, seed)),
		faults: map[string]*Fault{},
		counts: map[string]int{},
	}
}

// Set sets the fault of an operation, such as "kms:ReEncrypt", in place of its previous
// fault. The fault of "*" applies to all operations that have no other fault.
func (i *Injector) Set(operation string, f Fault) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.faults[operation] = &f
}

// Clear removes the fault of an operation. The empty string removes all faults.
func (i *Injector) Clear(operation string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if operation == "" {
		clear(i.faults)
	}
	delete(i.faults, operation)
}

// Watch calls watch for every request, after the service handled it or a fault kept it from
// the service and before the client receives anything. Nil ends this. watch may run
// concurrently; no lock is held.
func (i *Injector) Watch(watch func(Exchange)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.watch = watch
}

// Counts returns the number of requests of each operation, including those that a fault hit.
func (i *Injector) Counts() map[string]int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(i.counts)
}

// draw counts the request. It returns the fault that hits the request and the function of
// Watch.
func (i *Injector) draw(operation string, r *http.Request) (Fault, func(Exchange)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.counts[operation]++
	f := i.faults[operation]
	if f == nil {
		f = i.faults["*"]
	}
	if f == nil || f.Of != nil && !f.Of(r) || f.Share > 0 && i.random.Float64() >= f.Share {
		return Fault{}, i.watch
	}
	if f.Skip > 0 {
		f.Skip--
		return Fault{}, i.watch
	}
	hit := *f
	if f.Times > 0 {
		if f.Times--; f.Times == 0 {
			f.Times = -1
		}
	} else if f.Times < 0 {
		return Fault{}, i.watch
	}
	return hit, i.watch
}

// Handler returns the service with the Injector in front of it.
func (i *Injector) Handler(s Service) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		operation := s.Operation(r)
		f, watch := i.draw(operation, r)
		seen := Exchange{Operation: operation, Request: r}
		report := func() {
			if watch != nil {
				watch(seen)
			}
		}
		if f.Kind == HalfRequest {
			_, _ = io.CopyN(io.Discard, r.Body, max(1, r.ContentLength/2))
			report()
			reset(w)
			return
		}
		if f.Before != nil || f.Delay > 0 || watch != nil {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				reset(w) // the client would take an empty answer for success
				return
			}
			seen.Body = body
			r.Body = io.NopCloser(bytes.NewReader(body))
			if f.Before != nil {
				f.Before(r, body)
			}
			if !wait(r, f.Delay) {
				reset(w)
				return
			}
		}
		if f.refused(s, w, r, report) {
			return
		}
		if watch == nil && f.Kind == None && f.Change == nil {
			s.ServeHTTP(w, r)
			return
		}
		f.serve(s, w, r, &seen, report)
	})
}

// Watched calls watch with every exchange of a handler that has no Injector. Faults do not
// apply, so every request is complete. operation returns the name of a request.
func Watched(
	s http.Handler, operation func(*http.Request) string, watch func(Exchange),
) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := Exchange{Request: r}
		var err error
		if seen.Body, err = io.ReadAll(r.Body); err != nil {
			reset(w)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(seen.Body))
		seen.Operation = operation(r)
		(&Fault{}).serve(s, w, r, &seen, func() { watch(seen) })
	})
}

// refused handles the faults that keep a request from the service. It reports whether the fault
// is one of them.
func (f *Fault) refused(s Service, w http.ResponseWriter, r *http.Request, report func()) bool {
	switch f.Kind {
	case Throttle, InternalError, Refusal, Reset:
		report()
	}
	if f.RetryAfter > 0 {
		ms := strconv.FormatInt(f.RetryAfter.Milliseconds(), 10)
		w.Header().Set("X-Amz-Retry-After", ms)
	}
	switch f.Kind {
	case Throttle:
		s.Throttle(w, r)
	case InternalError:
		s.Fail(w, r)
	case Refusal:
		s.Refuse(w, r, Answer{
			Status:  cmp.Or(f.Answer.Status, http.StatusBadRequest),
			Code:    f.Answer.Code,
			Message: cmp.Or(f.Answer.Message, f.Answer.Code),
		})
	case Reset:
		reset(w)
	default:
		return false
	}
	return true
}

// serve lets the service answer, calls show, and sends the part of the answer that the fault
// leaves.
func (f *Fault) serve(
	s http.Handler, w http.ResponseWriter, r *http.Request, seen *Exchange, report func(),
) {
	k := &responseBuffer{header: w.Header().Clone()}
	s.ServeHTTP(k, r)
	seen.Served = true
	seen.Status = cmp.Or(k.status, http.StatusOK)
	seen.Header = k.header
	seen.Answer = k.body.Bytes()
	report()
	if f.Change != nil {
		k.body = *bytes.NewBuffer(f.Change(r, k.header, k.body.Bytes()))
	}
	switch f.Kind {
	case LostResponse:
		reset(w)
	case HalfResponse:
		k.send(w, r, k.body.Len()/2)
		reset(w)
	default:
		k.send(w, r, k.body.Len())
	}
}

// wait sleeps for d. It returns false if the client disconnects first.
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

// reset closes the connection with a TCP reset.
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

// responseBuffer is a ResponseWriter that keeps the answer in memory.
type responseBuffer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (k *responseBuffer) Header() http.Header         { return k.header }
func (k *responseBuffer) Write(p []byte) (int, error) { return k.body.Write(p) }
func (k *responseBuffer) WriteHeader(status int)      { k.status = status }

// send sends the first n bytes of the body, with the Content-Length of the whole body.
func (k *responseBuffer) send(w http.ResponseWriter, r *http.Request, n int) {
	maps.Copy(w.Header(), k.header)
	if status := cmp.Or(k.status, http.StatusOK); r.Method != http.MethodHead &&
		status != http.StatusNoContent && status != http.StatusNotModified {
		w.Header().Set("Content-Length", strconv.Itoa(k.body.Len()))
	}
	w.WriteHeader(cmp.Or(k.status, http.StatusOK))
	_, _ = w.Write(k.body.Bytes()[:n])
	if n < k.body.Len() {
		_ = http.NewResponseController(w).Flush()
	}
}
