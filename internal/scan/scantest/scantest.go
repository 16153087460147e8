// Package scantest is the conformance suite of sources: what the engine relies on
// when it reads and rewrites items, tried on a source with a store behind it. It
// is for tests alone.
package scantest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"

	"rotator/internal/fakeaws/fault"
	"rotator/internal/scan"
)

// Source is what the suite tries, as the engine sees it.
type Source interface {
	Check(ctx context.Context) error
	Partitions(ctx context.Context) ([]scan.Partition, error)
	Page(ctx context.Context, p scan.Partition, cursor scan.Cursor) (scan.Page, error)
	Load(ctx context.Context, ref scan.Ref) (scan.Item, error)
	Batch() int
	Replace(ctx context.Context, changes []scan.Change) []scan.Result
}

// Subject is a source over an empty store of its own, and what else the suite
// needs to do to that store. The functions go to the store without the source and
// without the faults, and fail the test themselves.
type Subject struct {
	Source Source
	// Faults stands between the source and the store; nil for a store that is
	// asked by system calls. The cases about requests are left out then, and the
	// source tries the same by other means.
	Faults *fault.Injector
	// Reads are all operations by which the source reads, Writes those by which it
	// changes items, and Prepares those that come before or after a write and change
	// nothing that anybody sees; it has no others.
	Reads, Writes, Auxiliary []string
	// Unfenced says that no condition of the store covers the slot, only the rest
	// of the item and what was read right before: of writers that look in the same
	// moment several may succeed, and the last one stays.
	LastWriterWins bool
	// Conditional says what is wrong with a request that writes; nil when it
	// can only replace what was read.
	CheckPrecondition func(r *http.Request, body []byte) error

	// Put stores an item with Slot in it and much else around, and returns its
	// address. Different n are different items.
	Put func(n int) scan.Ref
	// Rewrite puts another value into the slot, as a foreign writer does. Touch
	// changes something else that the source has to keep. Delete deletes.
	Rewrite, Touch, Delete func(ref scan.Ref)
	// Rest describes all that the store holds of the item beside the slot, in
	// some text; "" when there is no item.
	Rest func(ref scan.Ref) string
	// Slot reads the slot of a payload; Splice returns the payload with another
	// value in it.
	Slot   func(p scan.Payload) []byte
	Splice func(p scan.Payload, value []byte) scan.Payload
}

// suite is a subject in a test.
type suite struct {
	Subject
	t *testing.T
}

// Run runs the suite. Each case gets a subject of its own; its pages must hold
// fewer than 40 items each.
func Run(t *testing.T, subject func(t *testing.T) Subject) {
	for _, c := range []struct {
		name string
		run  func(*suite)
	}{
		{"every item once, from every cursor", (*suite).everyItemOnce},
		{"load gives what the page gave", (*suite).loadGivesThePage},
		{"reading sends no write", (*suite).readingReads},
		{"replace changes the slot alone", (*suite).replaceChangesTheSlotAlone},
		{"every write has a precondition", (*suite).writesHavePreconditions},
		{"a stale item is refused", (*suite).staleIsRefused},
		{"what others change beside the slot stays", (*suite).touchedStays},
		{"a deleted item is not made again", (*suite).deletedStaysDeleted},
		{"one of many concurrent writers wins", (*suite).oneWriterWins},
		{"faults", (*suite).faults},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(&suite{Subject: subject(t), t: t}) })
	}
}

// items stores n items and loads them.
func (s *suite) items(n int) []scan.Item {
	s.t.Helper()
	items := make([]scan.Item, n)
	for i := range items {
		items[i] = s.load(s.Put(i))
	}
	return items
}

// needRequests leaves a case out for a store that gets none.
func (s *suite) skipWithoutRequests() {
	if s.Faults == nil {
		s.t.Skip("this store gets no requests")
	}
}

func (s *suite) load(ref scan.Ref) scan.Item {
	s.t.Helper()
	item, err := s.Source.Load(s.t.Context(), ref)
	if err != nil {
		s.t.Fatalf("load %s: %v", ref, err)
	}
	if item.Ref != ref {
		s.t.Fatalf("load %s gave the item %s", ref, item.Ref)
	}
	return item
}

// holds fails unless the slot of an item has a value.
func (s *suite) wantSlot(ref scan.Ref, want []byte) {
	s.t.Helper()
	if got := s.Slot(s.load(ref).Payload); !bytes.Equal(got, want) {
		s.t.Errorf("the slot of %s holds %q, want %q", ref, got, want)
	}
}

// change asks for a value that is new and says of which item.
func (s *suite) change(item scan.Item, value string) scan.Change {
	return scan.Change{Item: item, New: s.Splice(item.Payload, []byte(value))}
}

// replace writes changes, as many at a time as the source takes.
func (s *suite) replace(changes ...scan.Change) []scan.Result {
	s.t.Helper()
	var results []scan.Result
	for batch := range slices.Chunk(changes, s.Source.Batch()) {
		got := s.Source.Replace(s.t.Context(), batch)
		if len(got) != len(batch) {
			s.t.Fatalf("%d results of %d changes", len(got), len(batch))
		}
		results = append(results, got...)
	}
	return results
}

// walk reads a partition from a cursor to its end, and returns its refs, and the
// cursors of its pages with how many refs come before each. It goes on as another
// process would, with the texts of partition and cursor alone.
func (s *suite) walk(
	p scan.Partition, cursor scan.Cursor,
) (refs []scan.Ref, cursors map[int]scan.Cursor) {
	s.t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		s.t.Fatal(err)
	}
	cursors = map[int]scan.Cursor{}
	for range 1000 {
		var stored scan.Partition
		if err := json.Unmarshal(text, &stored); err != nil {
			s.t.Fatal(err)
		}
		page, err := s.Source.Page(s.t.Context(), stored, cursor)
		if err != nil {
			s.t.Fatalf("page of %s at %q: %v", p.Name, cursor, err)
		}
		for _, item := range page.Items {
			refs = append(refs, item.Ref)
		}
		if page.Last {
			return refs, cursors
		}
		cursor = bytes.Clone(page.Next)
		cursors[len(refs)] = cursor
	}
	s.t.Fatalf("%s has no end", p.Name)
	return nil, nil
}

func (s *suite) partitions() []scan.Partition {
	s.t.Helper()
	partitions, err := s.Source.Partitions(s.t.Context())
	if err != nil || len(partitions) == 0 {
		s.t.Fatalf("partitions: %d, %v", len(partitions), err)
	}
	return partitions
}

// rests describes what stands beside the slots of items.
func (s *suite) rests(items []scan.Item) []string {
	rests := make([]string, len(items))
	for i, item := range items {
		if rests[i] = s.Rest(item.Ref); rests[i] == "" {
			s.t.Fatalf("there is no item %s", item.Ref)
		}
	}
	return rests
}

// watch gathers what was wrong with the requests that write, and counts them.
func (s *suite) watch() (seen func() (int, []error)) {
	var mu sync.Mutex
	var count int
	var wrong []error
	for _, operation := range s.Writes {
		s.Faults.Set(operation, fault.Fault{Before: func(r *http.Request, body []byte) {
			err := s.CheckPrecondition(r, body)
			mu.Lock()
			defer mu.Unlock()
			count++
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %w", operation, err))
			}
		}})
	}
	return func() (int, []error) {
		mu.Lock()
		defer mu.Unlock()
		return count, wrong
	}
}
