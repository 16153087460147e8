package dynamoscan

import (
	"context"
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/time/rate"
)

// capacity keeps to a number of capacity units per second. What a request costs
// is known only from its answer, so a request waits until the debt of those
// before it is paid off.
type capacity struct{ units *rate.Limiter }

// newCapacity makes a limit of perSecond units; 0 means none.
func newCapacity(perSecond float64) *capacity {
	if perSecond <= 0 {
		return &capacity{}
	}
	return &capacity{units: rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond)))}
}

// wait blocks until a request may be sent.
func (c *capacity) wait(ctx context.Context) error {
	if c.units == nil {
		return nil
	}
	return c.units.Wait(ctx)
}

// used books what a request consumed.
func (c *capacity) used(consumed *types.ConsumedCapacity) {
	if c.units == nil || consumed == nil || consumed.CapacityUnits == nil {
		return
	}
	owed := int(math.Ceil(*consumed.CapacityUnits)) - 1 // one was taken by wait
	for owed > 0 {
		part := min(owed, c.units.Burst())
		c.units.ReserveN(time.Now(), part)
		owed -= part
	}
}
