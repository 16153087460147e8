package checkpoint

import (
	"context"
	"slices"
	"strconv"
	"sync"
)

// Memory is a Store in the memory of the process, for read-only passes and tests. Its
// records are lost when the process ends.
type Memory struct {
	mu      sync.Mutex
	records map[string]Entry
	writes  int
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty Memory.
func NewMemory() *Memory { return &Memory{records: map[string]Entry{}} }

// Fetch implements Store.
func (m *Memory) Fetch(_ context.Context, id string) (Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.records[id]
	if !ok {
		return Entry{}, ErrNotFound
	}
	e.Data = slices.Clone(e.Data)
	return e, nil
}

// Create implements Store.
func (m *Memory) Create(_ context.Context, id string, data []byte) (Entry, error) {
	if err := checkSize(id, data); err != nil {
		return Entry{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now, ok := m.records[id]; ok {
		return Entry{}, &conflictError{now}
	}
	return m.put(id, data), nil
}

// Replace implements Store.
func (m *Memory) Replace(_ context.Context, e Entry, data []byte) (Entry, error) {
	if err := checkSize(e.ID, data); err != nil {
		return Entry{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := m.records[e.ID]; now.version != e.version {
		return Entry{}, &conflictError{now}
	}
	return m.put(e.ID, data), nil
}

func (m *Memory) put(id string, data []byte) Entry {
	m.writes++
	m.records[id] = Entry{ID: id, Data: slices.Clone(data), version: strconv.Itoa(m.writes)}
	return Entry{ID: id, Data: slices.Clone(data), version: strconv.Itoa(m.writes)}
}
