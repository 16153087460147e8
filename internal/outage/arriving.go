package outage

import (
	"context"
	"io"
	"time"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// arrivingBody is the body of a response that the SDK reads before the request ends. A service
// that sends it is not silent.
type arrivingBody struct {
	io.ReadCloser
	attempt Attempt
}

// Read implements io.Reader.
func (b *arrivingBody) Read(p []byte) (int, error) {
	b.attempt.arrived(0, true)
	n, err := b.ReadCloser.Read(p)
	b.attempt.arrived(n, false)
	return n, err
}

// arrived records the beginning of a read of the response to a request, or its end with n bytes.
// It does nothing after the end of the request.
func (a Attempt) arrived(n int, reading bool) {
	m := a.gate.monitor
	m.mu.Lock()
	notice := Notice{}
	if _, ok := a.gate.pending[a.pending]; ok {
		now := time.Now()
		a.pending.reading = reading
		a.pending.arrived = now
		if n > 0 {
			a.pending.began = now
		}
		if n > 0 && a.gate.failures == 0 {
			notice = a.gate.answered(now)
		}
	}
	m.mu.Unlock()
	if notice.Service != "" {
		m.config.Report(notice)
	}
}

// arriving reports whether the response to a request arrives. If the reader does not wait for
// bytes, the service is not the reason for a delay. It must be called with Monitor.mu held.
func (p *pending) arriving(now time.Time) bool {
	return !p.arrived.IsZero() && (!p.reading || now.Sub(p.arrived) < silentAfter)
}

type attemptKey struct{}

// arrivals returns a middleware that watches the bodies of responses as they arrive. It must be
// the last one, because others limit the length of a body and wait between two reads.
func arrivals() middleware.DeserializeMiddleware {
	return middleware.DeserializeMiddlewareFunc(middlewareID+"Arrivals",
		func(ctx context.Context, in middleware.DeserializeInput,
			next middleware.DeserializeHandler,
		) (middleware.DeserializeOutput, middleware.Metadata, error) {
			out, metadata, err := next.HandleDeserialize(ctx, in)
			attempt, ok := ctx.Value(attemptKey{}).(Attempt)
			response, _ := out.RawResponse.(*smithyhttp.Response)
			if ok && attempt.pending != nil && response != nil && response.Body != nil {
				response.Body = &arrivingBody{response.Body, attempt}
				attempt.arrived(0, false)
			}
			return out, metadata, err
		})
}
