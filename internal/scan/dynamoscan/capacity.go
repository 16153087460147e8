package dynamoscan

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/time/rate"
)

// capacity limits the consumed capacity units per second. The cost of a request is known only
// from its response. Therefore a request reserves its minimum cost before it is sent, and
// later requests wait until the rest of its cost is paid off.
type capacity struct {
	kind  string        // "read" or "write"
	units *rate.Limiter // nil means no limit
}

// newCapacity returns a limit of perSecond units; 0 means no limit.
func newCapacity(kind string, perSecond float64) *capacity {
	if perSecond <= 0 {
		return &capacity{kind: kind}
	}
	return &capacity{
		kind:  kind,
		units: rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond))),
	}
}

// wait reserves the minimum cost of a request and blocks until the units are available. If
// ctx ends first, the error wraps ctx.Err() and the request must not be sent.
func (c *capacity) wait(ctx context.Context, minimum int) error {
	timer := time.NewTimer(c.reserve(minimum))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %s capacity: %w", c.kind, ctx.Err())
	}
}

// charge reserves the units that a request consumed beyond the minimum that wait reserved.
func (c *capacity) charge(minimum int, consumed ...types.ConsumedCapacity) {
	var units float64
	for _, part := range consumed {
		if part.CapacityUnits != nil {
			units += *part.CapacityUnits
		}
	}
	c.reserve(int(math.Ceil(units)) - minimum)
}

// reserve reserves units, in portions of at most the burst of the limiter, and returns the
// time until the last unit is available.
func (c *capacity) reserve(units int) time.Duration {
	if c.units == nil {
		return 0
	}
	now := time.Now()
	var delay time.Duration
	for units > 0 {
		part := min(units, c.units.Burst())
		delay = c.units.ReserveN(now, part).DelayFrom(now)
		units -= part
	}
	return delay
}
