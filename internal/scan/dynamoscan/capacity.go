package dynamoscan

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/time/rate"
)

// capacity keeps to a number of capacity units per second. What a request costs
// is known only from its answer, so a request pays the least it can cost at
// once, and the requests after it wait until the rest is paid off too.
type capacity struct {
	kind  string        // "read" or "write"
	units *rate.Limiter // nil: no limit
}

// newCapacity makes a limit of perSecond units; 0 means none.
func newCapacity(kind string, perSecond float64) *capacity {
	if perSecond <= 0 {
		return &capacity{kind: kind}
	}
	return &capacity{
		kind:  kind,
		units: rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond))),
	}
}

// wait takes the units that a request costs at least, and blocks until they are
// there. Its error wraps ctx.Err(): the request was not sent.
func (c *capacity) wait(ctx context.Context, least int) error {
	timer := time.NewTimer(c.take(least))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %s capacity: %w", c.kind, ctx.Err())
	}
}

// used books what a request consumed beyond the least that wait took.
func (c *capacity) used(least int, consumed ...types.ConsumedCapacity) {
	var units float64
	for _, part := range consumed {
		if part.CapacityUnits != nil {
			units += *part.CapacityUnits
		}
	}
	c.take(int(math.Ceil(units)) - least)
}

// take reserves units, in parts that the limiter can hold, and returns how long
// it is until the last is there.
func (c *capacity) take(units int) time.Duration {
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
