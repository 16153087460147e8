package fastkms

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rotator/internal/answerlimit"
)

// direct returns a Direct for a TLS server with a handler, and the number of connections that it
// opened.
func direct(
	t *testing.T, handler http.HandlerFunc, timeout time.Duration,
) (*Direct, *httptest.Server, *atomic.Int64) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	opened := &atomic.Int64{}
	transport, ok := server.Client().Transport.(*http.Transport)
	if !ok {
		t.Fatal("the client of the test server has an unexpected transport")
	}
	d := newDirect(target, transport, timeout, 0)
	if d == nil {
		t.Fatal("newDirect does not support the transport")
	}
	dial := d.dial
	d.dial = countDials(dial, opened)
	return d, server, opened
}

func post(ctx context.Context, d *Direct, body string) (string, error) {
	r := (&http.Request{
		Method:        http.MethodPost,
		URL:           d.target,
		Header:        http.Header{"X-Amz-Target": {"T.Op"}},
		ContentLength: int64(len(body)),
		Body:          io.NopCloser(strings.NewReader(body)),
	}).WithContext(ctx)
	answer, err := d.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

// echo returns the body of the request, in the form that the body names.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var out io.Writer = w
	switch string(body) {
	case "chunked":
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
	case "early":
		w.WriteHeader(http.StatusEarlyHints)
	case "close":
		w.Header().Set("Connection", "close")
	case "cut":
		panic(http.ErrAbortHandler)
	case "half":
		w.Header().Set("Content-Length", "100")
	case "slow":
		select {
		case <-r.Context().Done():
		case <-time.After(5 * time.Second):
		}
	case "packed":
		w.Header().Set(encodingHeader, r.Header.Get(acceptHeader))
		packed := gzip.NewWriter(w)
		defer func() { _ = packed.Close() }()
		out = packed
	case "badly packed":
		w.Header().Set(encodingHeader, r.Header.Get(acceptHeader))
	case "endless":
		_, _ = w.Write(bytes.Repeat([]byte("x"), maxBody+1))
	}
	_, _ = out.Write(append([]byte(r.Header.Get("X-Amz-Target")+" "+r.Host[:4]+" "), body...))
}

// TestDirect: a response in any form is read completely. The connection is used again only if the
// end of the response is unambiguous.
func TestDirect(t *testing.T) {
	d, _, opened := direct(t, echo, time.Minute)
	for _, c := range []struct {
		body   string
		opened int64 // total number of connections
		fails  bool
	}{
		{body: "plain", opened: 1},
		{body: "chunked", opened: 1},
		{body: "early", opened: 1},
		{body: "packed", opened: 1},
		{body: "", opened: 1},
		{body: strings.Repeat("long", 20_000), opened: 1},
		{body: "close", opened: 1},
		{body: "after a close", opened: 2},
		{body: "cut", opened: 2, fails: true},
		{body: "after a cut", opened: 3},
		{body: "half", opened: 3, fails: true},
		{body: "endless", opened: 4, fails: true},
		{body: "badly packed", opened: 5, fails: true},
		{body: "after all", opened: 6},
	} {
		got, err := post(context.Background(), d, c.body)
		if c.fails != (err != nil) || err == nil && got != "T.Op 127. "+c.body ||
			opened.Load() != c.opened {
			t.Errorf("%.20s: %.60q, %v, after %d connections", c.body, got, err, opened.Load())
		}
	}
}

