package scan

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// MemoryBudget limits the total size of the bodies in memory. A source acquires budget for
// a body before it reads it. The caller that loaded the item releases the budget when the
// outcome of the item is known.
//
// A caller must not hold budget while it waits in Acquire. Then the waiting calls cannot
// block each other forever. A body larger than the whole budget takes all of it. A nil
// MemoryBudget has no limit. It is safe for concurrent use.
type MemoryBudget struct {
	bytes int64
	free  *semaphore.Weighted
}

// NewMemoryBudget returns a budget of the given number of bytes.
func NewMemoryBudget(bytes int64) *MemoryBudget {
	return &MemoryBudget{bytes: bytes, free: semaphore.NewWeighted(bytes)}
}

// Acquire blocks until the budget is available or ctx ends. Waiting calls are served in
// order. The caller must call release when the body is no longer needed; further calls of
// release have no effect.
func (m *MemoryBudget) Acquire(ctx context.Context, bytes int64) (release func(), err error) {
	if m == nil {
		return func() {}, nil
	}
	bytes = min(max(bytes, 0), m.bytes)
	if err := m.free.Acquire(ctx, bytes); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { m.free.Release(bytes) }), nil
}

// TryAcquire is Acquire without waiting. It returns false if the budget is not available
// or if another call is waiting for it.
func (m *MemoryBudget) TryAcquire(bytes int64) (release func(), ok bool) {
	if m == nil {
		return func() {}, true
	}
	bytes = min(max(bytes, 0), m.bytes)
	if !m.free.TryAcquire(bytes) {
		return nil, false
	}
	return sync.OnceFunc(func() { m.free.Release(bytes) }), true
}
