package s3scan

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
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
	pool := &pool{}
	usual, ok := bounded.WithReadTimeout(copyTimeout).WithTransportOptions(pool.dialer).Freeze().(*http.Client)
	if !ok {
		return client, func(o *s3.Options) { o.HTTPClient = bounded.WithTimeout(copyTimeout).WithReadTimeout(copyTimeout) }
	}
	patient := *usual
	patient.Timeout = copyTimeout
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
)

// pool keeps a burst from opening connections, each with a TLS handshake, that nothing
// needs a moment later: it holds a request back, for a moment, while as many are under
// way as there were ever connections at once. It counts those by the transport's dialer.
//
// Who waited in vain raises that number. So nobody waits for long where connections do
// not tell how many requests there can be, as with HTTP/2.
type pool struct {
	mu       sync.Mutex
	made     int // requests so far
	underway int
	open     int             // connections
	allowed  int             // how many requests may be under way at once
	waiting  []chan struct{} // in order; closed when it is their turn
}

// dialer has the pool count the connections of a transport.
func (p *pool) dialer(t *http.Transport) {
	dial := t.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: 30 * time.Second}).DialContext
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		p.opened()
		return &counted{Conn: conn, closed: sync.OnceFunc(p.closed)}, nil
	}
}

func (p *pool) opened() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open++
	p.allowed = max(p.allowed, p.open)
	p.admit()
}

func (p *pool) closed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	if p.made <= opening { // later it is the server's will, and may always be
		p.allowed = p.open
	}
}

// admit lets the first one in that waits, if there is room. The lock is held.
func (p *pool) admit() {
	if len(p.waiting) > 0 && p.underway < p.allowed {
		p.underway++
		close(p.waiting[0])
		p.waiting = p.waiting[1:]
	}
}

// enter waits until there is a connection for one more request. When there is none in
// time, or ctx ends, the transport opens one, or says why it does not.
func (p *pool) enter(ctx context.Context) {
	p.mu.Lock()
	p.made++
	if p.made <= opening || p.underway < p.allowed {
		p.underway++
		p.mu.Unlock()
		return
	}
	turn := make(chan struct{})
	p.waiting = append(p.waiting, turn)
	p.mu.Unlock()
	timer := time.NewTimer(waitToOpen)
	defer timer.Stop()
	select {
	case <-turn:
	case <-timer.C:
		p.insist(turn)
	case <-ctx.Done():
		p.insist(turn)
	}
}

// insist goes on without waiting for the turn, unless it has just come.
func (p *pool) insist(turn chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, turn); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		p.underway++
		p.allowed = max(p.allowed, p.underway)
	}
}

func (p *pool) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.underway--
	p.admit()
}

// counted is a connection that a pool counts.
type counted struct {
	net.Conn
	closed func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.closed()
	return c.Conn.Close()
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
	answer.Body = &taken{ReadCloser: answer.Body, leave: sync.OnceFunc(c.pool.leave)}
	return answer, nil
}

// taken is a body that holds its connection until it is closed.
type taken struct {
	io.ReadCloser
	leave func()
}

// Close implements io.Closer.
func (t *taken) Close() error {
	defer t.leave()
	return t.ReadCloser.Close()
}
