package s3scan

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/scan"
)

// accessPointARN is the ARN of the access point that accessPoint serves.
const accessPointARN = "arn:aws:s3:eu-west-1:111122223333:accesspoint/ap1"

// accessPoint returns a transport to an access point: a host that serves the objects of the
// bucket but not its settings.
func accessPoint(t *testing.T, store http.Handler) http.RoundTripper {
	const host = "ap1-111122223333.s3-accesspoint.eu-west-1.amazonaws.com"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		switch {
		case r.Host != host:
			t.Errorf("request to host %s", r.Host)
		case query.Has("versioning") || query.Has("ownershipControls"):
			w.WriteHeader(http.StatusMethodNotAllowed)
			_, _ = w.Write([]byte("<Error><Code>MethodNotAllowed</Code></Error>"))
		default:
			r.URL.Path, r.URL.RawPath = "/"+bucketName+r.URL.Path,
				"/"+bucketName+r.URL.EscapedPath()
			store.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		request := r.Clone(r.Context())
		request.Host = r.URL.Host
		request.URL.Scheme, request.URL.Host = "http", strings.TrimPrefix(server.URL, "http://")
		return transport.RoundTrip(request)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Objects are listed, read and replaced through an access point.
func TestAccessPoint(t *testing.T) {
	store := newStore(t, nil)
	ref := store.put(1)
	client := s3.NewFromConfig(aws.Config{
		Region:      "eu-west-1",
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		HTTPClient:  &http.Client{Transport: accessPoint(t, store.fake)},
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
	})
	source := store.source(func(c *Config) { c.Client, c.Bucket = client, accessPointARN })
	if err := source.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	refs, _ := listAll(t, source)
	if len(refs) != 1 || refs[0] != ref {
		t.Fatalf("listed %q, want %q", refs, ref)
	}
	item, err := source.Load(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	changed := *item.Payload.(*scan.Object)
	changed.Body = []byte("rewritten")
	results := source.Replace(t.Context(), []scan.Change{{Item: item, New: &changed}})
	if results[0].Err != nil {
		t.Fatal(results[0].Err)
	}
	if now, err := source.Load(t.Context(), ref); err != nil ||
		string(now.Payload.(*scan.Object).Body) != "rewritten" {
		t.Errorf("%+v, %v, want the new body", now.Payload, err)
	}
}
