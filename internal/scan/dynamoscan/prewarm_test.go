package dynamoscan

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"rotator/internal/scan/scantest"
)

// latency is the time until the server responds. The SDK closes the body of a request when it has
// the response, and net/http closes the connection if that body was not sent completely by then.
const latency = 50 * time.Millisecond

// scanned is a server that counts its connections. Each page has one item. There is a further
// page unless last is set.
type scanned struct {
	*httptest.Server
	last        bool
	connections atomic.Int64
	describes   atomic.Int64
	hold        func() // called before each response
}

func newScanned(t *testing.T, last bool) *scanned {
	s := &scanned{last: last, hold: func() {}}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func (s *scanned) serve(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	time.Sleep(latency)
	s.hold()
	if r.Method == http.MethodGet {
		if r.Header.Get("Authorization") != "" || r.Header.Get("X-Amz-Target") != "" {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = io.WriteString(w, "healthy: dynamodb.eu-west-1.amazonaws.com ")
		return
	}
	body := `{"Items":[{"k":{"S":"1"}}],"LastEvaluatedKey":{"k":{"S":"1"}}}`
	if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".DescribeTable") {
		s.describes.Add(1)
		body = `{"Table":{"KeySchema":[{"AttributeName":"k","KeyType":"HASH"}],` +
			`"AttributeDefinitions":[{"AttributeName":"k","AttributeType":"S"}]}}`
	} else if s.last {
		body = `{"Items":[{"k":{"S":"1"}}]}`
	}
	_, _ = io.WriteString(w, body)
}

// page reads one page of the table.
func (s *scanned) page(t *testing.T, table *Table) error {
	partitions, err := table.Partitions(t.Context())
	if err != nil {
		return err
	}
	page, err := table.Page(t.Context(), partitions[0], nil)
	if err == nil && (len(page.Items) != 1 || page.Last != s.last) {
		err = fmt.Errorf("the page is %+v", page)
	}
	return err
}

// When the maximum number of requests is sent concurrently for the first time, no further
// connection is opened. A table of one page opens none in advance.
func TestConnectionsOpenedInAdvance(t *testing.T) {
	const most = 20
	for name, c := range map[string]struct {
		last bool
		want int64
	}{"several pages": {false, most}, "one page": {true, 1}} {
		t.Run(name, func(t *testing.T) {
			server := newScanned(t, c.last)
			transport := &http.Transport{MaxIdleConnsPerHost: 2 * most}
			t.Cleanup(transport.CloseIdleConnections)
			table := New(Config{
				Table:       tableName,
				Connections: most,
				Client: dynamodb.New(dynamodb.Options{
					Region:       "eu-west-1",
					BaseEndpoint: &server.URL,
					Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE",
						"not-a-secret", ""),
					Retryer:    aws.NopRetryer{},
					HTTPClient: &http.Client{Transport: transport},
				}),
			})
			if err := server.page(t, table); err != nil {
				t.Fatal(err)
			}
			if n := server.connections.Load(); n != 1 {
				t.Errorf("%d connections before the first write", n)
			}
			table.Replace(t.Context(), nil)
			if n := server.connections.Load(); n != c.want {
				t.Errorf("%d connections after the first write, want %d", n, c.want)
			}
			server.hold = scantest.Barrier(t, int(c.want))
			var reading sync.WaitGroup
			for range c.want {
				reading.Go(func() {
					if err := server.page(t, table); err != nil {
						t.Error(err)
					}
				})
			}
			reading.Wait()
			if n := server.connections.Load(); n != c.want {
				t.Errorf("%d connections during concurrent requests, want %d", n, c.want)
			}
			if n := server.describes.Load(); n != 1 {
				t.Errorf("%d DescribeTable requests, want 1", n)
			}
		})
	}
}
