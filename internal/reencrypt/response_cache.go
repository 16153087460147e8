package reencrypt

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
)

// The memory of the response cache: about 18,000 blobs of 200 bytes.
const (
	cacheSize    = 8 << 20 // bytes
	cachePerSlot = 256     // approximate bytes of an entry in addition to its blob
	// cacheSizeUnused is the size while no response of a full cache was used.
	cacheSizeUnused = 1 << 20
)

// responseCache is the layer that sends one request for all slots with the same blob and the same
// encryption contexts, such as a data key that is stored with every record it encrypts. It stores
// only verdicts that KMS gave in this process, and keeps the most recently used ones.
type responseCache struct {
	next   Decider
	served atomic.Int64 // slots without a request

	mu       sync.Mutex
	bytes    int
	maxBytes int                      // in bytes
	known    map[SlotID]*list.Element // of *cachedResponse
	recent   *list.List               // the most recently used in front
	calls    map[SlotID]*call
}

var _ Decider = (*responseCache)(nil)

type cachedResponse struct {
	SlotID
	Verdict
}

func (c *cachedResponse) size() int { return len(c.Blob) + cachePerSlot }

// call is a request in progress, for which callers can wait.
type call struct {
	done      chan struct{}
	verdict   Verdict
	shareable bool // the verdict is valid for other slots
}

func newResponseCache(next Decider) *responseCache {
	return &responseCache{
		next:     next,
		maxBytes: cacheSize,
		known:    map[SlotID]*list.Element{},
		recent:   list.New(),
		calls:    map[SlotID]*call{},
	}
}

// Decide returns the verdict on another slot with the same SlotID, or that of the next layer.
func (c *responseCache) Decide(ctx context.Context, s Subject) (Verdict, error) {
	if s.slot.Refused != nil || s.ownRequest {
		return c.next.Decide(ctx, s)
	}
	c.mu.Lock()
	if at, ok := c.known[s.id]; ok {
		c.recent.MoveToFront(at)
		c.maxBytes = cacheSize
		v := at.Value.(*cachedResponse).Verdict
		c.mu.Unlock()
		c.served.Add(1)
		return v, nil
	}
	f, ok := c.calls[s.id]
	if !ok {
		f = &call{done: make(chan struct{})}
		c.calls[s.id] = f
		c.mu.Unlock()
		return c.askOnce(ctx, s, f)
	}
	c.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return Verdict{}, ctx.Err()
	}
	if !f.shareable {
		return c.next.Decide(ctx, s)
	}
	c.served.Add(1)
	return f.verdict, nil
}

// askOnce asks the next layer for all callers that wait. Failures are not shared: they can be
// temporary, or concern only this caller.
func (c *responseCache) askOnce(ctx context.Context, s Subject, f *call) (Verdict, error) {
	v, err := c.next.Decide(ctx, s)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, s.id)
	if f.shareable = err == nil && v.Outcome != Failed && v.Key != ""; f.shareable {
		f.verdict = v
		c.remember(&cachedResponse{s.id, v})
	}
	close(f.done)
	return v, err
}

// remember stores a verdict. It must be called with mu held.
func (c *responseCache) remember(a *cachedResponse) {
	c.known[a.SlotID] = c.recent.PushFront(a)
	c.bytes += a.size()
	if c.bytes > c.maxBytes && c.served.Load() == 0 {
		c.maxBytes = cacheSizeUnused
	}
	for c.bytes > c.maxBytes {
		last := c.recent.Remove(c.recent.Back()).(*cachedResponse)
		delete(c.known, last.SlotID)
		c.bytes -= last.size()
	}
}
