package fastkms

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// sendSmall sends a small request and closes the body of the response.
func sendSmall(ctx context.Context, d *Direct, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		return err
	}
	response, err := d.Do(r)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// TestGiveUp: GiveUp ends a request without a response, and one that waits for a connection,
// with the error of a timeout. The next request succeeds.
func TestGiveUp(t *testing.T) {
	var silent atomic.Bool
	arrived := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // otherwise the server does not notice the end
		if silent.Load() {
			arrived <- struct{}{}
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	var hangs atomic.Bool
	transport := &http.Transport{DialContext: func(
		ctx context.Context, network, address string,
	) (net.Conn, error) {
		if hangs.Load() {
			arrived <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	d := newDirect(target, transport, time.Minute, 0)
	send := func() error { return sendSmall(t.Context(), d, server.URL) }
	for name, away := range map[string]*atomic.Bool{"silent": &silent, "hangs": &hangs} {
		away.Store(true)
		result := make(chan error, 1)
		go func() { result <- send() }()
		<-arrived
		d.GiveUp()
		if err := <-result; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		away.Store(false)
		if err := send(); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
		for _, l := range d.idle {
			_ = l.Close()
		}
		d.idle = nil
	}
	if len(d.busy) > 0 || len(d.opening) > 0 {
		t.Errorf("%d connections in use, %d being opened", len(d.busy), len(d.opening))
	}
}
