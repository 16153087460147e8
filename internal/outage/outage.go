// Package outage detects that a service gives no usable response and holds requests back
// during the outage. It reports the beginning, then every half minute, and the end.
//
// Requests pass through gates. A gate closes after several consecutive failures, or if there
// is no response for some seconds. A closed gate lets one request a second through, for any
// number of workers. The first usable response opens it.
package outage

import (
	"context"
	"net/url"
	"sync"
	"time"
)

// The conditions under which a gate closes and opens.
const (
	// failuresToClose is the number of consecutive failures after which a gate closes, but
	// not earlier than closeAfter. After manyFailures it closes at once. A successful
	// request resets the count.
	failuresToClose = 5
	closeAfter      = 200 * time.Millisecond
	manyFailures    = 20
	// silentAfter is the maximum time for which requests may be in flight without a response
	// to any of them.
	silentAfter = 2 * time.Second
	// hopelessAfter is the maximum time for which a request may be in flight during an outage
	// without responses. Its response may be lost, so only another request can show the end.
	// No request is in flight for longer than the program's patience.
	hopelessAfter = 10 * time.Second
	// asleepAfter is the time without a check by Run after which Run assumes that the process
	// was suspended.
	asleepAfter = 5 * time.Second
	// interval is the time between two attempts during an outage.
	interval = time.Second
	// idleAfter is the time after the last attempt at which an outage is no longer reported
	// if no request waits. After forgetAfter the gate opens.
	idleAfter   = 5 * time.Second
	forgetAfter = 15 * time.Second
)

// Verdict is the conclusion about a service from the result of a request.
type Verdict int

// The verdicts.
const (
	Nothing   Verdict = iota // nothing, for example because the caller gave up
	Usable                   // the service responded
	Throttled                // the service asks for fewer requests
	Unusable                 // no response, or an error of the service itself
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

	mu        sync.Mutex
	lastCheck time.Time     // last check by Run; zero before it runs
	patience  time.Duration // 0: unknown
	// probe sends a probe to an endpoint; nil if probes are not possible.
	probe    func(ctx context.Context, endpoint *url.URL) error
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

// SetPatience sets the time after which the program gives up during an outage. It is used in
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

	endpoint    *url.URL // for probes; nil without probes
	probe       *probe   // in flight; nil without one
	probeFailed bool     // the last probe of the outage failed

	reported     bool // that the outage has begun
	warned       time.Time
	began        time.Time // of the outage that was reported
	vainAttempts int       // attempts in that outage
}

type gateKey struct{ service, requests string }

// Gate is for one kind of requests to a service, such as the writes.
type Gate struct {
	monitor  *Monitor
	service  *service
	requests string // "writes"; "" if the service has one gate
	terms    terms
	turn     chan struct{} // held by the first waiter

	// Guarded by Monitor.mu.
	underWay     int
	stale        int       // requests under way that were sent before the end of the last outage
	outages      int       // number of outages that have ended
	outageSince  time.Time // since when requests got no usable response; zero without an outage
	failures     int       // consecutive failures
	vainAttempts int       // attempts without a usable response since then
	lastErr      error     // the last failure
	lastSent     time.Time // when the last request was sent
	opens        chan struct{}
	waiting      int
	permit       time.Time // until when one request may pass
	pending      map[*pending]struct{}
	giveUp       func() // gives up the requests that are not pending; may be nil
}

// pending is a request in flight that can be given up.
type pending struct {
	began  time.Time // when it was sent, or a part of its response last arrived
	giveUp func()
	gaveUp bool // it was given up
	// before is the last failure of other requests, if the request was given up before it could
	// be called silent; else nil.
	before error

	arrived time.Time // when a read of its response last began or ended; zero before the first
	reading bool      // a read of its response is in progress
}

// Beside returns a gate with the same terms for another service. It returns nil if g is nil.
func (g *Gate) Beside(name string) *Gate {
	if g == nil {
		return nil
	}
	return g.monitor.gate(name, "", g.terms)
}

// terms are the conditions under which a gate closes.
type terms struct {
	failures int           // consecutive failures
	after    time.Duration // minimum time since the first failure
	// throttling is true if a throttled request counts as a failure. It is false for requests
	// that pass a rate limiter, which reacts to throttling.
	throttling bool
	// endless is true if the program may continue for longer than its patience without these
	// requests, so the time until it gives up is unknown.
	endless bool
}

// Gate returns the gate for one kind of requests to a service, which pass a rate limiter.
// Both are names for notices.
func (m *Monitor) Gate(name, requests string) *Gate {
	return m.gate(name, requests, terms{failures: failuresToClose, after: closeAfter})
}

// RareGate is like Gate, for infrequent requests that pass no rate limiter. The program may
// continue without them for longer than its patience, so their notices have no GivesUpIn.
func (m *Monitor) RareGate(name, requests string) *Gate {
	return m.gate(name, requests, terms{failures: 2, throttling: true, endless: true})
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
	read    bool     // it is a Read of a body
	outages int      // number of outages that had ended when the request was sent
}

// Begin begins a request. It returns a *HeldError during an outage, unless the request is
// the next attempt. Long requests, such as large uploads, may take longer than silentAfter.
// A nil Gate is always open.
func (g *Gate) Begin(long bool) (Attempt, error) { return g.begin(long, nil) }