// TestDirectEnds: a request ends with its context and after its timeout. Its connection is not
// used again, because the response may still arrive.
func TestDirectEnds(t *testing.T) {
	d, _, opened := direct(t, echo, time.Second)
	if _, err := post(context.Background(), d, "slow"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the timeout: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := post(ctx, d, "slow"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if got, err := post(context.Background(), d, "next"); err != nil || got != "T.Op 127. next" ||
		opened.Load() != 3 {
		t.Errorf("%q, %v, after %d connections", got, err, opened.Load())
	}
}

// TestDirectContexts: a connection is used for the requests of one context. When the context
// ends, the request in flight ends too, and the connection is not used for other contexts.
func TestDirectContexts(t *testing.T) {
	d, _, opened := direct(t, echo, time.Minute)
	one, end := context.WithCancel(context.Background())
	for n := range 3 {
		if _, err := post(one, d, "one"); err != nil || opened.Load() != 1 {
			t.Fatalf("request %d: %v, after %d connections", n, err, opened.Load())
		}
	}
	two, cancel := context.WithCancel(context.Background())
	if _, err := post(two, d, "two"); err != nil || opened.Load() != 1 {
		t.Errorf("under another context: %v, after %d connections", err, opened.Load())
	}
	end()
	time.Sleep(20 * time.Millisecond)
	if _, err := post(two, d, "two"); err != nil || opened.Load() != 1 {
		t.Errorf("after the previous context ended: %v, after %d connections", err, opened.Load())
	}
	began := time.Now()
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := post(two, d, "slow"); !errors.Is(err, context.Canceled) ||
		time.Since(began) > 2*time.Second {
		t.Errorf("cancelled on a connection used before: %v", err)
	}
	three, cancel := context.WithCancel(context.Background())
	if _, err := post(three, d, "three"); err != nil || opened.Load() != 2 {
		t.Errorf("%v, after %d connections", err, opened.Load())
	}
	cancel() // while the connection is idle
	time.Sleep(20 * time.Millisecond)
	if _, err := post(three, d, "three"); !errors.Is(err, context.Canceled) {
		t.Errorf("under a context that has ended: %v", err)
	}
	if _, err := post(context.Background(), d, "next"); err != nil {
		t.Errorf("after a context that had ended: %v", err)
	}
	four, cancel := context.WithCancel(context.Background())
	if _, err := post(four, d, "four"); err != nil {
		t.Error(err)
	}
	cancel()
	time.Sleep(20 * time.Millisecond)
	if _, err := post(context.Background(), d, "next"); err != nil {
		t.Errorf("on a connection whose context had ended: %v", err)
	}
}

// TestDirectIdle: if the server closes an idle connection, no request fails.
func TestDirectIdle(t *testing.T) {
	d, server, opened := direct(t, echo, time.Minute)
	for range 2 {
		if _, err := post(context.Background(), d, "one"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := post(context.Background(), d, "open"); err != nil || opened.Load() != 1 {
		t.Fatalf("an open connection: %v, after %d connections", err, opened.Load())
	}
	server.CloseClientConnections()
	time.Sleep(100 * time.Millisecond)
	if _, err := post(context.Background(), d, "two"); err != nil || opened.Load() != 2 {
		t.Errorf("%v, after %d connections", err, opened.Load())
	}
}

// TestDirectFewerRequests: when fewer requests are made at a time, each connection is used in its
// turn all the same, and those that the server closed are closed here too.
func TestDirectFewerRequests(t *testing.T) {
	const most = 20
	var all sync.WaitGroup
	all.Add(most)
	d, server, opened := direct(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 1 {
			all.Done()
			all.Wait() // until each request has its own connection
		}
		echo(w, r)
	}, time.Minute)
	var posts sync.WaitGroup
	for range most {
		posts.Go(func() {
			if _, err := post(context.Background(), d, "x"); err != nil {
				t.Error(err)
			}
		})
	}
	posts.Wait()
	lines := slices.Clone(d.idle)
	if len(lines) != most {
		t.Fatalf("%d connections are kept", len(lines))
	}
	rested := time.Now().Add(-time.Hour)
	for _, l := range lines {
		l.used = rested
	}
	for i, l := range lines {
		if _, err := post(context.Background(), d, "fewer"); err != nil || opened.Load() != most {
			t.Fatalf("%v, after %d connections", err, opened.Load())
		}
		if !l.used.After(rested) || d.idle[most-1] != l {
			t.Fatalf("request %d did not take the connection that was idle longest", i)
		}
	}
	if _, err := post(context.Background(), d, "again"); err != nil ||
		d.idle[most-1] != lines[most-1] {
		t.Errorf("%v; a request did not take the connection that was used last", err)
	}
	server.CloseClientConnections()
	time.Sleep(100 * time.Millisecond)
	for _, l := range lines {
		l.used = rested
	}
	if _, err := post(context.Background(), d, "closed"); err != nil || opened.Load() != most+1 ||
		len(d.idle) != 1 {
		t.Errorf("%v, after %d connections, of which %d are kept", err, opened.Load(), len(d.idle))
	}
	for i, l := range lines {
		if !errors.Is(l.raw.SetDeadline(time.Time{}), net.ErrClosed) {
			t.Errorf("connection %d is not closed", i)
		}
	}
}

// TestDirectOpensEarly: after some requests the next ones open the connections that as many at
// once may need, and none is opened later.
func TestDirectOpensEarly(t *testing.T) {
	var all sync.WaitGroup
	all.Add(8)
	d, _, opened := direct(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 1 {
			all.Done()
			all.Wait() // until all requests have arrived
		}
		echo(w, r)
	}, time.Minute)
	d.expected = 8
	for n := 1; n <= 60; n++ {
		if _, err := post(context.Background(), d, "one"); err != nil {
			t.Fatal(err)
		}
		if want := int64(min(max(1, n-2*8+1), 8)); opened.Load() != want {
			t.Fatalf("%d connections after %d requests, want %d", opened.Load(), n, want)
		}
	}
	var posts sync.WaitGroup
	for range 8 {
		posts.Go(func() {
			if _, err := post(context.Background(), d, "x"); err != nil {
				t.Error(err)
			}
		})
	}
	posts.Wait()
	if opened.Load() != 8 {
		t.Errorf("%d connections after 8 concurrent requests", opened.Load())
	}
}

// TestDirectCertificates: a certificate that the transport would not trust is not trusted.
func TestDirectCertificates(t *testing.T) {
	d, _, _ := direct(t, echo, time.Minute)
	d.tls.RootCAs = nil
	var unknown *tls.CertificateVerificationError
	if _, err := post(context.Background(), d, "x"); !errors.As(err, &unknown) {
		t.Errorf("%v", err)
	}
}

// TestDirectUnsupported: what the transport would do otherwise is left to it.
func TestDirectUnsupported(t *testing.T) {
	proxy := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy:3128"})}
	target := &url.URL{Scheme: "https", Host: "kms.example.com"}
	if newDirect(target, proxy, time.Minute, 0) != nil {
		t.Error("a proxy is ignored")
	}
	if d := newDirect(target, &http.Transport{}, time.Minute, 0); d == nil ||
		d.tls.ServerName != "kms.example.com" {
		t.Error("a plain transport is not supported")
	}
}

type dialer = func(ctx context.Context, network, address string) (net.Conn, error)

func countDials(dial dialer, opened *atomic.Int64) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		opened.Add(1)
		return dial(ctx, network, address)
	}
}

