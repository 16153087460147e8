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
	// reuseOldestAfter is the time after which an idle connection is used before more recent ones.
	reuseOldestAfter = 10 * time.Second
	// maxEarly is the maximum time by which a request may time out early.
	maxEarly = time.Second
)

// Direct sends the requests of one service over HTTP/1.1. The calling goroutine sends its
// request, in one write, and reads the response, usually in one read. net/http passes every
// request and response through two more goroutines, which costs more than the rest of a small
// request. Like the client of the SDK, Direct follows no redirects.
//
// Direct is safe for concurrent use. It keeps its connections open until the server closes
// them, so their number is the largest number of concurrent requests.
type Direct struct {
	target  *url.URL
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	tls     *tls.Config // nil over plain HTTP
	timeout time.Duration
	gzip    bool // responses may be compressed
	// expected is the expected maximum number of concurrent requests, or 0. After 2*most requests,
	// each request opens a connection until there are most of them, so that no request waits
	// for one later.
	expected int

	mu           sync.Mutex
	idle         []*conn // in order of their last use
	used, opened int     // number of uses, and of opened connections
	busy         map[*conn]struct{}
	opening      map[*attempt]struct{}
}

// attempt is a connection that is being opened.
type attempt struct{ cancel context.CancelFunc }

// GiveUp ends all requests in flight with the error of a timeout, because their responses are
// lost. Later requests use other connections.
func (d *Direct) GiveUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for l := range d.busy {
		_ = l.raw.Close()
	}
	for a := range d.opening {
		a.cancel()
	}
}

// close closes a connection that was in use.
func (d *Direct) close(l *conn) {
	d.mu.Lock()
	delete(d.busy, l)
	d.mu.Unlock()
	_ = l.Close()
}

// conn is one connection.
type conn struct {
	net.Conn
	raw      net.Conn            // below TLS
	peek     peek                // checks raw for unread bytes
	records  *recordReader       // between the two; nil without TLS
	deadline time.Time           // the deadline that is set
	limit    *answerlimit.Reader // below reader
	reader   *bufio.Reader
	out      []byte
	used     time.Time
	// done belongs to the context that ends requests in progress, until forget is called.
	done   <-chan struct{}
	forget func() bool
}

// newDirect returns a Direct with the dialer and the TLS settings of a transport. It returns
// nil if the transport uses a proxy or its own TLS dialer, which Direct does not support.
func newDirect(
	target *url.URL, transport *http.Transport, timeout time.Duration, most int,
) *Direct {
	d := &Direct{
		target:   target,
		dial:     transport.DialContext,
		timeout:  timeout,
		gzip:     !transport.DisableCompression,
		expected: most,
		busy:     map[*conn]struct{}{},
		opening:  map[*attempt]struct{}{},
	}
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

// Do sends a request to the target and returns the response, whose body has been read. After
// an error it is unknown whether the request arrived.
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
		err = ctx.Err() // until may have replaced the deadline that the end of ctx set
	}
	var answer *http.Response
	if err == nil {
		answer, err = l.exchange(r, d.target.Host, d.gzip)
	}
	if err != nil || answer.Close {
		d.close(l)
	} else {
		d.put(l)
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	} else if errors.Is(err, os.ErrDeadlineExceeded) || // before the context ended
		errors.Is(err, net.ErrClosed) { // by GiveUp
		err = context.DeadlineExceeded
	}
	if err != nil {
		// http.Client returns the same error.
		return nil, &url.Error{Op: "Post", URL: d.target.Redacted(), Err: err}
	}
	return answer, nil
}

// until sets the deadline of a connection. It keeps a deadline that is only slightly earlier,
// because setting a timer takes a large part of the CPU time of a request.
func (l *conn) until(now, deadline time.Time) error {
	if early := deadline.Sub(l.deadline); early >= 0 && early < min(maxEarly, deadline.Sub(now)/8) {
		return nil
	}
	l.deadline = deadline
	return l.SetDeadline(deadline)
}

