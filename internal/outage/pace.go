package outage

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/smithy-go/middleware"
)

const (
	// pacedAfter is the number of consecutive failures after which requests for credentials
	// are paced. It is at least the number of attempts of one call.
	pacedAfter = 3
	// pacedInterval is less than interval, because the gate for credentials lets one call
	// through in each interval.
	pacedInterval = interval - interval/10
)

// pace limits the requests to one credential server during an outage, because the clients of
// the SDK make several attempts for one call. It is guarded by Monitor.mu.
type pace struct {
	failures int
	next     time.Time
	last     error
}

// pacedError is the error of an attempt that was not made.
type pacedError struct {
	host string
	err  error // of the last attempt
}

func (e *pacedError) Error() string {
	return fmt.Sprintf("%s gives no usable answer: %s", e.host, Cause(e.err))
}

func (e *pacedError) Unwrap() error { return e.err }

// RetryableError implements the interface of the SDK.
func (e *pacedError) RetryableError() bool { return false }

// paced sends a request to a credential server.
func (m *Monitor) paced(
	ctx context.Context, in middleware.DeserializeInput,
	next middleware.DeserializeHandler, host string,
) (out middleware.DeserializeOutput, metadata middleware.Metadata, err error) {
	if err := m.mayPass(host); err != nil {
		return out, metadata, err
	}
	out, metadata, err = next.HandleDeserialize(ctx, in)
	m.passed(host, err)
	return out, metadata, err
}

func (m *Monitor) mayPass(host string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.paces[host]
	if p == nil {
		p = &pace{}
		m.paces[host] = p
	}
	if p.failures < pacedAfter {
		return nil
	}
	now := time.Now()
	if now.Before(p.next) {
		return &pacedError{host, p.last}
	}
	p.next = now.Add(pacedInterval)
	return nil
}

func (m *Monitor) passed(host string, err error) {
	verdict := m.config.Judge(err)
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.paces[host]
	switch verdict {
	case Usable:
		*p = pace{}
	case Unusable, Throttled:
		p.last = err
		if p.failures++; p.failures == pacedAfter {
			p.next = time.Now().Add(pacedInterval)
		}
	}
}
