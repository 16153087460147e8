// Package outage detects that a service gives no usable answer, holds requests back
// during the outage, and reports when it begins, every half minute, and when it ends.
//
// Requests go through gates. A gate closes after some failures in a row, or when nothing
// is answered for some seconds. A closed gate lets one request a second through, whatever
// the number of workers. The first usable answer opens it.
package outage

import (
	"sync"
	"time"
)

// When a gate closes, and what it does then.
const (
	// failuresToClose is the number of failures in a row after which a gate closes, not
	// earlier than closeAfter. After manyFailures it closes at once. Other requests that are
	// answered reset the count.
	failuresToClose = 5
	closeAfter      = 200 * time.Millisecond
	manyFailures    = 20
	// silentAfter is how long requests may be under way without an answer to any of them.
	silentAfter = 2 * time.Second
	// hopelessAfter is how long a request may be under way during an outage in which nothing
	// is answered. The answer may be lost, so that only another request shows the end.
	hopelessAfter = 10 * time.Second
	// asleepAfter is the time without a look of Run after which the process was suspended.
	asleepAfter = 5 * time.Second
	// interval is the time between two attempts during an outage.
	interval = time.Second
	// idleAfter is how long after the last attempt an outage that no request waits for is
	// no longer reported. After forgetAfter the gate opens.
	idleAfter   = 5 * time.Second
	forgetAfter = 15 * time.Second
)

// Verdict is what the result of a request says about the service.
type Verdict int

// The verdicts.
const (
	Nothing   Verdict = iota // nothing, for example because the caller gave up
	Usable                   // the service answered
	Throttled                // the service asks for fewer requests
	Unusable                 // no answer, or one that only says that the service fails
)

// Config is what a Monitor needs.
type Config struct {
	// Judge returns the verdict on the result of a request.
	Judge func(error) Verdict
	// Report receives the notices. It must not call the Monitor.
	Report func(Notice)
}

// Monitor watches all services of a process. It is safe for concurrent use.
type Monitor struct {
	config Config

	mu       sync.Mutex
	looked   time.Time     // when Run looked last; zero before it runs
	patience time.Duration // 0: unknown
	services map[string]*service
	gates    map[gateKey]*Gate
	paces    map[string]*pace // by host
}

// New returns a Monitor. Run must be called for notices to be reported in time.
func New(c Config) *Monitor {
	return &Monitor{
		config:   c,
		services: map[string]*service{},
		gates:    map[gateKey]*Gate{},
		paces:    map[string]*pace{},
	}
}

// SetPatience sets how long an outage may last before the program gives up. It is used in
// notices only.
func (m *Monitor) SetPatience(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.patience = d
}

// service is one endpoint of a service. Its fields are guarded by Monitor.mu.
type service struct {
	name  string // "KMS at http://127.0.0.1:4566"
	gates []*Gate
	next  time.Time // of the next attempt during an outage

	reported bool // that the outage has begun
	warned   time.Time
	began    time.Time // of the outage that was reported
	vain     int       // attempts in that outage
}

type gateKey struct{ service, requests string }

// Gate is for one kind of requests to a service, such as the writes.
type Gate struct {
	monitor  *Monitor
	service  *service
	requests string // "writes"; "" if the service has one gate
	terms    terms
	turn     chan struct{} // held by the first of those that wait

	// Guarded by Monitor.mu.
	underWay int
	since    time.Time // since when requests are without a usable answer; zero if none are
	failures int       // in a row
	vain     int       // attempts without a usable answer, since then
	last     error     // the last failure
	asked    time.Time // when the last request was sent
	opens    chan struct{}
	waiting  int
	permit   time.Time // until when one request may pass
	pending  map[*pending]struct{}
}

// pending is a request under way that can be given up.
type pending struct {
	began  time.Time
	giveUp func()
	gone   bool // it was given up
}

// Beside returns a gate of the same terms for another service, nil beside nil.
func (g *Gate) Beside(name string) *Gate {
	if g == nil {
		return nil
	}
	return g.monitor.gate(name, "", g.terms)
}

// terms are when a gate closes.
type terms struct {
	failures int           // in a row
	after    time.Duration // not earlier
	// throttling reports whether a throttled request is a failure. It is none where a rate
	// limiter answers it.
	throttling bool
}

// Gate returns the gate for one kind of requests to a service, which pass a rate limiter.
// Both are names for notices.
func (m *Monitor) Gate(name, requests string) *Gate {
	return m.gate(name, requests, terms{failures: failuresToClose, after: closeAfter})
}

// RareGate is Gate for requests that are rare and pass no rate limiter.
func (m *Monitor) RareGate(name, requests string) *Gate {
	return m.gate(name, requests, terms{failures: 2, throttling: true})
}

// StrictGate returns a gate that closes after the first failure.
func (m *Monitor) StrictGate(name, requests string) *Gate {
	return m.gate(name, requests, terms{failures: 1, throttling: true})
}

func (m *Monitor) gate(name, requests string, t terms) *Gate {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := gateKey{name, requests}
	if g := m.gates[key]; g != nil {
		return g
	}
	s := m.services[name]
	if s == nil {
		s = &service{name: name}
		m.services[name] = s
	}
	g := &Gate{
		monitor:  m,
		service:  s,
		requests: requests,
		terms:    t,
		turn:     make(chan struct{}, 1),
		pending:  map[*pending]struct{}{},
	}
	s.gates, m.gates[key] = append(s.gates, g), g
	return g
}