// FuzzAnswer: if plainAnswer reads a response, net/http reads the same response and the same
// number of bytes.
func FuzzAnswer(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		limit := answerlimit.NewReader(bytes.NewReader(text))
		limit.Allow("the head", answerlimit.Headers)
		l := &conn{limit: limit, reader: bufio.NewReaderSize(limit, 4<<10)}
		got, ok, err := l.plainAnswer() //nolint:bodyclose // the body is part of text
		if !ok {
			if n := l.reader.Buffered(); n != min(len(text), 4<<10) {
				t.Fatalf(
					"%q: plainAnswer consumed a part of a response that it did not read: %d "+
						"bytes are left", text, n,
				)
			}
			return
		}
		theirs := bufio.NewReaderSize(bytes.NewReader(text), 4<<10)
		want, theirErr := http.ReadResponse(theirs, &http.Request{Method: http.MethodPost})
		if theirErr != nil {
			t.Fatalf("%q: net/http returns %v", text, theirErr)
		}
		defer func() { _ = want.Body.Close() }()
		wantBody, theirErr := io.ReadAll(want.Body)
		if (theirErr != nil) != (err != nil) {
			t.Fatalf("%q: %v, but net/http returns %v", text, err, theirErr)
		}
		if err != nil {
			return
		}
		body, _ := io.ReadAll(got.Body)
		if !bytes.Equal(body, wantBody) || got.StatusCode != want.StatusCode ||
			got.Header.Get(requestHeader) != want.Header.Get(requestHeader) ||
			l.reader.Buffered() != theirs.Buffered() {
			t.Fatalf("%q: %q %v, but net/http reads %q %v", text, body, got, wantBody, want)
		}
		if want.Close && !got.Close {
			t.Fatalf("%q: the connection must be closed", text)
		}
	})
}

