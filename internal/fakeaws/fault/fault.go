// Package fault plays the failures of a network and of a service in front of
// the fake AWS services: added latency, throttling, server errors and other
// refusals, a connection that is reset before or in the middle of a request, a
// response that is lost or cut short after the request was applied, and a hook
// that runs just before a request (a concurrent writer). It also counts every
// request by operation, and shows each to a watcher, with what became of it.
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

// Kind is what goes wrong with a request.
type Kind int

// The kinds of faults.
const (
	None          Kind = iota // nothing: for Delay and Before alone
	Throttle                  // the service's own throttling answer; not applied
	InternalError             // the service's own HTTP 500; not applied
	Refusal                   // the answer that Fault.Answer names; not applied
	Reset                     // the connection is reset; not applied
	HalfRequest               // reset while the request is still being sent; not applied
	LostResponse              // applied, then the connection is reset
	HalfResponse              // applied, then the connection is reset in the middle of the answer's body
)

// Answer is an error that a service gives in the form of its own protocol.
type Answer struct {
	Status  int    // HTTP status; default 400
	Code    string // "AccessDeniedException"
	Message string // default: the code
}

// Fault is what happens to the requests of one operation.
type Fault struct {
	Kind Kind
	// Answer is what Refusal answers.
	Answer Answer
	// RetryAfter is sent as x-amz-retry-after with Throttle, InternalError and Refusal,
	// unless it is 0.
	RetryAfter time.Duration
	// Of narrows the fault to the requests for which it is true; nil means all.
	// It sees a request before its body is read, and must not read it.
	Of    func(r *http.Request) bool
	Delay time.Duration // added before the request is handled
	// Share is the fraction of requests that are hit, drawn at random; 0 means
	// all of them.
	Share float64
	// Skip is the number of requests that pass before the fault takes effect.
	Skip int
	// Times is the number of requests that the fault hits before it ends; 0 means no end.
	Times int
	// Before runs before the request is handled, with its body. It may call the
	// services itself: no lock is held.
	Before func(r *http.Request, body []byte)
	// Change makes the answer that the client gets out of that of the service, whose
	// header it may change; nil leaves it as it is. It runs concurrently.
	Change func(r *http.Request, header http.Header, answer []byte) []byte
}

// Service is a fake service as the injector sees it.
type Service interface {
	http.Handler
	// Operation names the request as IAM would: "kms:ReEncrypt", "s3:PutObject".
	Operation(r *http.Request) string
	// Throttle and Fail answer as the service does when it throttles or fails.
	Throttle(w http.ResponseWriter, r *http.Request)
	Fail(w http.ResponseWriter, r *http.Request)
	// Refuse answers with any other error.
	Refuse(w http.ResponseWriter, r *http.Request, a Answer)
}

// Exchange is one request and what became of it.
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

// Injector holds the faults that are set and the counts. It is safe for
// concurrent use.
type Injector struct {
	mu     sync.Mutex
	random *rand.Rand
	faults map[string]*Fault
	counts map[string]int
	watch  func(Exchange)
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

// Watch has every request shown to watch once the service has served it, or a
// fault has kept it from the service; before the client gets to know. Nil ends it.
// It runs concurrently, with no lock held.
func (i *Injector) Watch(watch func(Exchange)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.watch = watch
}

// Counts returns how many requests came in, by operation, those with faults
// included.
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

// Handler puts the injector in front of a service.
func (i *Injector) Handler(s Service) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		operation := s.Operation(r)
		f, watch := i.draw(operation, r)
		seen := Exchange{Operation: operation, Request: r}
		show := func() {
			if watch != nil {
				watch(seen)
			}
		}
		if f.Kind == HalfRequest {
			_, _ = io.CopyN(io.Discard, r.Body, max(1, r.ContentLength/2))
			show()
			reset(w)
			return
		}
		if f.Before != nil || f.Delay > 0 || watch != nil {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				reset(w) // an empty answer would read as success
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
		if f.kept(s, w, r, show) {
			return
		}
		if watch == nil && f.Kind == None && f.Change == nil {
			s.ServeHTTP(w, r)
			return
		}
		f.serve(s, w, r, &seen, show)
	})
}

// Watched calls watch with every exchange of a handler that has no Injector. Faults do not
// apply, so every request is complete. operation returns the name of a request.
func Watched(s http.Handler, operation func(*http.Request) string, watch func(Exchange)) http.Handler {
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

// kept plays the faults that keep a request from the service; false when the
// fault is none of them.
func (f *Fault) kept(s Service, w http.ResponseWriter, r *http.Request, show func()) bool {
	switch f.Kind {
	case Throttle, InternalError, Refusal, Reset:
		show()
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
		s.Refuse(w, r, Answer{Status: cmp.Or(f.Answer.Status, http.StatusBadRequest), Code: f.Answer.Code,
			Message: cmp.Or(f.Answer.Message, f.Answer.Code)})
	case Reset:
		reset(w)
	default:
		return false
	}
	return true
}

// serve has the service answer, shows that, and sends what the fault leaves of it.
func (f *Fault) serve(s http.Handler, w http.ResponseWriter, r *http.Request, seen *Exchange, show func()) {
	k := &keeper{header: w.Header().Clone()}
	s.ServeHTTP(k, r)
	seen.Served, seen.Status, seen.Header, seen.Answer = true, cmp.Or(k.status, http.StatusOK), k.header, k.body.Bytes()
	show()
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

// keeper keeps an answer until it is decided what becomes of it.
type keeper struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (k *keeper) Header() http.Header         { return k.header }
func (k *keeper) Write(p []byte) (int, error) { return k.body.Write(p) }
func (k *keeper) WriteHeader(status int)      { k.status = status }

// send sends the answer with the first n bytes of its body, under the length of
// the whole.
func (k *keeper) send(w http.ResponseWriter, r *http.Request, n int) {
	maps.Copy(w.Header(), k.header)
	if status := cmp.Or(k.status, http.StatusOK); r.Method != http.MethodHead && status != http.StatusNoContent && status != http.StatusNotModified {
		w.Header().Set("Content-Length", strconv.Itoa(k.body.Len()))
	}
	w.WriteHeader(cmp.Or(k.status, http.StatusOK))
	_, _ = w.Write(k.body.Bytes()[:n])
	if n < k.body.Len() {
		_ = http.NewResponseController(w).Flush()
	}
}
