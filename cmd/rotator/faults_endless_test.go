package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"

	"rotator/internal/fakeaws"
	"rotator/internal/harness"
)

// flood is a response that does not end.
type flood struct {
	operations string
	manner     string // the part that does not end
	status     int
}

// flooded puts a proxy in front of the services that responds to some operations with a flood.
func flooded(t *testing.T, w *harness.Env, f flood) (endpoint string) {
	t.Helper()
	to, err := url.Parse(w.Server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	proxy := proxyTo(to)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.Contains(f.operations, fakeaws.Operation(r)) {
			f.serve(rw, r)
			return
		}
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// proxyTo forwards requests with their original Host, which is signed.
func proxyTo(to *url.URL) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
		},
	}
}

// mostFlood is the length in bytes at which a flood ends if rotator reads that much.
const mostFlood = 1 << 30

func (f flood) serve(rw http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	block := strings.Repeat("x", 64<<10)
	rw.Header().Set("ETag", `"of-an-object"`)
	switch f.manner {
	case "headers", "interim responses":
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		piece := "X-Padding: " + block[:1000] + "\r\n"
		begin := fmt.Sprintf("HTTP/1.1 %d Some Text\r\n", f.status)
		if f.manner == "interim responses" {
			piece, begin = "HTTP/1.1 103 Early Hints\r\nLink: "+block[:1000]+"\r\n\r\n", ""
		}
		_, err = io.WriteString(conn, begin)
		for n := 0; err == nil && n < mostFlood; n += len(piece) {
			_, err = io.WriteString(conn, piece)
		}
	case "gzip":
		rw.Header().Set("Content-Encoding", "gzip")
		rw.WriteHeader(f.status)
		packed := gzip.NewWriter(rw)
		fill(packed, block)
		_ = packed.Close()
	case "items":
		rw.WriteHeader(f.status)
		_, _ = io.WriteString(rw, `{"Items":[{}`)
		fill(rw, strings.Repeat(",{}", 20_000))
	default:
		rw.WriteHeader(f.status)
		fill(rw, block)
	}
}

func fill(w io.Writer, block string) {
	var err error
	for n := 0; err == nil && n < mostFlood; n += len(block) {
		_, err = io.WriteString(w, block)
	}
}

// floodRun is a command that gets a flood.
type floodRun struct {
	flood
	args []string
}

// endlessResponses: if any part of any response does not end, the memory of rotator stays bounded,
// it exits with 69 and names the part that was too long. The next run continues. An endless object
// is refused as too-large.
func endlessResponses(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs too much memory and time")
	}
	// Two responses of 16 MiB at once with their parsed form, and four objects of 64 MiB.
	const most, mostObjects = 384 << 20, 768 << 20
	w := newTrial(t, harness.Config{
		// Each object is read up to its largest size, so there are only a few.
		Objects:   map[harness.Kind]int{harness.Ordinary: 4, harness.Document: 2},
		MaxOutage: "6s",
		Memory:    true,
	})
	var audits []floodRun
	for _, f := range []flood{
		{"kms:DescribeKey", "body", 200}, {"kms:ReEncrypt", "headers", 200},
		{"kms:ReEncrypt", "interim responses", 200}, {"kms:ReEncrypt", "body", 200},
		{"kms:ReEncrypt", "body", 400}, {"kms:ReEncrypt", "gzip", 200},
		{"dynamodb:Scan", "headers", 200}, {"dynamodb:Scan", "body", 200},
		{"dynamodb:Scan", "items", 200}, {"dynamodb:Scan", "body", 500},
		{"s3:ListObjectsV2", "headers", 200}, {"s3:ListObjectsV2", "body", 200},
		{"s3:ListObjectsV2", "body", 503},
	} {
		audits = append(audits, floodRun{f, []string{"audit"}})
		if f.operations == "kms:ReEncrypt" {
			audits = append(audits, floodRun{f, []string{"audit", "--sdk"}})
		}
	}
	for some := range slices.Chunk(audits, 4) {
		floodsStop(t, w, most, some)
	}
	object := floodRun{flood{"s3:GetObject", "body", 200}, []string{"audit", "-o", "json"}}
	if r := object.begin(t, w).end(t, mostObjects); !strings.Contains(r.Out, `"too-large"`) {
		t.Errorf("want slots that are too large: %s", r)
	}
	const writes = "dynamodb:BatchExecuteStatement dynamodb:UpdateItem s3:PutObject"
	floodsStop(t, w, most, []floodRun{{flood{writes, "headers", 200}, []string{"run", "--sdk"}}})
	floodsStop(t, w, most, []floodRun{{flood{writes, "body", 200}, []string{"run"}}})
	toTheEnd(t, w)
}

// floodsStop runs commands concurrently, each with its own flood.
func floodsStop(t *testing.T, w *harness.Env, most int64, runs []floodRun) {
	t.Helper()
	var begun []*flooding
	for _, run := range runs {
		begun = append(begun, run.begin(t, w))
	}
	for _, process := range begun {
		r := process.end(t, most)
		named := strings.Contains(r.Log, "is longer than") ||
			strings.Contains(r.Log, "headers exceeded") ||
			strings.Contains(r.Log, "too many 1xx")
		if r.Code != exitUnavailable || !named {
			t.Errorf("%v: want exit code 69 and the name of the part that is too long: %s",
				process.flood, r)
		}
	}
}

// flooding is a running floodRun.
type flooding struct {
	floodRun
	*harness.Process
}

func (f floodRun) begin(t *testing.T, w *harness.Env) *flooding {
	t.Helper()
	p := w.Command(f.args...)
	endpoint := "AWS_ENDPOINT_URL=" + flooded(t, w, f.flood)
	p.Env = append(p.Env, endpoint, "GOMEMLIMIT=off", "GOGC=100")
	return &flooding{f, p.Begin(t)}
}

func (f *flooding) end(t *testing.T, most int64) harness.Result {
	t.Helper()
	r := f.End(t)
	if used := r.MaxRSS(t); used > most {
		t.Errorf("%v %v: used %d MiB, want at most %d", f.flood, f.args, used>>20, most>>20)
	}
	return r
}
