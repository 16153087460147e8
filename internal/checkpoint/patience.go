package checkpoint

import (
	"context"
	"sync/atomic"
	"time"
)

// patience is the maximum time of an operation of a store, including the retries of its
// client. It can be changed while operations are running; these keep their limit.
type patience struct{ nanoseconds atomic.Int64 }

// SetPatience changes the maximum time of the operations that begin from now on.
func (p *patience) SetPatience(limit time.Duration) { p.nanoseconds.Store(int64(limit)) }

// limit returns the maximum time of an operation.
func (p *patience) limit() time.Duration { return time.Duration(p.nanoseconds.Load()) }

// bound returns a context for one operation.
func (p *patience) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, p.limit())
}
