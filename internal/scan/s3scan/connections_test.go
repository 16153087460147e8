package s3scan

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// crowd is an S3 client, as a bucket makes it, and a server that counts connections
// and answers when hold lets it.
type crowd struct {
	client   *s3.Client
	opened   atomic.Int64
	underway atomic.Int64
}

func newCrowd(t *testing.T, hold func()) *crowd {
	t.Helper()
	c := &crowd{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c.underway.Add(1)
		defer c.underway.Add(-1)
		hold()
		_, _ = io.WriteString(w, "body") // seen by the client
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			c.opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	sdk := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 256 })
	c.client, _ = patience(s3.New(s3.Options{BaseEndpoint: &server.URL, Region: "eu-west-1", UsePathStyle: true, HTTPClient: sdk}))
	t.Cleanup(func() {
		if pooled, ok := c.client.Options().HTTPClient.(pooled); ok {
			pooled.CloseIdleConnections()
		}
	})
	return c
}

// get reads an object so many times, in so many goroutines.
func (c *crowd) get(t *testing.T, goroutines, each int) {
	t.Helper()
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for range each {
				if body := c.one(t); body != "body" {
					t.Errorf("read %q", body)
				}
			}
		})
	}
	all.Wait()
}

func (c *crowd) one(t *testing.T) string {
	bucket, key := "b", "k"
	out, err := c.client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		t.Error(err)
		return ""
	}
	defer func() { _ = out.Body.Close() }() // read to the end
	body, err := io.ReadAll(out.Body)
	if err != nil {
		t.Error(err)
	}
	return string(body)
}

// TestBurstOpensNothing has twice as many requests at once as ever before, when the
// first thousand are over.
func TestBurstOpensNothing(t *testing.T) {
	c := newCrowd(t, func() { time.Sleep(time.Millisecond) })
	c.get(t, 8, opening/8+1)
	before := c.opened.Load()
	if before < 8 {
		t.Fatalf("%d connections were opened for 8 at once", before)
	}
	c.get(t, 16, 20)
	if after := c.opened.Load(); after != before {
		t.Errorf("%d connections, %d more than before the burst", after, after-before)
	}
}

// TestBusyConnectionsHoldNothingUp wants one more connection while all others are busy
// for long: it is opened after a moment.
func TestBusyConnectionsHoldNothingUp(t *testing.T) {
	free := make(chan struct{})
	var held atomic.Bool
	c := newCrowd(t, func() {
		if held.Load() {
			<-free
		}
	})
	c.get(t, 1, opening+1)
	held.Store(true)
	var all sync.WaitGroup
	defer all.Wait()
	defer close(free)
	const busy = 5
	for range busy {
		all.Go(func() { c.get(t, 1, 1) })
	}
	for deadline := time.Now().Add(20 * time.Second); c.underway.Load() < busy; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d requests arrived", c.underway.Load(), busy)
		}
	}
	if opened := c.opened.Load(); opened < busy {
		t.Errorf("%d connections for %d requests at once", opened, busy)
	}
}
