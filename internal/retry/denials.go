package retry

import "sync/atomic"

// DenialCounter counts denials without a success between them. It can be used concurrently.
type DenialCounter struct {
	n         atomic.Int64
	succeeded atomic.Bool
}

// Add counts a denial and returns the decision of Decide.
func (c *DenialCounter) Add(doing Operation) Decision {
	return Decide(Event{
		Operation: doing,
		Kind:      KindDenied,
		Denials:   int(c.n.Add(1)),
		Allowed:   c.succeeded.Load(),
	})
}

// Reset counts a success.
func (c *DenialCounter) Reset() {
	c.n.Store(0)
	c.succeeded.Store(true)
}
