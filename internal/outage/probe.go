package outage

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	// probeAfter is the time after which a probe is sent in place of a request that is due. A
	// caller that retries at this time sends its request first.
	probeAfter = 100 * time.Millisecond
	// probeTimeout is the time limit of a probe. It is at most interval, so that the result of a
	// probe is known before the next one is due.
	probeTimeout = interval
)

// probe is a request without credentials that shows whether a service responds. It is sent
// during an outage if requests are in flight and no caller waits for the next attempt, for
// example if the only worker waits for a response that is lost.
type probe struct {
	service  *service
	endpoint *url.URL
	sent     time.Time
}

// UseTransport makes the Monitor send probes with the proxy, the dialer and the TLS settings of
// t. Without a transport, it sends no probes. It changes t, which must have no other user.
func (m *Monitor) UseTransport(t *http.Transport) {
	t.DisableKeepAlives = true // each probe has its own connection
	m.mu.Lock()
	defer m.mu.Unlock()
	m.probe = func(ctx context.Context, endpoint *url.URL) error {
		return sendProbe(ctx, t, endpoint)
	}
}

// At sets the endpoint for probes of the service, unless it is set. It returns g.
func (g *Gate) At(endpoint *url.URL) *Gate {
	g.monitor.mu.Lock()
	defer g.monitor.mu.Unlock()
	if s := g.service; s.endpoint == nil {
		s.endpoint = &url.URL{Scheme: endpoint.Scheme, Host: endpoint.Host, Path: "/"}
	}
	return g
}

// GiveUpWith sets the function that gives up all requests in flight of callers of Begin. It must
// not call the Monitor. The errors of the requests must be those of a timeout.
func (g *Gate) GiveUpWith(giveUp func()) *Gate {
	g.monitor.mu.Lock()
	defer g.monitor.mu.Unlock()
	g.giveUp = giveUp
	return g
}

// dueProbes returns the probes that must be sent now.
func (m *Monitor) dueProbes(now time.Time) (due []*probe) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.probe == nil {
		return nil
	}
	for _, s := range m.services {
		if !s.needsProbe(now) {
			continue
		}
		s.next = now.Add(interval)
		s.probe = &probe{service: s, endpoint: s.endpoint, sent: now}
		due = append(due, s.probe)
	}
	return due
}

// needsProbe reports whether a probe is due. It must be called with Monitor.mu held.
func (s *service) needsProbe(now time.Time) bool {
	if s.endpoint == nil || s.probe != nil || now.Before(s.next.Add(probeAfter)) {
		return false
	}
	needed := false
	for _, g := range s.gates {
		if g.opens == nil {
			continue
		}
		if g.waiting > 0 || now.Sub(g.lastSent) < interval {
			return false
		}
		needed = needed || g.underWay > 0
	}
	return needed
}

// send sends a probe. If it succeeds after one that failed, the requests that were sent before
// it are given up, so that their callers send them again.
func (m *Monitor) send(ctx context.Context, p *probe) {
	limited, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	m.mu.Lock()
	ask := m.probe
	m.mu.Unlock()
	err := ask(limited, p.endpoint)
	if ctx.Err() != nil {
		return
	}
	for _, end := range m.probed(p, err) {
		end()
	}
}

// probed returns the functions that give up the requests whose responses are lost.
func (m *Monitor) probed(p *probe, err error) (giveUp []func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := p.service
	if s.probe != p { // the outage has ended meanwhile
		return nil
	}
	s.probe = nil
	failed := s.probeFailed
	s.probeFailed = err != nil
	if err != nil || !failed {
		return nil
	}
	for _, g := range s.gates {
		giveUp = append(giveUp, g.lost(p.sent)...)
	}
	if len(giveUp) > 0 {
		s.next = time.Now() // the requests may be sent again at once
	}
	return giveUp
}

// lost returns the functions that give up the requests sent before a probe. It must be called
// with Monitor.mu held.
func (g *Gate) lost(probed time.Time) (giveUp []func()) {
	if g.opens == nil || g.lastSent.After(probed) {
		return nil
	}
	for p := range g.pending {
		if !p.gaveUp && probed.Sub(p.began) >= interval {
			p.gaveUp = true
			giveUp = append(giveUp, p.giveUp)
		}
	}
	if g.giveUp != nil && g.underWay > len(g.pending) {
		giveUp = append(giveUp, g.giveUp)
	}
	return giveUp
}

// sendProbe sends a GET request for the root of an endpoint. It returns an error if there is no
// response of the service. The response may be an error, because the request has no
// credentials.
func sendProbe(ctx context.Context, t http.RoundTripper, endpoint *url.URL) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint.String(), nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "rotator")
	response, err := t.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	start, err := io.ReadAll(io.LimitReader(response.Body, pageStart))
	if err != nil {
		return err
	}
	if !fromService(response, start) {
		return fmt.Errorf("HTTP %d to a probe", response.StatusCode)
	}
	return nil
}

// fromService reports whether the response to a probe, whose body begins with start, is one of
// the service. Services name each request or send XML or JSON errors.
func fromService(r *http.Response, start []byte) bool {
	switch {
	case r.StatusCode >= http.StatusInternalServerError,
		r.StatusCode == http.StatusTooManyRequests:
		return false
	case r.Header.Get("X-Amz-Request-Id") != "", r.Header.Get("X-Amzn-Requestid") != "":
		return true
	case bytes.Contains(bytes.ToLower(start), []byte("<html")):
		return false
	case r.StatusCode < http.StatusMultipleChoices:
		return true
	}
	text := bytes.TrimLeft(start, " \t\r\n\ufeff")
	return bytes.HasPrefix(text, []byte("<")) || bytes.HasPrefix(text, []byte("{"))
}
