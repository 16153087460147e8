package outage

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go/middleware"
)

// slowBody is the body of a response that arrives in parts. After the last part, Read returns
// when the request is given up.
type slowBody struct {
	ctx   context.Context
	parts []string
	pause time.Duration // before each part
	ends  bool          // io.EOF follows the last part
}

func (b *slowBody) Read(p []byte) (int, error) {
	if len(b.parts) == 0 {
		if b.ends {
			return 0, io.EOF
		}
		<-b.ctx.Done()
		return 0, b.ctx.Err()
	}
	time.Sleep(b.pause)
	if b.ctx.Err() != nil {
		return 0, b.ctx.Err()
	}
	n := copy(p, b.parts[0])
	b.parts = b.parts[1:]
	return n, nil
}

func (b *slowBody) Close() error { return nil }

// slowServer responds with the body to the n-th request; nil is a connection error.
type slowServer struct{ bodies []*slowBody }

func (s *slowServer) Do(r *http.Request) (*http.Response, error) {
	body := s.bodies[0]
	s.bodies = s.bodies[1:]
	if body == nil {
		return nil, errAway
	}
	body.ctx = r.Context()
	return &http.Response{StatusCode: http.StatusOK, Body: body, Request: r}, nil
}

// scan sends a Scan request through the gates of m.
func (s *slowServer) scan(t *testing.T, m *Monitor) error {
	t.Helper()
	client := dynamodb.NewFromConfig(aws.Config{
		Region:     "eu-west-1",
		HTTPClient: s,
		Credentials: aws.CredentialsProviderFunc(
			func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}, nil
			}),
		Retryer:    func() aws.Retryer { return aws.NopRetryer{} },
		APIOptions: []func(*middleware.Stack) error{m.Install("")},
	})
	_, err := client.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("t")})
	return err
}

// page returns a page of Scan in parts: one a second, for n seconds.
func page(n int, ends bool) *slowBody {
	parts := append([]string{`{"Items":[{}`}, strings.Split(strings.Repeat(",{}|", n-2), "|")...)
	return &slowBody{parts: append(parts[:n-1], "]}"), pause: time.Second, ends: ends}
}

// TestArrivingBody: a service that sends a long body is not silent, also after a failure and
// when the program has no more patience. A body that stops is silence.
func TestArrivingBody(t *testing.T) {
	for name, c := range map[string]struct {
		bodies  []*slowBody
		gone    bool // the last request is given up
		notices int
	}{
		"first request":   {[]*slowBody{page(15, true)}, false, 0},
		"after a failure": {[]*slowBody{nil, page(15, true)}, false, 2},
		"stops":           {[]*slowBody{page(15, false)}, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, stop := newTestService(t, 0)
				defer stop()
				w.SetPatience(4 * time.Second)
				s := &slowServer{bodies: c.bodies}
				var err error
				for len(s.bodies) > 0 {
					err = s.scan(t, w.Monitor)
				}
				took := time.Since(w.began)
				var gone *givenUpError
				if errors.As(err, &gone) != c.gone || !c.gone && err != nil ||
					took > 20*time.Second {
					t.Errorf("error %v after %v", err, took)
				}
				if len(w.notices) != c.notices {
					t.Errorf("notices %+v at %v, want %d", w.notices, w.at, c.notices)
				}
			})
		})
	}
}
