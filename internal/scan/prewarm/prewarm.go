// Package prewarm opens the connections of an SDK client before they are needed.
package prewarm

import (
	"context"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	// barrierTimeout limits how long an open connection waits for the other connections.
	barrierTimeout = time.Second
	// totalTimeout limits the duration of Connections.
	totalTimeout = 5 * time.Second
)

// Connections opens count connections, which is the maximum that concurrent requests of the
// client need. Without it, the last connections are opened when all requests run concurrently
// for the first time, which can be late in a run. The connections stay open until the service
// closes them as idle.
//
// net/http opens a connection only for a request and does not reuse a connection that serves
// one. Therefore Connections calls send concurrently, once for each connection. Each call
// must send one cheap request with the given context, and waits until all calls have a
// connection. With HTTP/2 that is the same connection for all. Responses and errors are
// ignored: call Connections once, directly after a successful request, because later requests
// report the same errors. credentials is the provider of the client's credentials; it may be
// nil.
func Connections(
	ctx context.Context, count int, credentials aws.CredentialsProvider, send func(context.Context),
) {
	ctx, cancel := context.WithTimeout(ctx, totalTimeout)
	defer cancel()
	if credentials != nil {
		// First, because otherwise the trace would count connections of the provider too.
		_, _ = credentials.Retrieve(ctx)
	}
	connected := newBarrier(count)
	timer := time.AfterFunc(barrierTimeout, connected.open)
	defer timer.Stop()
	var requests sync.WaitGroup
	for range count {
		requests.Go(func() {
			arrive := sync.OnceFunc(connected.arrive)
			defer arrive() // also without a connection, for example if ctx has ended
			send(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
				GotConn: func(httptrace.GotConnInfo) {
					arrive()
					<-connected.opened
				},
			}))
		})
	}
	requests.Wait()
}

// barrier opens when all calls have arrived, or earlier if open is called.
type barrier struct {
	missing atomic.Int64
	open    func()
	opened  chan struct{}
}

func newBarrier(n int) *barrier {
	b := &barrier{opened: make(chan struct{})}
	b.open = sync.OnceFunc(func() { close(b.opened) })
	b.missing.Store(int64(n))
	return b
}

func (b *barrier) arrive() {
	if b.missing.Add(-1) == 0 {
		b.open()
	}
}
