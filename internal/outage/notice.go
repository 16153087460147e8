package outage

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// The times of notices.
const (
	reportAfter = 3 * time.Second // after the first request without a usable response
	reportEvery = 30 * time.Second
	// warnEvery is the minimum time between two notices about one service.
	warnEvery = 10 * time.Second
	lookEvery = 250 * time.Millisecond
)

// Kind is what a Notice reports.
type Kind int

// The kinds of notices.
const (
	Began Kind = iota
	Continues
	Ended
)

// Notice reports an outage.
type Notice struct {
	Kind    Kind
	Service string // "KMS at http://127.0.0.1:4566"
	// Requests names the kind of requests that get no response, such as "writes". It is ""
	// if the outage concerns all requests.
	Requests string
	For      time.Duration
	// Err is the last failure; nil if there is no response at all.
	Err      error
	Attempts int // number of attempts without a usable response
	// GivesUpIn is the time until the program gives up; 0 if it is unknown. The program then
	// completes the requests in progress and saves its results.
	GivesUpIn time.Duration
}

// Run reports outages that begin or continue, and sends probes, until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var probes sync.WaitGroup
	defer probes.Wait()
	for {
		select {
		case <-ticker.C:
			notices, giveUp := m.check(time.Now())
			for _, notice := range notices {
				m.config.Report(notice)
			}
			for _, end := range giveUp {
				end()
			}
			for _, p := range m.dueProbes(time.Now()) {
				probes.Go(func() { m.send(ctx, p) })
			}
		case <-ctx.Done():
			return
		}
	}
}

func (m *Monitor) check(now time.Time) (notices []Notice, giveUp []func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wake(now)
	m.lastCheck = now
	for _, s := range m.services {
		if notice, ok := s.check(now, m.patience); ok {
			notices = append(notices, notice)
		}
		for _, g := range s.gates {
			giveUp = append(giveUp, g.requestsToGiveUp(now)...)
		}
	}
	slices.SortFunc(notices, func(a, b Notice) int { return strings.Compare(a.Service, b.Service) })
	return notices, giveUp
}

// check returns the notice that is due. It must be called with Monitor.mu held.
func (s *service) check(now time.Time, patience time.Duration) (notice Notice, ok bool) {
	out := s.reportedGates(now)
	if len(out) == 0 {
		return Notice{}, false
	}
	least := warnEvery
	if s.reported {
		least = reportEvery
	}
	if !s.warned.IsZero() && now.Sub(s.warned) < least {
		return Notice{}, false
	}
	notice = Notice{
		Kind:     Continues,
		Service:  s.name,
		Requests: kinds(out),
		Attempts: s.vainAttempts,
	}
	if !s.reported {
		notice.Kind, notice.Attempts = Began, 0
		s.reported, s.began, s.vainAttempts = true, now, 0
	}
	ends := false
	for _, g := range out {
		ends = ends || !g.terms.endless
		if s.began.After(g.outageSince) {
			s.began = g.outageSince
		}
		notice.Attempts += g.vainAttempts
		if g.lastErr != nil {
			notice.Err = g.lastErr
		}
	}
	s.warned, notice.For = now, now.Sub(s.began)
	if patience > 0 && ends {
		notice.GivesUpIn = max(patience-notice.For, 0)
	}
	return notice, true
}

// Away returns a service that gives no usable response to requests for a use, with the last
// failure.
func (m *Monitor) Away(use string) (service string, err error, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, g := range m.gates {
		if g.opens != nil && strings.HasPrefix(key.requests, use+" ") {
			return key.service, g.lastErr, true
		}
	}
	return "", nil, false
}

// reportedGates returns the gates that have been closed for some time and for which requests wait.
// It opens gates that no caller has used for a long time.
func (s *service) reportedGates(now time.Time) (out []*Gate) {
	closed := false
	for _, g := range s.gates {
		g.watchSilence(now)
		idle := g.underWay == 0 && g.waiting == 0
		switch unused := now.Sub(g.lastSent); {
		case g.opens == nil:
		case idle && unused >= forgetAfter:
			g.open()
			g.outageSince, g.failures, g.vainAttempts = time.Time{}, 0, 0
			continue
		case (!idle || unused < idleAfter) && now.Sub(g.outageSince) >= reportAfter:
			out = append(out, g)
		}
		closed = closed || g.opens != nil
	}
	if !closed {
		s.reported = false
	}
	return out
}

// kinds names the requests of some gates.
func kinds(gates []*Gate) string {
	var names []string
	for _, g := range gates {
		if g.requests != "" {
			names = append(names, g.requests)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
