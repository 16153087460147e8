// Package scantest is the conformance suite for sources. It checks what the engine requires
// of a source that reads and rewrites the items of a store. Use it in tests only.
//
// A new source must implement Source. Its test calls Run with a function that returns a
// Subject: the source on an empty store, and functions that access this store directly. The
// example of this package runs the suite on a source in memory.
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

// Source is the interface that a source must implement. All methods must be safe for
// concurrent use.
//
// Check reports, without writing, whether the target can be used; it returns a
// *scan.MissingError if it does not exist. Partitions divides the target into units that can
// be scanned independently. Page reads one page of a partition. The concatenation of all
// pages contains each item exactly once, from any cursor that the source returned before,
// also in another process. Load reads one item, or returns scan.ErrGone. Batch returns the
// maximum number of changes of one Replace. Replace writes the changes and returns one result
// for each, in order. It must write a change only if the store still holds what was read.
type Source interface {
	Check(ctx context.Context) error
	Partitions(ctx context.Context) ([]scan.Partition, error)
	Page(ctx context.Context, p scan.Partition, cursor scan.Cursor) (scan.Page, error)
	Load(ctx context.Context, ref scan.Ref) (scan.Item, error)
	Batch() int
	Replace(ctx context.Context, changes []scan.Change) []scan.Result
}

// Subject is a source on an empty store, and what the suite needs to access that store. Its
// functions access the store without the source and without injected faults. They fail the
// test themselves.
type Subject struct {
	Source Source
	// Faults injects faults between the source and the store. It is nil if the source sends
	// no requests, for example because it uses system calls. In that case Run skips the cases
	// about requests, and the source must test the same properties by other means.
	Faults *fault.Injector
	// Reads lists the operations by which the source reads, Writes those by which it changes
	// items. Auxiliary lists operations before or after a write that change nothing visible
	// to readers. The source must not use any other operation.
	Reads, Writes, Auxiliary []string
	// LastWriterWins is true if the condition of a write covers only what surrounds the slot
	// and what was read just before the write. Of several concurrent writers, more than one
	// may succeed, and the last one wins.
	LastWriterWins bool
	// CheckPrecondition returns an error if a write request lacks a precondition. It is nil
	// if Writes is empty.
	CheckPrecondition func(r *http.Request, body []byte) error

	// Put stores an item that contains a slot and other data, and returns its address. Each n
	// is a different item.
	Put func(n int) scan.Ref
	// Rewrite replaces the value in the slot, like another writer. Touch changes data that
	// the source must preserve. Delete deletes the item.
	Rewrite, Touch, Delete func(ref scan.Ref)
	// Rest describes everything that the store holds of the item except the slot, in any text
	// format. It returns "" if the item does not exist.
	Rest func(ref scan.Ref) string
	// Slot returns the value of the slot in a payload. Splice returns a copy of the payload
	// with a new value in the slot.
	Slot   func(p scan.Payload) []byte
	Splice func(p scan.Payload, value []byte) scan.Payload
}

// suite is the state of one test case.
type suite struct {
	Subject
	t *testing.T
}

// Run runs the suite. Each case calls subject for a new Subject. A page of its source must
// hold fewer than 97 items; otherwise resuming from a cursor is not tested.
func Run(t *testing.T, subject func(t *testing.T) Subject) {
	for _, c := range []struct {
		name string
		run  func(*suite)
	}{
		{"every item is listed once, from every cursor", (*suite).everyItemOnce},
		{"load returns what the page returned", (*suite).loadMatchesPage},
		{"reading sends no write", (*suite).readingWritesNothing},
		{"replace changes only the slot", (*suite).replaceChangesOnlyTheSlot},
		{"every write has a precondition", (*suite).writesHavePreconditions},
		{"a stale item is not written", (*suite).staleIsNotWritten},
		{"concurrent changes outside the slot are preserved", (*suite).touchedIsPreserved},
		{"a deleted item is not created again", (*suite).deletedStaysDeleted},
		{"one of several concurrent writers wins", (*suite).oneWriterWins},
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

// skipWithoutRequests skips the case if the source sends no requests.
func (s *suite) skipWithoutRequests() {
	if s.Faults == nil {
		s.t.Skip("the source sends no requests")
	}
}

func (s *suite) load(ref scan.Ref) scan.Item {
	s.t.Helper()
	item, err := s.Source.Load(s.t.Context(), ref)
	if err != nil {
		s.t.Fatalf("load %s: %v", ref, err)
	}
	if item.Ref != ref {
		s.t.Fatalf("load %s returned item %s", ref, item.Ref)
	}
	return item
}

// wantSlot fails the test unless the slot of the item holds the value.
func (s *suite) wantSlot(ref scan.Ref, want []byte) {
	s.t.Helper()
	if got := s.Slot(s.load(ref).Payload); !bytes.Equal(got, want) {
		s.t.Errorf("the slot of %s holds %q, want %q", ref, got, want)
	}
}

// change returns a change that stores value in the slot of the item.
func (s *suite) change(item scan.Item, value string) scan.Change {
	return scan.Change{Item: item, New: s.Splice(item.Payload, []byte(value))}
}

// replace writes the changes in batches of the maximum size.
func (s *suite) replace(changes ...scan.Change) []scan.Result {
	s.t.Helper()
	var results []scan.Result
	for batch := range slices.Chunk(changes, s.Source.Batch()) {
		got := s.Source.Replace(s.t.Context(), batch)
		if len(got) != len(batch) {
			s.t.Fatalf("%d results for %d changes", len(got), len(batch))
		}
		results = append(results, got...)
	}
	return results
}

// walk reads a partition from the cursor to its end. It returns the refs in order, and the
// cursor of each page by the number of refs before that page. Like another process, it uses
// only the serialized partition and cursor.
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
	s.t.Fatalf("partition %s has more than 1,000 pages", p.Name)
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

// rests returns the Rest of each item.
func (s *suite) rests(items []scan.Item) []string {
	rests := make([]string, len(items))
	for i, item := range items {
		if rests[i] = s.Rest(item.Ref); rests[i] == "" {
			s.t.Fatalf("item %s does not exist", item.Ref)
		}
	}
	return rests
}

// watch checks the requests that write. The function it returns reports their number and the
// errors of CheckPrecondition.
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
