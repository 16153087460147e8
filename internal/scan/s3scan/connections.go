package s3scan

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// copyTimeout bounds one request that copies, of at most 5 GB within S3. It answers
// when the copy is done.
const copyTimeout = 10 * time.Minute

// patience gives a request so much time, where the client of the SDK bounds it. The
// client that it returns takes its connections from the same pool as those requests.
func patience(client *s3.Client) (*s3.Client, func(*s3.Options)) {
	none := func(*s3.Options) {}
	if client == nil {
		return nil, none
	}
	bounded, ok := client.Options().HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		return client, none
	}
	usual, ok := bounded.WithReadTimeout(copyTimeout).Freeze().(*http.Client)
	if !ok {
		return client, func(o *s3.Options) { o.HTTPClient = bounded.WithTimeout(copyTimeout).WithReadTimeout(copyTimeout) }
	}
	patient := *usual
	patient.Timeout = copyTimeout
	pool := newPool()
	return s3.New(client.Options(), func(o *s3.Options) { o.HTTPClient = pooled{usual, pool} }),
		func(o *s3.Options) { o.HTTPClient = pooled{&patient, pool} }
}

const (
	// opening is how many requests open connections as they need them.
	opening = 1000
	// waitToOpen is how long a later one waits for a connection of another request
	// before it opens one. Most answers of S3 come sooner, also on a machine that has
	// little time for us.
	waitToOpen = 250 * time.Millisecond
	// mostAtRest is how many connections are counted.
	mostAtRest = 1 << 14
)

// pool keeps a burst from opening connections, each with a TLS handshake, that nothing
// needs a moment later. It counts the connections of a transport by the requests that
// were under way at once, and holds a request back, for a moment, that would be one
// more than ever before.
type pool struct {
	atRest chan struct{} // one for each connection without a request
	made   atomic.Int64  // requests so far
}

func newPool() *pool { return &pool{atRest: make(chan struct{}, mostAtRest)} }

// enter waits for a connection. When there is none in time, or ctx ends, the transport
// opens one, or says why it does not.
func (p *pool) enter(ctx context.Context) {
	early := p.made.Add(1) <= opening
	select {
	case <-p.atRest:
		return
	default:
	}
	if early {
		return
	}
	timer := time.NewTimer(waitToOpen)
	defer timer.Stop()
	select {
	case <-p.atRest:
	case <-timer.C: // it may be us who were stopped, and both are there
		select {
		case <-p.atRest:
		default:
		}
	case <-ctx.Done():
	}
}

func (p *pool) leave() {
	select {
	case p.atRest <- struct{}{}:
	default: // the transport keeps no such number either
	}
}

// pooled is an HTTP client whose connections are those of a pool.
type pooled struct {
	*http.Client
	pool *pool
}

var _ aws.HTTPClient = pooled{}

// Do implements aws.HTTPClient.
func (c pooled) Do(r *http.Request) (*http.Response, error) {
	c.pool.enter(r.Context())
	answer, err := c.Client.Do(r)
	if err != nil || answer.Body == http.NoBody {
		c.pool.leave()
		return answer, err
	}
	answer.Body = &taken{ReadCloser: answer.Body, pool: c.pool}
	return answer, nil
}

// taken is a body that holds its connection until it is closed.
type taken struct {
	io.ReadCloser
	pool *pool
	left atomic.Bool
}

// Close implements io.Closer.
func (t *taken) Close() error {
	err := t.ReadCloser.Close()
	if t.left.CompareAndSwap(false, true) {
		t.pool.leave()
	}
	return err
}