// BeginFor is like Begin, for a request that giveUp can end. giveUp is called at most once, from
// another goroutine, if there was no response to this request and to all others for
// hopelessAfter.
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
		return Attempt{}, &HeldError{gate: g, Service: g.service.name, Err: g.lastErr}
	}
	g.lastSent = now
	if long {
		return Attempt{gate: g, long: true, outages: g.outages}, nil
	}
	return g.watched(now, giveUp, false), nil
}

// watched returns an attempt whose response is due. It must be called with Monitor.mu held.
func (g *Gate) watched(now time.Time, giveUp func(), read bool) Attempt {
	if g.outageSince.IsZero() {
		g.outageSince = now
	}
	g.underWay++
	if giveUp == nil {
		return Attempt{gate: g, outages: g.outages}
	}
	p := &pending{began: now, giveUp: giveUp}
	g.pending[p] = struct{}{}
	return Attempt{gate: g, pending: p, read: read, outages: g.outages}
}

// End ends a request with its error, or nil. It returns the error, as an *Error if it means
// that the service gave no usable response.
func (a Attempt) End(err error) error {
	g := a.gate
	if g == nil {
		return err
	}
	if before, gaveUp := g.givenUp(a.pending); err != nil && gaveUp {
		err = &givenUpError{err: err, before: before}
	}
	verdict := g.monitor.config.Judge(err)
	if verdict == Throttled {
		verdict = Usable
		if g.terms.throttling {
			verdict = Unusable
		}
	}
	a.finish(verdict, err)
	if verdict == Unusable {
		return &Error{Service: g.service.name, Err: err}
	}
	return err
}

// finish ends an attempt.
func (a Attempt) finish(verdict Verdict, err error) {
	if notice := a.gate.end(a, verdict, err); notice.Service != "" {
		a.gate.monitor.config.Report(notice)
	}
}

func (g *Gate) end(a Attempt, verdict Verdict, err error) (notice Notice) {
	g.monitor.mu.Lock()
	defer g.monitor.mu.Unlock()
	now := time.Now()
	stale := a.outages < g.outages
	if !a.long {
		g.underWay--
		if stale {
			g.stale--
		}
	}
	delete(g.pending, a.pending)
	switch verdict {
	case Usable:
		if a.read && g.failures > 0 {
			return Notice{} // the service refuses new requests
		}
		return g.answered(now)
	case Unusable:
		if stale {
			return Notice{} // the service was away when the request was sent
		}
		if g.outageSince.IsZero() {
			g.outageSince = now
		}
		g.failures++
		g.vainAttempts++
		g.lastErr = err
		if g.failures >= manyFailures ||
			g.failures >= g.terms.failures && now.Sub(g.outageSince) >= g.terms.after {
			g.shut()
		}
	case Nothing:
		if g.underWay == g.stale && g.failures == 0 && g.opens == nil {
			g.outageSince = time.Time{}
		}
	}
	return Notice{}
}

// answered opens the gate. It must be called with mu held, like all functions below.
func (g *Gate) answered(now time.Time) (notice Notice) {
	g.failures, g.lastErr = 0, nil
	was, vain := g.outageSince, g.vainAttempts
	g.outageSince, g.vainAttempts = time.Time{}, 0
	if g.opens != nil {
		g.outages++
		g.stale = g.underWay
	}
	if g.underWay > g.stale {
		g.outageSince = now
	}
	if g.opens == nil {
		return Notice{}
	}
	g.open()
	s := g.service
	s.next = now // requests of other kinds may be attempted at once
	if !s.reported {
		return Notice{}
	}
	if s.began.After(was) {
		s.began = was
	}
	s.vainAttempts += vain
	for _, other := range s.gates {
		if other.opens != nil {
			return Notice{}
		}
	}
	s.reported = false
	return Notice{Kind: Ended, Service: s.name, For: now.Sub(s.began), Attempts: s.vainAttempts}
}

func (g *Gate) shut() {
	if g.opens == nil {
		g.opens = make(chan struct{})
		if next := g.lastSent.Add(interval); next.After(g.service.next) {
			g.service.next = next
		}
	}
}

func (g *Gate) open() {
	close(g.opens)
	g.opens, g.permit = nil, time.Time{}
	g.service.probe, g.service.probeFailed = nil, false
}

// wake discards the observations from before the process was suspended, because no response
// could be read meanwhile. It must be called with mu held.
func (m *Monitor) wake(now time.Time) {
	if m.lastCheck.IsZero() || now.Sub(m.lastCheck) < asleepAfter {
		return
	}
	m.lastCheck = now
	for _, g := range m.gates {
		if g.opens != nil {
			g.open()
		}
		g.outageSince, g.failures, g.vainAttempts = time.Time{}, 0, 0
		if g.underWay > g.stale {
			g.outageSince = now
		}
		for p := range g.pending {
			p.began = now
		}
	}
}

// watchSilence closes the gate if there are no responses to requests that were sent since the
// last outage.
func (g *Gate) watchSilence(now time.Time) {
	if g.underWay > g.stale && now.Sub(g.outageSince) >= silentAfter {
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
