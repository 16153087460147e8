package harness

import (
	"bytes"
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fault"
)

// Proxy puts the Watcher in front of a server that need not be ours, until the test
// ends, and returns where it listens, on loopback: whoever is sent there is a worker,
// and whoever goes to the server itself is not watched. Requests are passed on as
// they came, with the Host that is signed; whole ones alone, and those to their ends,
// also when the worker is killed: some servers do not survive half a request. An
// answer that breaks off arrives as a 502.
func (w *Watcher) Proxy(t testing.TB, endpoint string) string {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	proxy := &httputil.ReverseProxy{Transport: transport, ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host // and Out.Host stays
		},
		ModifyResponse: whole,
	}
	passOn := func(w http.ResponseWriter, r *http.Request) {
		proxy.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
	}
	front := httptest.NewServer(fault.Watched(http.HandlerFunc(passOn), fakeaws.Operation, w.observe))
	t.Cleanup(func() {
		front.Close()
		transport.CloseIdleConnections()
	})
	return front.URL
}

// whole reads an answer to its end before any of it is passed on.
func whole(r *http.Response) error {
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	r.Body = io.NopCloser(bytes.NewReader(body))
	return err
}
