package outage

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
)

// body is the body of an object. Each Read is watched like a request, because a server can
// become silent in the middle of a body.
type body struct {
	io.ReadCloser
	gate   *Gate
	cancel context.CancelFunc // of the request
}

// watchBody watches the body of an object in a response. cancel ends the request. It reports
// whether there is such a body, whose Close calls cancel.
func (g *Gate) watchBody(out middleware.DeserializeOutput, cancel context.CancelFunc) bool {
	object, ok := out.Result.(*s3.GetObjectOutput)
	if !ok || object.Body == nil {
		return false
	}
	object.Body = &body{object.Body, g, cancel}
	return true
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	attempt := b.gate.beginRead(b.cancel)
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, attempt.failedRead(err)
	}
	attempt.finish(Usable, nil)
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// beginRead begins a Read of a body, also during an outage.
func (g *Gate) beginRead(giveUp func()) Attempt {
	g.monitor.mu.Lock()
	defer g.monitor.mu.Unlock()
	return g.watched(time.Now(), giveUp, true)
}

// failedRead ends a Read with its error. It counts only if the Read was given up, because the
// next request finds out whether the service responds.
func (a Attempt) failedRead(err error) error {
	before, gaveUp := a.gate.givenUp(a.pending)
	if !gaveUp {
		a.finish(Nothing, err)
		return err
	}
	err = &givenUpError{err: err, before: before}
	a.finish(Unusable, err)
	return &Error{Service: a.gate.service.name, Err: err}
}
