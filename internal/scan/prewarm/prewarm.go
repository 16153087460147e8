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
	wait = time.Second
	// most bounds all of it.
	most = 5 * time.Second
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
func Connections(ctx context.Context, count int, credentials aws.CredentialsProvider, ask func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	if credentials != nil {
		_, _ = credentials.Retrieve(ctx) // now, since the trace would see its connections too
	}
	all := newMeeting(count)
	enough := time.AfterFunc(wait, all.end)
	defer enough.Stop()
	var asking sync.WaitGroup
	for range count {
		asking.Go(func() {
			arrive := sync.OnceFunc(all.arrive)
			defer arrive() // also without a connection, as when ctx has ended
			ask(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
				arrive()
				<-all.ended
			}}))
		})
	}
	asking.Wait()
}

// meeting ends when all have arrived, or before.
type meeting struct {
	missing atomic.Int64
	end     func()
	ended   chan struct{}
}

func newMeeting(of int) *meeting {
	m := &meeting{ended: make(chan struct{})}
	m.end = sync.OnceFunc(func() { close(m.ended) })
	m.missing.Store(int64(of))
	return m
}

func (m *meeting) arrive() {
	if m.missing.Add(-1) == 0 {
		m.end()
	}
}
