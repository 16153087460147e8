package scan

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Room bounds the bytes of all bodies that are in memory at the same time. A source
// takes room for a body before it reads it, and whoever loaded the item gives it
// back when the outcome of the item is known.
//
// Who waits for room holds none, so one of those who do always goes on. A body
// larger than the whole room takes all of it, alone. A nil Room is without bound.
type Room struct {
	bytes int64
	free  *semaphore.Weighted
}

// NewRoom makes room for so many bytes.
func NewRoom(bytes int64) *Room { return &Room{bytes: bytes, free: semaphore.NewWeighted(bytes)} }

// Take waits for room, in turn, or until ctx ends. Give returns it; it may be called
// more than once.
func (r *Room) Take(ctx context.Context, bytes int64) (give func(), err error) {
	if r == nil {
		return func() {}, nil
	}
	bytes = min(max(bytes, 0), r.bytes)
	if err := r.free.Acquire(ctx, bytes); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { r.free.Release(bytes) }), nil
}

// TryTake is Take where there is room now, and nobody waits; else it is false.
func (r *Room) TryTake(bytes int64) (give func(), ok bool) {
	if r == nil {
		return func() {}, true
	}
	bytes = min(max(bytes, 0), r.bytes)
	if !r.free.TryAcquire(bytes) {
		return nil, false
	}
	return sync.OnceFunc(func() { r.free.Release(bytes) }), true
}