// watch makes the end of ctx end the requests on the connection. Workers send all their
// requests under one context, so there is usually nothing to do. It returns false if the
// previous context has ended, which has also ended the connection.
func (l *conn) watch(ctx context.Context) bool {
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
func (l *conn) Close() error {
	if l.forget != nil {
		l.forget()
	}
	return l.Conn.Close()
}

// get returns an idle connection or a new one, whose requests end with ctx. It prefers the
// connection that was used last, whose memory is likely in the cache of the processor. If
// another one has been idle for reuseOldestAfter, it takes that one, so that the server does not
// close connections because they are idle. get discards connections that the server has closed.
func (d *Direct) get(ctx context.Context, deadline time.Time) (*conn, error) {
	for {
		d.mu.Lock()
		d.used++
		n := len(d.idle)
		early := n > 0 && d.used > 2*d.expected && d.opened < d.expected
		if n == 0 || early {
			d.opened++
			d.mu.Unlock()
			l, err := d.connect(ctx, deadline)
			if err == nil {
				l.watch(ctx)
			} else if early && ctx.Err() == nil {
				continue // with an idle connection
			}
			return l, err
		}
		next := n - 1
		if time.Since(d.idle[0].used) >= reuseOldestAfter {
			next = 0
		}
		l := d.idle[next]
		d.idle = slices.Delete(d.idle, next, next+1)
		d.busy[l] = struct{}{}
		d.mu.Unlock()
		if l.isIdle() && l.watch(ctx) {
			return l, nil
		}
		d.close(l)
	}
}

// put keeps a connection for the next request.
func (d *Direct) put(l *conn) {
	l.used = time.Now()
	d.mu.Lock()
	delete(d.busy, l)
	d.idle = append(d.idle, l)
	d.mu.Unlock()
}

// connect opens a connection for a request.
func (d *Direct) connect(ctx context.Context, deadline time.Time) (*conn, error) {
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	a := &attempt{cancel}
	d.mu.Lock()
	d.opening[a] = struct{}{}
	d.mu.Unlock()
	l, err := d.open(limited)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.opening, a)
	if err == nil {
		d.busy[l] = struct{}{}
	} else if errors.Is(limited.Err(), context.Canceled) && ctx.Err() == nil { // by GiveUp
		err = context.DeadlineExceeded
	}
	return l, err
}

// open opens a connection.
func (d *Direct) open(ctx context.Context) (*conn, error) {
	port := d.target.Port()
	if port == "" {
		port = map[bool]string{true: "443", false: "80"}[d.tls != nil]
	}
	raw, err := d.dial(ctx, "tcp", net.JoinHostPort(d.target.Hostname(), port))
	if err != nil {
		return nil, err
	}
	l := &conn{Conn: raw, raw: raw}
	l.peek.open(raw)
	if d.tls != nil {
		l.records = &recordReader{Conn: raw}
		secure := tls.Client(l.records, d.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		l.Conn = secure
	}
	l.limit = answerlimit.NewReader(l.Conn)
	l.reader = bufio.NewReaderSize(l.limit, 4<<10)
	return l, nil
}

// isIdle reports whether an idle connection is open and the server has sent nothing on it. An
// unexpected response would be read as the response to the next request, and each later
// response as that to the request after its own.
func (l *conn) isIdle() bool {
	if l.peek.socket == nil || l.reader.Buffered() > 0 ||
		l.records != nil && !l.records.empty(l.Conn) {
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

// recordReader is a connection below TLS. Reading can be paused, so that TLS returns only what
// it has buffered. It follows the boundaries of records: each has a header of five bytes, and
// the last two of them are the length of the rest (RFC 8446, section 5.1; RFC 5246, section
// 6.2.1).
type recordReader struct {
	net.Conn
	closed      bool
	header      [5]byte
	headerBytes int // bytes of the header
	left        int // bytes of the record after its header
}

// Read implements net.Conn.
func (v *recordReader) Read(p []byte) (int, error) {
	if v.closed {
		return 0, errPaused{}
	}
	n, err := v.Conn.Read(p)
	v.follow(p[:n])
	return n, err
}

func (v *recordReader) follow(p []byte) {
	for len(p) > 0 {
		if n := min(v.left, len(p)); n > 0 {
			v.left, p = v.left-n, p[n:]
			continue
		}
		n := copy(v.header[v.headerBytes:], p)
		if v.headerBytes, p = v.headerBytes+n, p[n:]; v.headerBytes == len(v.header) {
			v.headerBytes, v.left = 0, int(v.header[3])<<8|int(v.header[4])
		}
	}
}

// empty reports whether the TLS connection above has buffered nothing, including the beginning
// of a record.
func (v *recordReader) empty(above net.Conn) bool {
	if v.headerBytes > 0 || v.left > 0 {
		return false
	}
	v.closed = true
	defer func() { v.closed = false }()
	n, err := above.Read(make([]byte, 1))
	return n == 0 && errors.Is(err, errPaused{})
}

// errPaused is a temporary error, after which TLS continues as if the read had not happened
// (crypto/tls, Conn.readRecordOrCCS).
type errPaused struct{}

var _ net.Error = errPaused{}

func (errPaused) Error() string   { return "not now" }
func (errPaused) Timeout() bool   { return true }
func (errPaused) Temporary() bool { return true }
