package outage

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/smithy-go/middleware"
)

// lastFailure is the last failure of the attempts of one operation.
type lastFailure struct {
	service string // "" if there is none
	err     error  // nil if there was no response
}

type lastFailureKey struct{}

// OverError is the error of an operation whose context ended during an outage.
type OverError struct {
	last lastFailure
	err  error
}

func (e *OverError) Error() string {
	return fmt.Sprintf("%s gives no usable answer: %s", e.last.service, Cause(e.last.err))
}

func (e *OverError) Unwrap() error { return e.err }

// Last returns the service and the last failure, which is nil if there was no response.
func (e *OverError) Last() (service string, err error) { return e.last.service, e.last.err }

// lastFailures returns a middleware that adds the last failure to the error of an
// operation whose context has ended.
func lastFailures() middleware.InitializeMiddleware {
	return middleware.InitializeMiddlewareFunc(middlewareID+"LastFailure",
		func(ctx context.Context, in middleware.InitializeInput,
			next middleware.InitializeHandler,
		) (middleware.InitializeOutput, middleware.Metadata, error) {
			last := &lastFailure{}
			out, metadata, err := next.HandleInitialize(
				middleware.WithStackValue(ctx, lastFailureKey{}, last), in)
			if err != nil && ctx.Err() != nil && last.service != "" {
				err = &OverError{*last, err}
			}
			return out, metadata, err
		})
}

// noteFailure records the result of an attempt to send a request to a service. An attempt that its
// caller ended is not a failure: the failure of an earlier attempt stays recorded. Without one,
// noteFailure records the failure of other requests to the service.
func (m *Monitor) noteFailure(ctx context.Context, service string, err error) {
	last, ok := middleware.GetStackValue(ctx, lastFailureKey{}).(*lastFailure)
	if !ok {
		return
	}
	var away *Error
	var held *HeldError
	switch {
	case ctx.Err() != nil && last.service != "": // the attempt was cut short
	case errors.As(err, &away):
		*last = lastFailure{away.Service, away.Err}
	case errors.As(err, &held):
		*last = lastFailure{held.Service, held.Err}
	case ctx.Err() == nil:
		*last = lastFailure{}
	default:
		*last = m.failureOf(service)
	}
}

// failureOf returns the last failure of the requests to a service, if one of its gates is closed.
func (m *Monitor) failureOf(service string) lastFailure {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, g := range m.gates {
		if key.service == service && g.opens != nil {
			return lastFailure{service, g.lastErr}
		}
	}
	return lastFailure{}
}
