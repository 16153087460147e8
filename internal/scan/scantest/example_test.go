package scantest_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"rotator/internal/scan"
	"rotator/internal/scan/scantest"
)

// slot is the attribute that holds the ciphertext.
const slot = "slot"

// memorySource is a source whose store is a map from Ref to row. It has one partition and
// pages of two rows. It is an example of the least that a source must implement.
type memorySource struct {
	mu   sync.Mutex
	rows map[scan.Ref]scan.Row
}

func (s *memorySource) Check(context.Context) error { return nil }

func (s *memorySource) Partitions(context.Context) ([]scan.Partition, error) {
	return []scan.Partition{{Name: "all rows", Spec: []byte("{}")}}, nil
}

// Page returns the two rows after the cursor, which is the Ref of the last row before.
func (s *memorySource) Page(
	_ context.Context, _ scan.Partition, cursor scan.Cursor,
) (scan.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var page scan.Page
	for _, ref := range slices.Sorted(maps.Keys(s.rows)) {
		if string(ref) <= string(cursor) {
			continue
		}
		if len(page.Items) == 2 {
			page.Next = scan.Cursor(page.Items[1].Ref)
			return page, nil
		}
		row := s.rows[ref]
		page.Items = append(page.Items, scan.Item{Ref: ref, Payload: &row})
	}
	page.Last = true
	return page, nil
}

func (s *memorySource) Load(_ context.Context, ref scan.Ref) (scan.Item, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row, ok := s.rows[ref]
	if !ok {
		return scan.Item{}, scan.ErrGone
	}
	return scan.Item{Ref: ref, Payload: &row}, nil
}

func (s *memorySource) Batch() int { return 2 }

// Replace writes a row only if it still holds the slot that was read. It replaces only the
// slot, so that concurrent changes of other attributes are preserved.
func (s *memorySource) Replace(_ context.Context, changes []scan.Change) []scan.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	results := make([]scan.Result, len(changes))
	for i, change := range changes {
		row, ok := s.rows[change.Item.Ref]
		switch {
		case !ok:
			results[i].Err = scan.ErrGone
		case !slices.Equal(slotOf(&row), slotOf(change.Item.Payload)):
			results[i].Err = scan.ErrChanged
		default:
			s.rows[change.Item.Ref] = *withSlot(&row, slotOf(change.New))
		}
	}
	return results
}

func slotOf(p scan.Payload) []byte { return p.(*scan.Row).Attributes[slot].Bytes }

func withSlot(p scan.Payload, value []byte) *scan.Row {
	attributes := maps.Clone(p.(*scan.Row).Attributes)
	attributes[slot] = scan.Value{Kind: scan.KindB, Bytes: value}
	return &scan.Row{Attributes: attributes}
}

// set stores a row with a slot and one other attribute.
func (s *memorySource) set(ref scan.Ref, value, owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := &scan.Row{Attributes: map[string]scan.Value{
		"owner": {Kind: scan.KindS, Text: owner},
	}}
	s.rows[ref] = *withSlot(row, []byte(value))
}

// rest describes everything in a row except the slot.
func (s *memorySource) rest(ref scan.Ref) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if row, ok := s.rows[ref]; ok {
		return "owner: " + row.Attributes["owner"].Text
	}
	return ""
}

// newSubject returns a source with an empty store, and functions that access the store
// directly. A source that sends requests also sets Faults, Reads, Writes and
// CheckPrecondition.
func newSubject(*testing.T) scantest.Subject {
	s := &memorySource{rows: map[scan.Ref]scan.Row{}}
	return scantest.Subject{
		Source: s,
		Put: func(n int) scan.Ref {
			ref := scan.Ref(fmt.Sprintf("row %03d", n))
			s.set(ref, fmt.Sprint("value ", n), "alice")
			return ref
		},
		Rewrite: func(ref scan.Ref) { s.set(ref, "value of another writer", "alice") },
		Touch: func(ref scan.Ref) {
			s.mu.Lock()
			defer s.mu.Unlock()
			row := withSlot(&scan.Row{Attributes: s.rows[ref].Attributes},
				s.rows[ref].Attributes[slot].Bytes)
			row.Attributes["owner"] = scan.Value{Kind: scan.KindS, Text: "bob"}
			s.rows[ref] = *row
		},
		Delete: func(ref scan.Ref) {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.rows, ref)
		},
		Rest:   s.rest,
		Slot:   slotOf,
		Splice: func(p scan.Payload, value []byte) scan.Payload { return withSlot(p, value) },
	}
}

// TestMemorySource is how a test of a source runs the suite.
func TestMemorySource(t *testing.T) { scantest.Run(t, newSubject) }

// A source writes a change only if the store still holds what was read. TestMemorySource
// checks this and the other requirements.
func ExampleRun() {
	ctx := context.Background()
	subject := newSubject(nil)
	ref := subject.Put(1)
	item, err := subject.Source.Load(ctx, ref)
	if err != nil {
		fmt.Println(err)
		return
	}
	change := scan.Change{Item: item, New: subject.Splice(item.Payload, []byte("new value"))}
	fmt.Println(subject.Source.Replace(ctx, []scan.Change{change})[0].Err)
	fmt.Println(subject.Source.Replace(ctx, []scan.Change{change})[0].Err) // the item is stale now
	// Output:
	// <nil>
	// the item changed after it was read
}
