package awsclient

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// counted is a connection that counts the writes to it.
type counted struct {
	net.Conn
	writes *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// TestOneWrite: a batch of 25 changes goes out in one write, over TLS in one for each of
// its two records; the SDK alone takes more.
func TestOneWrite(t *testing.T) {
	for _, c := range []struct {
		name  string
		start func(http.Handler) *httptest.Server
		want  int64
	}{{"HTTP", httptest.NewServer, 1}, {"TLS", httptest.NewTLSServer, 2}} {
		t.Run(c.name, func(t *testing.T) {
			var sent atomic.Int64 // bytes of the last body
			server := c.start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n, _ := io.Copy(io.Discard, r.Body)
				sent.Store(n)
				_, _ = io.WriteString(w, `{"Responses":[]}`)
			}))
			defer server.Close()
			sdk, ours := writesOf(t, server, false), writesOf(t, server, true)
			if n := sent.Load(); n < 18<<10 || n > 22<<10 {
				t.Fatalf("the request has %d bytes", n)
			}
			if ours != c.want || sdk <= c.want {
				t.Errorf("%d writes, and %d of the SDK alone", ours, sdk)
			}
		})
	}
}

// writesOf is how many writes one request takes.
func writesOf(t *testing.T, server *httptest.Server, one bool) int64 {
	t.Helper()
	var writes atomic.Int64
	transport, ok := server.Client().Transport.(*http.Transport)
	if !ok {
		t.Fatal("the test server's client has another transport")
	}
	var client aws.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(own *http.Transport) {
		own.TLSClientConfig = transport.TLSClientConfig
		own.MaxConnsPerHost = 1
		own.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return counted{conn, &writes}, err
		}
	})
	if one {
		client = NewOneWrite(client)
	}
	db := dynamodb.New(dynamodb.Options{Region: "eu-central-1", BaseEndpoint: aws.String(server.URL), Retryer: aws.NopRetryer{}, HTTPClient: client,
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "")})
	blob := &types.AttributeValueMemberB{Value: bytes.Repeat([]byte{1}, 265)}
	in := &dynamodb.BatchExecuteStatementInput{}
	for range 25 {
		in.Statements = append(in.Statements, types.BatchStatementRequest{Statement: aws.String(`UPDATE "customers" SET "a"=? WHERE "id"=? AND "a"=?`),
			Parameters: []types.AttributeValue{blob, &types.AttributeValueMemberS{Value: "an-id"}, blob}})
	}
	var before int64
	for range 10 { // TLS makes its first records short
		before = writes.Load()
		if _, err := db.BatchExecuteStatement(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	return writes.Load() - before
}
