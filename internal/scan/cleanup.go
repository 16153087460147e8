package scan

import (
	"context"
	"time"
)

const (
	cleanupTime  = 10 * time.Second
	cleanupGrace = 500 * time.Millisecond // after the context of the operation ends
)

// Cleanup returns a context for requests that clean up after an operation. It ends soon after
// ctx, so that a command that receives a stop signal exits in time. The caller must call
// release.
func Cleanup(ctx context.Context) (longer context.Context, release func()) {
	longer, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(cleanupGrace, cancel) })
	return longer, func() {
		stop()
		cancel()
	}
}
