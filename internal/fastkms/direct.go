package fastkms

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rotator/internal/answerlimit"
)

const (
	// restFor is how long a connection is idle before it is taken in its turn.
	restFor = 10 * time.Second
	// earlyBy is by how much a request may time out before its time, at most.
	earlyBy = time.Second
)

// Direct sends the requests of one service over HTTP/1.1: each by the goroutine
// that wants the answer, in one write and usually one read. net/http passes every
// request and answer through two more goroutines, which for small ones costs more
// than all else. It follows no redirects, as the SDK's client does not.
//
// It is safe for concurrent use, and keeps as many connections as were used at
// once, until the server closes them.
type Direct struct {
	target  *url.URL
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	tls     *tls.Config // nil over plain HTTP
	timeout time.Duration
	gzip    bool // answers may be packed
	// most is how many requests may be made at once. After twice as many, those that
	// follow open so many connections, which is better then than when they are needed.
	most int

	mu           sync.Mutex
	idle         []*line // in order of use, the one used last at the end
	used, opened int     // how often a connection was taken, and a new one opened
}

// line is one connection.
type line struct {
	net.Conn
	raw    net.Conn            // below TLS
	peek   peek                // checks raw for unread bytes
	valve  *valve              // between the two; nil without TLS
	ends   time.Time           // the deadline that is set
	limit  *answerlimit.Reader // below reader
	reader *bufio.Reader
	out    []byte
	used   time.Time
	// done is of the context whose end ends what is under way, until forget is called.
	done   <-chan struct{}
	forget func() bool
}

// newDirect takes over how a transport connects to target: its dialer and its TLS
// settings. It is nil where the transport would do what it does not: a proxy, or a
// TLS dialer of its own.
func newDirect(target *url.URL, transport *http.Transport, timeout time.Duration, most int) *Direct {
	d := &Direct{target: target, dial: transport.DialContext, timeout: timeout, gzip: !transport.DisableCompression, most: most}
	if d.dial == nil {
		d.dial = (&net.Dialer{Timeout: 30 * time.Second}).DialContext
	}
	if transport.Proxy != nil {
		if proxy, err := transport.Proxy(&http.Request{URL: target}); proxy != nil || err != nil {
			return nil
		}
	}
	switch {
	case transport.DialTLSContext != nil || target.Host == "":
		return nil
	case target.Scheme == "https":
		d.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		if transport.TLSClientConfig != nil {
			d.tls = transport.TLSClientConfig.Clone()
		}
		d.tls.NextProtos = nil // HTTP/1.1
		if d.tls.ServerName == "" {
			d.tls.ServerName = target.Hostname()
		}
	case target.Scheme != "http":
		return nil
	}
	return d
}

// Do sends a request to the target, and returns its answer with the whole body
// read. An error means that nobody knows whether the request arrived.
func (d *Direct) Do(r *http.Request) (*http.Response, error) { return d.send(r, time.Time{}) }

// send is like Do, for a request whose permit is valid until the given time; the zero time
// means no limit. If no connection is ready by then, send returns errLate.
func (d *Direct) send(r *http.Request, until time.Time) (*http.Response, error) {
	ctx := r.Context()
	now := time.Now()
	deadline := now.Add(d.timeout)
	if earlier, ok := ctx.Deadline(); ok && earlier.Before(deadline) {
		deadline = earlier
	}
	l, err := d.get(ctx, deadline)
	if err != nil {
		return nil, err
	}
	if expired(until) {
		d.put(l)
		return nil, errLate
	}
	if err = l.until(now, deadline); err == nil {
		err = ctx.Err() // whose end until may just have undone
	}
	var answer *http.Response
	if err == nil {
		answer, err = l.exchange(r, d.target.Host, d.gzip)
	}
	if err != nil || answer.Close {
		_ = l.Close()
	} else {
		d.put(l)
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	} else if errors.Is(err, os.ErrDeadlineExceeded) { // the connection's clock was the quicker one
		err = context.DeadlineExceeded
	}
	if err != nil {
		return nil, &url.Error{Op: "Post", URL: d.target.Redacted(), Err: err} // as http.Client says it
	}
	return answer, nil
}

// until sets the deadline of a connection, unless the one that is set from an exchange
// before comes hardly earlier: timers cost more than much of a request.
func (l *line) until(now, deadline time.Time) error {
	if early := deadline.Sub(l.ends); early >= 0 && early < min(earlyBy, deadline.Sub(now)/8) {
		return nil
	}
	l.ends = deadline
	return l.SetDeadline(deadline)
}

// heed makes the end of ctx end what is under way on the connection. Workers send all
// their requests under one context, so that there is seldom anything to do. It is false
// when the context before has ended, and the connection with it.
func (l *line) heed(ctx context.Context) bool {
	done := ctx.Done()
	if done == l.done {
		return true
	}
	if l.forget != nil && !l.forget() {
		return false
	}
	l.done, l.forget = done, nil
	if done != nil {
		l.forget = context.AfterFunc(ctx, func() { _ = l.SetDeadline(time.Unix(1, 0)) })
	}
	return true
}

