package awsclient

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"time"

	"github.com/aws/smithy-go/middleware"
)

// Permits is for callers that take a permit of a rate limiter directly before each call of
// ReEncrypt. Credentials may take seconds to be renewed, and a connection to be opened. The
// permits of many requests would then be used at the same moment. A request that cannot be
// sent soon after the call therefore waits for another permit. The fields must be set before
// the first call. A zero Permits has no effect.
type Permits struct {
	// Valid is the time from the call after which another permit is needed.
	Valid time.Duration
	// Renew waits for another permit. It returns an error only if ctx ends.
	Renew func(ctx context.Context) error
}

// mostRenewals is the maximum number of times that one request waits for another permit
// because its connection was not ready. It is sent after that.
const mostRenewals = 5

// errLate is the error of a request that was not sent because its permit is not valid any
// more.
var errLate = errors.New("the permit is not valid any more")

// until returns the time until which a permit is valid that was taken at a time. It is zero
// if permits are always valid.
func (p *Permits) until(taken time.Time) time.Time {
	if p == nil || p.Renew == nil {
		return time.Time{}
	}
	return taken.Add(p.Valid)
}

// expired reports whether a permit that is valid until a time is not valid now.
func expired(until time.Time) bool { return !until.IsZero() && time.Now().After(until) }

// takenKey is the key of the time at which a call began.
type takenKey struct{}

// Install is an option of the SDK (aws.Config.APIOptions) for the ReEncrypt requests that
// the SDK sends.
func (p *Permits) Install(stack *middleware.Stack) error {
	if stack.ID() != "ReEncrypt" {
		return nil
	}
	begin := middleware.InitializeMiddlewareFunc("PermitBegin", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(middleware.WithStackValue(ctx, takenKey{}, time.Now()), in)
	})
	check := middleware.DeserializeMiddlewareFunc("PermitCheck", func(
		ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler,
	) (middleware.DeserializeOutput, middleware.Metadata, error) {
		taken, _ := middleware.GetStackValue(ctx, takenKey{}).(time.Time)
		return next.HandleDeserialize(p.traced(ctx, p.until(taken)), in)
	})
	return errors.Join(stack.Initialize.Add(begin, middleware.Before),
		stack.Deserialize.Add(check, middleware.After))
}

// traced returns a context for a request of net/http. When the request has a connection and
// its permit is not valid any more, it waits for another.
func (p *Permits) traced(ctx context.Context, until time.Time) context.Context {
	if until.IsZero() {
		return ctx
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) {
			if expired(until) {
				_ = p.Renew(ctx) // its error is the end of ctx, which net/http sees too
			}
		},
	})
}

// do sends a request that was signed, with the permit that is valid until a time. Only a
// Direct returns errLate.
func (l *light) do(f *form, r *http.Request, until time.Time) (*http.Response, error) {
	if direct, ok := f.sender.(*Direct); ok {
		return direct.send(r, until)
	}
	if !until.IsZero() {
		r = r.WithContext(l.permits.traced(r.Context(), until))
	}
	return f.sender.Do(r)
}
