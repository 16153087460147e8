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

// Proxy starts a proxy to the server at endpoint and returns the URL of the proxy, which listens
// on loopback until the test ends. The Watcher observes the requests that pass through the proxy,
// and none that go to endpoint directly.
//
// The proxy forwards requests unchanged, including the Host header, which is signed. It forwards
// complete requests only, and completes them even if the worker is killed, because some servers
// fail on an incomplete request. It replaces an incomplete response with status 502.
func (w *Watcher) Proxy(t testing.TB, endpoint string) string {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	proxy := &httputil.ReverseProxy{Transport: transport, ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			// Out.Host does not change
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
		},
		ModifyResponse: readWhole,
	}
	forward := func(w http.ResponseWriter, r *http.Request) {
		proxy.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
	}
	server := httptest.NewServer(fault.Watched(http.HandlerFunc(forward), fakeaws.Operation,
		w.observe))
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.URL
}

// readWhole reads a response to its end before the proxy forwards any of it.
func readWhole(r *http.Response) error {
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	r.Body = io.NopCloser(bytes.NewReader(body))
	return err
}
