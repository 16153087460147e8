package reencrypt

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
)

// The memory of the answer cache: about 18,000 blobs of 200 bytes.
const (
	cacheSize    = 8 << 20 // bytes
	cachePerSlot = 256     // approximate bytes of an entry in addition to its blob
	// cacheSizeUnused is the size while no answer of a full cache was used.
	cacheSizeUnused = 1 << 20
)

// answerCache is the layer that asks KMS once about slots with the same blob and the same
// encryption contexts, such as a data key that is stored with every record it encrypts. Its
// answers are answers of KMS in this process. It keeps those that were used last.
type answerCache struct {
	next   Decider
	served atomic.Int64 // slots without a request

	mu      sync.Mutex
	bytes   int
	most    int                      // in bytes
	known   map[SlotID]*list.Element // of *cachedAnswer
	recent  *list.List               // the last used in front
	flights map[SlotID]*flight
}

var _ Decider = (*answerCache)(nil)

type cachedAnswer struct {
	SlotID
	Verdict
}

func (c *cachedAnswer) size() int { return len(c.Blob) + cachePerSlot }

// flight is a request in progress.
type flight struct {
	done    chan struct{}
	verdict Verdict
	lasting bool // the verdict holds for other slots
}

func newAnswerCache(next Decider) *answerCache {
	return &answerCache{
		next:    next,
		most:    cacheSize,
		known:   map[SlotID]*list.Element{},
		recent:  list.New(),
		flights: map[SlotID]*flight{},
	}
}

// Decide returns the answer for another slot with the same SlotID, or that of the next layer.
func (c *answerCache) Decide(ctx context.Context, s Subject) (Verdict, error) {
	if s.slot.Refused != nil || s.ownRequest {
		return c.next.Decide(ctx, s)
	}
	c.mu.Lock()
	if at, ok := c.known[s.id]; ok {
		c.recent.MoveToFront(at)
		c.most = cacheSize
		v := at.Value.(*cachedAnswer).Verdict
		c.mu.Unlock()
		c.served.Add(1)
		return v, nil
	}
	f, ok := c.flights[s.id]
	if !ok {
		f = &flight{done: make(chan struct{})}
		c.flights[s.id] = f
		c.mu.Unlock()
		return c.fly(ctx, s, f)
	}
	c.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return Verdict{}, ctx.Err()
	}
	if !f.lasting {
		return c.next.Decide(ctx, s)
	}
	c.served.Add(1)
	return f.verdict, nil
}

// fly asks for all callers that wait. Failures are not shared: they can pass, or belong to this
// caller alone.
func (c *answerCache) fly(ctx context.Context, s Subject, f *flight) (Verdict, error) {
	v, err := c.next.Decide(ctx, s)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.flights, s.id)
	if f.lasting = err == nil && v.Outcome != Failed && v.Key != ""; f.lasting {
		f.verdict = v
		c.remember(&cachedAnswer{s.id, v})
	}
	close(f.done)
	return v, err
}

// remember must be called with mu held.
func (c *answerCache) remember(a *cachedAnswer) {
	c.known[a.SlotID] = c.recent.PushFront(a)
	c.bytes += a.size()
	if c.bytes > c.most && c.served.Load() == 0 {
		c.most = cacheSizeUnused
	}
	for c.bytes > c.most {
		last := c.recent.Remove(c.recent.Back()).(*cachedAnswer)
		delete(c.known, last.SlotID)
		c.bytes -= last.size()
	}
}
