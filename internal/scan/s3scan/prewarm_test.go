package s3scan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/scan"
	"rotator/internal/scan/scantest"
)

// The limits in prewarm.Connections: how long connections wait for each other, and the total.
const (
	connectWait = time.Second
	connectTime = 5 * time.Second
)

// listed is a server that counts its connections. Each page has one key. There is a further
// page unless last is set.
type listed struct {
	*httptest.Server
	last        bool
	connections atomic.Int64
	single      atomic.Int64 // number of requests for one key
	// if it returns true, it has sent the response
	respond func(http.ResponseWriter, *http.Request) bool
}

func newListed(t *testing.T, http2 bool) *listed {
	s := &listed{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	if s.EnableHTTP2 = http2; http2 {
		s.StartTLS()
	} else {
		s.Start() // with HTTP/1.1 the first responses arrive before the last connection is opened
	}
	t.Cleanup(s.Close)
	return s
}

func (s *listed) serve(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if query.Get("max-keys") == "1" {
		s.single.Add(1)
	}
	if s.respond != nil && s.respond(w, r) {
		return
	}
	_, _ = fmt.Fprintf(w,
		"<ListBucketResult><IsTruncated>%v</IsTruncated><Contents><Key>%s1</Key></Contents>"+
			"</ListBucketResult>", !s.last, query.Get("start-after"))
}

// bucket returns a Bucket for the given number of workers. Its client keeps all connections.
func (s *listed) bucket(workers int, change func(*http.Transport)) *Bucket {
	transport := s.Client().Transport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 2 * workers
	change(transport)
	return New(Config{
		Bucket:      "b",
		Connections: workers + 1,
		Client: s3.New(s3.Options{
			Region:       "eu-west-1",
			BaseEndpoint: &s.URL,
			UsePathStyle: true,
			Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "not-a-secret",
				""),
			Retryer:    aws.NopRetryer{},
			HTTPClient: &http.Client{Transport: transport},
		}),
	})
}

func partition(t *testing.T, b *Bucket) scan.Partition {
	t.Helper()
	partitions, err := b.Partitions(t.Context())
	if err != nil || len(partitions) != 1 {
		t.Fatal(partitions, err)
	}
	return partitions[0]
}

// page reads the page after a key.
func page(t *testing.T, b *Bucket, after string) {
	t.Helper()
	if got, err := b.Page(t.Context(), partition(t, b), []byte(after)); err != nil ||
		len(got.Items) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
}

// When all workers and the listing send requests concurrently for the first time, they open
// no further connection.
func TestConnectionsOpenedInAdvance(t *testing.T) {
	const workers = 64
	server := newListed(t, false)
	bucket := server.bucket(workers, func(*http.Transport) {})
	page(t, bucket, "")
	if n := server.connections.Load(); n != workers+1 {
		t.Errorf("%d connections after the first page, want %d", n, workers+1)
	}
	if n := server.single.Load(); n != workers+1 {
		t.Errorf("%d listings of one key, want %d", n, workers+1)
	}
	wait := scantest.Barrier(t, workers+1)
	server.respond = func(http.ResponseWriter, *http.Request) bool {
		wait()
		return false
	}
	var requests sync.WaitGroup
	for range workers {
		requests.Go(func() { _, _ = bucket.Load(t.Context(), "k") })
	}
	page(t, bucket, "1")
	requests.Wait()
	if n := server.connections.Load(); n != workers+1 {
		t.Errorf("%d connections during concurrent requests, want %d", n, workers+1)
	}
	if n := server.single.Load(); n != workers+1 {
		t.Errorf("%d listings of one key after the second page, want %d", n, workers+1)
	}
}

// If connections cannot be opened, send no trace events, or are refused by the server, Page
// still returns in time.
func TestConnectionsUnavailable(t *testing.T) {
	const workers = 8
	refuse := func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("max-keys") != "1" {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	closing := func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Connection", "close")
		return false
	}
	for name, c := range map[string]struct {
		http2, last bool
		most, dials int // maximum number of connections at a time, and in total
		respond     func(http.ResponseWriter, *http.Request) bool
		within      time.Duration
		connections int64
	}{
		"HTTP/2":            {http2: true, within: connectWait, connections: 1},
		"few allowed":       {most: 4, within: connectTime, connections: 4},
		"few can be opened": {dials: 4, within: connectWait, connections: 4},
		"refused":           {respond: refuse, within: connectWait, connections: workers + 1},
		"only one page":     {last: true, within: connectWait, connections: 1},
		// including that of the page
		"closed by each response": {
			respond:     closing,
			within:      connectWait,
			connections: workers + 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := newListed(t, c.http2)
			server.last, server.respond = c.last, c.respond
			began := time.Now()
			page(t, server.bucket(workers, func(transport *http.Transport) {
				transport.MaxConnsPerHost = c.most
				if c.dials > 0 {
					transport.DialContext = firstDials(c.dials)
				}
			}), "")
			if took := time.Since(began); took > c.within {
				t.Errorf("Page took %v", took)
			}
			if n := server.connections.Load(); n != c.connections {
				t.Errorf("%d connections, want %d", n, c.connections)
			}
		})
	}
}

// firstDials opens at most n connections.
func firstDials(n int) func(context.Context, string, string) (net.Conn, error) {
	var dialed atomic.Int64
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if dialed.Add(1) > int64(n) {
			return nil, errors.New("no more connections")
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
}

// A run that is stopped during Connections returns its page without waiting.
func TestConnectionsOfStoppedRun(t *testing.T) {
	server := newListed(t, false)
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan struct{})
	defer close(over)
	few := firstDials(4)
	bucket := server.bucket(8, func(transport *http.Transport) {
		transport.DialContext = func(
			dialing context.Context, network, address string,
		) (net.Conn, error) {
			conn, err := few(dialing, network, address)
			if err != nil { // other connections wait for this one
				stop()
				<-over
			}
			return conn, err
		}
	})
	began := time.Now()
	out, err := bucket.Page(ctx, partition(t, bucket), nil)
	if took := time.Since(began); err != nil || len(out.Items) != 1 || ctx.Err() == nil ||
		took > connectWait {
		t.Errorf("%+v, %v, after %v; stopped: %v", out, err, took, ctx.Err())
	}
}
