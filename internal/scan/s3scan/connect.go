package s3scan

import (
	"context"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	// connectWait is how long a connection waits for the others, which are opened at the
	// same time.
	connectWait = time.Second
	// connectTime bounds all of it.
	connectTime = 5 * time.Second
)

// connect opens the connections that the workers and the listing can need at once, to
// begin with. Else the last of them is opened when all want one at once for the first
// time, which can be late in a run. They are there as long as neither side closes them
// for being idle.
//
// net/http opens connections for requests alone, and gives none away that has a request.
// So each of these listings of one key, once in the life of a Bucket and right behind a
// listing that was answered, waits until all of them have a connection; over HTTP/2 that
// is the same one. What is answered is no matter: the requests behind it say it again.
func (b *Bucket) connect(ctx context.Context, prefix, behind string) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	if credentials := b.config.Client.Options().Credentials; credentials != nil {
		_, _ = credentials.Retrieve(ctx) // now, since the trace would see its connections too
	}
	all := newMeeting(b.config.Workers + 1)
	enough := time.AfterFunc(connectWait, all.end)
	defer enough.Stop()
	in := &s3.ListObjectsV2Input{Bucket: &b.config.Bucket, Prefix: &prefix, StartAfter: &behind, MaxKeys: aws.Int32(1)}
	var asking sync.WaitGroup
	for range b.config.Workers + 1 {
		asking.Go(func() {
			arrive := sync.OnceFunc(all.arrive)
			defer arrive() // also without a connection, as when ctx has ended
			trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
				arrive()
				<-all.ended
			}}
			_, _ = b.config.Client.ListObjectsV2(httptrace.WithClientTrace(ctx, trace), in)
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