// Close implements net.Conn.
func (l *line) Close() error {
	if l.forget != nil {
		l.forget()
	}
	return l.Conn.Close()
}

// get returns a connection that was used before, or a new one, which heeds ctx. It takes
// the one used last, whose memory is at hand, unless another has been idle for long: so
// all are used, as far as there are requests enough, and the server does not close them
// for being idle, to be missing when many are wanted at once. Those that it closed go.
func (d *Direct) get(ctx context.Context, deadline time.Time) (*line, error) {
	for {
		d.mu.Lock()
		d.used++
		n := len(d.idle)
		early := n > 0 && d.used > 2*d.most && d.opened < d.most
		if n == 0 || early {
			d.opened++
			d.mu.Unlock()
			l, err := d.connect(ctx, deadline)
			if err == nil {
				l.heed(ctx)
			} else if early && ctx.Err() == nil {
				continue // with one that there is
			}
			return l, err
		}
		next := n - 1
		if time.Since(d.idle[0].used) >= restFor {
			next = 0
		}
		l := d.idle[next]
		d.idle = slices.Delete(d.idle, next, next+1)
		d.mu.Unlock()
		if l.quiet() && l.heed(ctx) {
			return l, nil
		}
		_ = l.Close()
	}
}

// put keeps a connection for the next request.
func (d *Direct) put(l *line) {
	l.used = time.Now()
	d.mu.Lock()
	d.idle = append(d.idle, l)
	d.mu.Unlock()
}

// connect opens a connection.
func (d *Direct) connect(ctx context.Context, deadline time.Time) (*line, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	port := d.target.Port()
	if port == "" {
		port = map[bool]string{true: "443", false: "80"}[d.tls != nil]
	}
	conn, err := d.dial(ctx, "tcp", net.JoinHostPort(d.target.Hostname(), port))
	if err != nil {
		return nil, err
	}
	l := &line{Conn: conn, raw: conn}
	l.peek.open(conn)
	if d.tls != nil {
		l.valve = &valve{Conn: conn}
		secure := tls.Client(l.valve, d.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		l.Conn = secure
	}
	l.limit = answerlimit.NewReader(l.Conn)
	l.reader = bufio.NewReaderSize(l.limit, 4<<10)
	return l, nil
}

// quiet says that the server has neither closed an idle connection nor said anything on
// it that nobody asked for. An answer too many would be taken for that to the next
// request, and every later one for that to the request after its own.
func (l *line) quiet() bool {
	if l.peek.socket == nil || l.reader.Buffered() > 0 || l.valve != nil && !l.valve.empty(l.Conn) {
		return false
	}
	return l.peek.empty()
}

// peek looks for bytes on a socket without reading them. Each connection has one, because
// it is used before each request and allocates its function once.
type peek struct {
	socket syscall.RawConn // nil without a socket
	look   func(fd uintptr) bool
	one    [1]byte
	none   bool
}

func (p *peek) open(conn net.Conn) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	p.socket = raw
	p.look = func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), p.one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		p.none = errors.Is(err, unix.EAGAIN)
		return true
	}
}

// empty reports whether the connection is open and no bytes have arrived on it.
func (p *peek) empty() bool {
	p.none = false
	return p.socket.Read(p.look) == nil && p.none
}

// valve is a connection below TLS that can be closed for reading for a moment, so that
// TLS hands out no more than what it holds already. It follows where records begin and
// end: each has a header of five bytes, whose last two are the length of the rest
// (RFC 8446, section 5.1; RFC 5246, section 6.2.1).
type valve struct {
	net.Conn
	closed bool
	header [5]byte
	have   int // bytes of the header
	left   int // bytes of the record behind its header
}

// Read implements net.Conn.
func (v *valve) Read(p []byte) (int, error) {
	if v.closed {
		return 0, errValve{}
	}
	n, err := v.Conn.Read(p)
	v.follow(p[:n])
	return n, err
}

func (v *valve) follow(p []byte) {
	for len(p) > 0 {
		if n := min(v.left, len(p)); n > 0 {
			v.left, p = v.left-n, p[n:]
			continue
		}
		n := copy(v.header[v.have:], p)
		if v.have, p = v.have+n, p[n:]; v.have == len(v.header) {
			v.have, v.left = 0, int(v.header[3])<<8|int(v.header[4])
		}
	}
}

// empty says that the TLS connection above holds nothing, not even the beginning of a
// record.
func (v *valve) empty(above net.Conn) bool {
	if v.have > 0 || v.left > 0 {
		return false
	}
	v.closed = true
	defer func() { v.closed = false }()
	n, err := above.Read(make([]byte, 1))
	return n == 0 && errors.Is(err, errValve{})
}

// errValve is a temporary error, after which TLS goes on as if nothing had been
// (crypto/tls, Conn.readRecordOrCCS).
type errValve struct{}

var _ net.Error = errValve{}

func (errValve) Error() string   { return "not now" }
func (errValve) Timeout() bool   { return true }
func (errValve) Temporary() bool { return true }
