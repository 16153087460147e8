// Package fakecloudtrail implements the event history of CloudTrail in memory, for the real SDK
// client: LookupEvents. The caller records the events.
//
// The differences from CloudTrail are: an event can be looked up immediately (see SetDelay), the
// rate of requests is not limited (see SetRate), and only the newest 20,000 events are kept.
package fakecloudtrail

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"rotator/internal/fakeaws/fault"
)

// Config is the configuration of a Service.
type Config struct {
	Region  string
	Account string // 12 digits
}

// Service is a fake CloudTrail. It is safe for concurrent use.
type Service struct {
	config Config

	mu     sync.Mutex
	events []Event // in the order of recording
	delay  time.Duration
	rate   int         // requests per second; 0 is without limit
	taken  []time.Time // the last rate requests
}

// New creates a Service without events.
func New(c Config) *Service { return &Service{config: c} }

// Event is one event of the history.
type Event struct {
	ID          string
	At          time.Time
	Source      string // "kms.amazonaws.com"
	Name        string // of the operation
	AccessKeyID string
	Principal   string // ARN of the caller
	UserAgent   string
	SourceIP    string
	RequestID   string
	ReadOnly    bool
	// Code and Message are those of the error of a refused request.
	Code, Message string
	// Resources are the ARNs of the resources, all of ResourceType.
	Resources    []string
	ResourceType string
	// Parameters returns the parameters of the request. It is called when the event is looked up.
	Parameters func() map[string]any
}

// maxEvents is the number of events that are kept.
const maxEvents = 20_000

// Record adds an event.
func (s *Service) Record(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) >= 2*maxEvents {
		s.events = append([]Event(nil), s.events[maxEvents:]...)
	}
	s.events = append(s.events, e)
}

// SetDelay sets how long after its time an event can first be looked up. CloudTrail documents
// typically 15 minutes at most.
func (s *Service) SetDelay(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
}

// SetRate sets the maximum number of requests within any second. Requests above it fail with
// ThrottlingException. CloudTrail documents 2. 0 is without limit.
func (s *Service) SetRate(perSecond int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rate, s.taken = perSecond, nil
}

// take counts a request at the given time. It returns false if the rate is exceeded.
func (s *Service) take(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rate == 0 {
		return true
	}
	if len(s.taken) == s.rate {
		if now.Sub(s.taken[0]) < time.Second {
			return false
		}
		s.taken = s.taken[1:]
	}
	s.taken = append(s.taken, now)
	return true
}

// Error is an error response.
type Error struct{ Code, Message string }

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func fail(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Operation implements fault.Service. An example is "cloudtrail:LookupEvents".
func (s *Service) Operation(r *http.Request) string {
	target := r.Header.Get("X-Amz-Target")
	return "cloudtrail:" + target[strings.LastIndexByte(target, '.')+1:]
}

// Throttle implements fault.Service.
func (s *Service) Throttle(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusBadRequest, errThrottled())
}

func errThrottled() *Error { return fail("ThrottlingException", "Rate exceeded") }

// Fail implements fault.Service.
func (s *Service) Fail(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusInternalServerError,
		fail("InternalFailure", "the request failed inside the service"))
}

// Refuse implements fault.Service.
func (s *Service) Refuse(w http.ResponseWriter, _ *http.Request, a fault.Answer) {
	write(w, a.Status, &Error{Code: a.Code, Message: a.Message})
}

// maxBody is larger than any valid request.
const maxBody = 1 << 16

func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if name := s.Operation(r); name != "cloudtrail:LookupEvents" {
		write(w, http.StatusBadRequest,
			fail("UnknownOperationException", "the fake CloudTrail has no operation %s", name))
		return
	}
	now := time.Now()
	if !s.take(now) {
		s.Throttle(w, r)
		return
	}
	var in lookup
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in); err != nil {
		write(w, http.StatusBadRequest,
			fail("SerializationException", "the body is not the JSON of a request"))
		return
	}
	out, failed := s.lookupEvents(in, now)
	if failed != nil {
		write(w, http.StatusBadRequest, failed)
		return
	}
	write(w, http.StatusOK, out)
}

func write(w http.ResponseWriter, status int, out any) {
	if e, ok := out.(*Error); ok {
		out = map[string]string{"__type": e.Code, "message": e.Message}
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(out) // an error means that the client disconnected
}