// Attempt is one request.
type Attempt struct {
	gate    *Gate
	long    bool
	pending *pending // nil if it cannot be given up
}

// Begin begins a request. It returns a *HeldError during an outage, unless the request is
// the next attempt. Long requests, such as large uploads, may take longer than silentAfter.
// A nil Gate is always open.
func (g *Gate) Begin(long bool) (Attempt, error) { return g.begin(long, nil) }

// BeginFor is Begin for a request that giveUp ends. It is called, at most once and from
// another goroutine, when the request is without an answer for hopelessAfter, and so are all
// others.
func (g *Gate) BeginFor(giveUp func()) (Attempt, error) { return g.begin(false, giveUp) }

func (g *Gate) begin(long bool, giveUp func()) (Attempt, error) {
	if g == nil {
		return Attempt{}, nil
	}
	m := g.monitor
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.wake(now)
	g.watchSilence(now)
	if g.opens != nil && !g.mayAsk(now) {
		return Attempt{}, &HeldError{gate: g, Service: g.service.name, Err: g.last}
	}
	g.asked = now
	if long {
		return Attempt{gate: g, long: true}, nil
	}
	if g.since.IsZero() {
		g.since = now
	}
	g.underWay++
	if giveUp == nil {
		return Attempt{gate: g}, nil
	}
	p := &pending{began: now, giveUp: giveUp}
	g.pending[p] = struct{}{}
	return Attempt{gate: g, pending: p}, nil
}

// End ends a request with its error, or nil. It returns the error, as a *Error if it means
// that the service gave no usable answer.
func (a Attempt) End(err error) error {
	g := a.gate
	if g == nil {
		return err
	}
	if err != nil && g.isGone(a.pending) {
		err = &givenUpError{err}
	}
	verdict := g.monitor.config.Judge(err)
	if verdict == Throttled {
		verdict = Usable
		if g.terms.throttling {
			verdict = Unusable
		}
	}
	if notice := g.end(a, verdict, err); notice.Service != "" {
		g.monitor.config.Report(notice)
	}
	if verdict == Unusable {
		return &Error{Service: g.service.name, Err: err}
	}
	return err
}

func (g *Gate) end(a Attempt, verdict Verdict, err error) (notice Notice) {
	g.monitor.mu.Lock()
	defer g.monitor.mu.Unlock()
	now := time.Now()
	if !a.long {
		g.underWay--
	}
	delete(g.pending, a.pending)
	switch verdict {
	case Usable:
		return g.answered(now)
	case Unusable:
		if g.since.IsZero() {
			g.since = now
		}
		g.failures++
		g.vain++
		g.last = err
		if g.failures >= manyFailures ||
			g.failures >= g.terms.failures && now.Sub(g.since) >= g.terms.after {
			g.shut()
		}
	case Nothing:
		if g.underWay == 0 && g.failures == 0 && g.opens == nil {
			g.since = time.Time{}
		}
	}
	return Notice{}
}

// answered opens the gate. It must be called with mu held, like all that follow.
func (g *Gate) answered(now time.Time) (notice Notice) {
	g.failures, g.last = 0, nil
	was, vain := g.since, g.vain
	g.since, g.vain = time.Time{}, 0
	if g.underWay > 0 {
		g.since = now
	}
	if g.opens == nil {
		return Notice{}
	}
	g.open()
	s := g.service
	s.next = now // requests of other kinds may ask at once
	if !s.reported {
		return Notice{}
	}
	if s.began.After(was) {
		s.began = was
	}
	s.vain += vain
	for _, other := range s.gates {
		if other.opens != nil {
			return Notice{}
		}
	}
	s.reported = false
	return Notice{Kind: Ended, Service: s.name, For: now.Sub(s.began), Attempts: s.vain}
}

func (g *Gate) shut() {
	if g.opens == nil {
		g.opens = make(chan struct{})
		if next := g.asked.Add(interval); next.After(g.service.next) {
			g.service.next = next
		}
	}
}

func (g *Gate) open() {
	close(g.opens)
	g.opens, g.permit = nil, time.Time{}
}

// wake forgets what was observed before the process was suspended. No answer could be read
// meanwhile. It must be called with mu held.
func (m *Monitor) wake(now time.Time) {
	if m.looked.IsZero() || now.Sub(m.looked) < asleepAfter {
		return
	}
	m.looked = now
	for _, g := range m.gates {
		if g.opens != nil {
			g.open()
		}
		g.since, g.failures, g.vain = time.Time{}, 0, 0
		if g.underWay > 0 {
			g.since = now
		}
		for p := range g.pending {
			p.began = now
		}
	}
}

// watchSilence closes the gate if nothing is answered.
func (g *Gate) watchSilence(now time.Time) {
	if g.underWay > 0 && now.Sub(g.since) >= silentAfter {
		g.shut()
	}
}

// mayAsk reports whether a request may be the next attempt.
func (g *Gate) mayAsk(now time.Time) bool {
	if now.Before(g.permit) {
		g.permit = time.Time{}
		return true
	}
	if g.waiting > 0 || now.Before(g.service.next) {
		return false
	}
	g.service.next = now.Add(interval)
	return true
}
