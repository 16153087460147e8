package s3scan

import (
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
)

// listed is a server whose pages have one key, and no end unless last is set. It counts
// its connections.
type listed struct {
	*httptest.Server
	last        bool
	connections atomic.Int64
	single      atomic.Int64                                  // requests for one key
	answer      func(http.ResponseWriter, *http.Request) bool // instead of the server
}

func newListed(t *testing.T, http2 bool) *listed {
	s := &listed{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	s.EnableHTTP2 = http2
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *listed) serve(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if query.Get("max-keys") == "1" {
		s.single.Add(1)
	}
	if s.answer != nil && s.answer(w, r) {
		return
	}
	_, _ = fmt.Fprintf(w, `<ListBucketResult><IsTruncated>%v</IsTruncated><Contents><Key>%s1</Key></Contents></ListBucketResult>`, !s.last, query.Get("start-after"))
}

// bucket is read by so many workers, over a client that keeps all connections.
func (s *listed) bucket(workers, mostConnections int) *Bucket {
	transport := s.Client().Transport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost, transport.MaxConnsPerHost = 2*workers, mostConnections
	return New(Config{Bucket: "b", Workers: workers, Client: s3.New(s3.Options{Region: "eu-west-1", BaseEndpoint: &s.URL, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "not-a-secret", ""), Retryer: aws.NopRetryer{},
		HTTPClient: &http.Client{Transport: transport}})})
}

// page reads the page behind a key.
func page(t *testing.T, b *Bucket, behind string) {
	t.Helper()
	partitions, err := b.Partitions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.Page(t.Context(), partitions[0], []byte(behind)); err != nil || len(got.Items) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
}

// When all workers and the listing ask at once for the first time, late in a run, they
// open no connection.
func TestConnectionsAreThereBeforeTheyAreNeeded(t *testing.T) {
	const workers = 16
	server := newListed(t, false)
	bucket := server.bucket(workers, 0)
	page(t, bucket, "")
	if n := server.connections.Load(); n != workers+1 {
		t.Errorf("%d connections after the first page, want %d", n, workers+1)
	}
	if n := server.single.Load(); n != workers+1 {
		t.Errorf("%d listings of one key, want %d", n, workers+1)
	}
	var together sync.WaitGroup
	together.Add(workers + 1)
	server.answer = func(http.ResponseWriter, *http.Request) bool {
		together.Done()
		together.Wait()
		return false
	}
	var asking sync.WaitGroup
	for range workers {
		asking.Go(func() { _, _ = bucket.Load(t.Context(), "k") })
	}
	page(t, bucket, "1")
	asking.Wait()
	if n := server.connections.Load(); n != workers+1 {
		t.Errorf("%d connections when all asked at once, want %d", n, workers+1)
	}
	if n := server.single.Load(); n != workers+1 {
		t.Errorf("%d listings of one key after the second page, want %d", n, workers+1)
	}
}

// Where connections cannot be opened, or say nothing about requests, or the server does
// not like to be asked, the page comes all the same, and soon.
func TestConnectionsThatAreNotToBeHad(t *testing.T) {
	const workers = 8
	refuse := func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("max-keys") != "1" {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	for name, c := range map[string]struct {
		http2, last bool
		most        int
		answer      func(http.ResponseWriter, *http.Request) bool
		within      time.Duration
		connections int64
	}{
		"HTTP/2":                {http2: true, within: connectWait, connections: workers + 1},
		"few are allowed":       {most: 4, within: connectTime, connections: 4},
		"refused":               {answer: refuse, within: connectWait, connections: workers + 1},
		"one page is all":       {last: true, within: connectWait, connections: 1},
		"closed by each answer": {answer: func(w http.ResponseWriter, _ *http.Request) bool { w.Header().Set("Connection", "close"); return false }, within: connectWait, connections: workers + 2},
	} {
		t.Run(name, func(t *testing.T) {
			server := newListed(t, c.http2)
			server.last, server.answer = c.last, c.answer
			began := time.Now()
			page(t, server.bucket(workers, c.most), "")
			if took := time.Since(began); took > c.within {
				t.Errorf("it took %v", took)
			}
			if n := server.connections.Load(); n > c.connections {
				t.Errorf("%d connections, want at most %d", n, c.connections)
			}
		})
	}
}
