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
	// wait is how long a connection waits for the others, which are opened at the same
	// time.
	barrierTimeout = time.Second
	// most bounds all of it.
	totalTimeout = 5 * time.Second
)

// Connections opens the connections of a client that so many requests can need at once. Else
// the last of them is opened when all want one at once for the first time, which can be
// late in a run. They are there as long as the service does not close them for being idle.
//
// net/http opens connections for requests alone, and gives none away that has a request.
// So each call of ask, which makes one cheap request that takes its context, waits until
// all of them have a connection; over HTTP/2 that is the same one. What is answered is no
// matter: call Connections once, right behind a request that was answered, and the requests
// behind it say it again. The provider is of the client's credentials, nil for none.
func Connections(
	ctx context.Context, count int, credentials aws.CredentialsProvider, send func(context.Context),
) {
	ctx, cancel := context.WithTimeout(ctx, totalTimeout)
	defer cancel()
	if credentials != nil {
		_, _ = credentials.Retrieve(ctx) // now, since the trace would see its connections too
	}
	connected := newBarrier(count)
	timer := time.AfterFunc(barrierTimeout, connected.open)
	defer timer.Stop()
	var requests sync.WaitGroup
	for range count {
		requests.Go(func() {
			arrive := sync.OnceFunc(connected.arrive)
			defer arrive() // also without a connection, as when ctx has ended
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

// meeting ends when all have arrived, or before.
type barrier struct {
	missing atomic.Int64
	open    func()
	opened  chan struct{}
}

func newBarrier(of int) *barrier {
	m := &barrier{opened: make(chan struct{})}
	m.open = sync.OnceFunc(func() { close(m.opened) })
	m.missing.Store(int64(of))
	return m
}

func (m *barrier) arrive() {
	if m.missing.Add(-1) == 0 {
		m.open()
	}
}