// TestDirectDeadline: the deadline of the previous request, which may be kept, does not end the
// next request early. It still ends a request that takes too long.
func TestDirectDeadline(t *testing.T) {
	d, _, opened := direct(t, echo, 500*time.Millisecond)
	for range 30 {
		if _, err := post(context.Background(), d, "next"); err != nil || opened.Load() != 1 {
			t.Fatalf("%v, after %d connections", err, opened.Load())
		}
		time.Sleep(30 * time.Millisecond)
	}
	began := time.Now()
	if _, err := post(context.Background(), d, "slow"); !errors.Is(err,
		context.DeadlineExceeded) || time.Since(began) > 2*time.Second {
		t.Errorf("%v, after %v", err, time.Since(began))
	}
}

// bufferedConn buffers writes until it is opened.
type bufferedConn struct {
	net.Conn
	shut bool
	held []byte
}

func (c *bufferedConn) Write(p []byte) (int, error) {
	if c.shut {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *bufferedConn) open() error {
	c.shut = false
	_, err := c.Conn.Write(c.held)
	return err
}

// extraResponse returns the body of each request on a TLS connection. After the first response it
// sends another one, in the form that the body names.
func extraResponse(conn *bufferedConn, config *tls.Config) error {
	secure := tls.Server(conn, config)
	requests := bufio.NewReader(secure)
	for n := 0; ; n++ {
		r, err := http.ReadRequest(requests)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body),
			body)
		extra := []byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nextra")
		if n > 0 {
			extra = nil
		}
		conn.shut = true
		if string(body) == "one record" {
			answer, extra = append(answer, extra...), nil
		}
		_, err = secure.Write(answer)
		whole := len(conn.held)
		if string(body) == "later" {
			err = errors.Join(err, conn.open())
		}
		if extra != nil {
			_, more := secure.Write(extra)
			err = errors.Join(err, more)
		}
		// the rest of the record with the extra response, sent before the next response
		var rest []byte
		if begun := map[string]int{"a beginning": 40,
			"half a header": 3}[string(body)]; begun > 0 && extra != nil {
			conn.held, rest = conn.held[:whole+begun], bytes.Clone(conn.held[whole+begun:])
		}
		if err = errors.Join(err, conn.open()); err != nil {
			return err
		}
		conn.held = rest
	}
}

// TestExtraResponse: a response without a request is never used as the response to the next
// request.
func TestExtraResponse(t *testing.T) {
	for _, manner := range []string{"one record", "two records", "later", "a beginning",
		"half a header"} {
		t.Run(manner, func(t *testing.T) {
			d, server, _ := direct(t, echo, time.Minute)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			defer all.Wait()
			defer func() { _ = listener.Close() }()
			all.Go(func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					all.Go(func() {
						defer func() { _ = conn.Close() }()
						// ends with the connection
						_ = extraResponse(&bufferedConn{Conn: conn}, server.TLS)
					})
				}
			})
			d.target = &url.URL{Scheme: "https", Host: listener.Addr().String(), Path: "/"}
			defer func() {
				for _, l := range d.idle {
					_ = l.Close()
				}
			}()
			for _, body := range []string{manner, "second", "third"} {
				if got, err := post(context.Background(), d, body); err != nil || got != body {
					t.Errorf("the response to %q is %q, %v", body, got, err)
				}
				time.Sleep(50 * time.Millisecond) // until the extra response has arrived
			}
		})
	}
}
