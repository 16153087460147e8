package fastkms

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"time"

	"github.com/aws/smithy-go/middleware"
)

// Permits is for callers that take a permit from a rate limiter directly before each call of
// ReEncrypt. Renewing credentials or opening a connection can take seconds, after which many
// requests would be sent in a burst. A request that cannot be sent soon after the call
// therefore waits for another permit. The fields must be set before the first call. The zero
// value has no effect.
type Permits struct {
	// Valid is the time from the call after which another permit is needed.
	Valid time.Duration
	// Renew waits for another permit. It returns an error only if ctx ends.
	Renew func(ctx context.Context) error
}

// maxRenewals is the maximum number of times that one request waits for another permit
// because its connection was not ready. After that it is sent without another permit.
const maxRenewals = 5

// errLate is the error of a request that was not sent because its permit has expired.
var errLate = errors.New("the permit has expired")

// until returns the time at which a permit expires that was taken at the given time. It is
// zero if permits do not expire.
func (p *Permits) until(taken time.Time) time.Time {
	if p == nil || p.Renew == nil {
		return time.Time{}
	}
	return taken.Add(p.Valid)
}

// expired reports whether the time until which a permit is valid has passed.
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

// traced returns a context for a request of net/http. If the permit has expired when the
// request gets a connection, the request waits for another permit.
func (p *Permits) traced(ctx context.Context, until time.Time) context.Context {
	if until.IsZero() {
		return ctx
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) {
			if expired(until) {
				_ = p.Renew(ctx) // fails only if ctx ends, and then net/http fails too
			}
		},
	})
}

// do sends a signed request, with a permit that is valid until the given time. Only a Direct
// returns errLate.
func (l *fastSender) do(
	f *requestTemplate, r *http.Request, until time.Time,
) (*http.Response, error) {
	if direct, ok := f.sender.(*Direct); ok {
		return direct.send(r, until)
	}
	if !until.IsZero() {
		r = r.WithContext(l.permits.traced(r.Context(), until))
	}
	return f.sender.Do(r)
}
