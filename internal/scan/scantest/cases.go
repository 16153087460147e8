package scantest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/fakeaws/fault"
	"rotator/internal/scan"
)

// many is more than the number of items that fit in one page.
const many = 97

func (s *suite) everyItemOnce() {
	var want []scan.Ref
	for n := range many {
		want = append(want, s.Put(n))
	}
	var got []scan.Ref
	pages := 0
	for _, p := range s.partitions() {
		refs, cursors := s.walk(p, nil)
		got = append(got, refs...)
		for before, cursor := range cursors {
			pages++
			if rest, _ := s.walk(p, cursor); !slices.Equal(rest, refs[before:]) {
				s.t.Errorf("%s from cursor %q: %d items, want %d", p.Name, cursor,
					len(rest), len(refs)-before)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("stored items (-) and listed items (+):\n%s", diff)
	}
	if pages == 0 {
		s.t.Error("there was only one page, so no cursor was tested")
	}
}

func (s *suite) loadMatchesPage() {
	const n = 9
	for i := range n {
		s.Put(i)
	}
	seen := 0
	for _, p := range s.partitions() {
		page, err := s.Source.Page(s.t.Context(), p, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, item := range page.Items {
			seen++
			loaded := s.load(item.Ref)
			if item.Payload == nil {
				continue // the page lists items without reading them
			}
			if diff := cmp.Diff(item.Payload, loaded.Payload); diff != "" {
				s.t.Errorf("%s as listed (-) and as loaded (+):\n%s", item.Ref, diff)
			}
		}
	}
	if seen == 0 {
		s.t.Error("the first pages are empty")
	}
	gone := s.Put(n)
	s.Delete(gone)
	if _, err := s.Source.Load(s.t.Context(), gone); !errors.Is(err, scan.ErrGone) {
		s.t.Errorf("load of a deleted item: %v, want ErrGone", err)
	}
}

func (s *suite) readingWritesNothing() {
	s.skipWithoutRequests()
	if err := s.Source.Check(s.t.Context()); err != nil {
		s.t.Fatalf("check: %v", err)
	}
	s.items(3)
	for _, p := range s.partitions() {
		s.walk(p, nil)
	}
	for operation := range s.Faults.Counts() {
		if !slices.Contains(s.Reads, operation) {
			s.t.Errorf("%s was sent while the source only read", operation)
		}
	}
}

func (s *suite) replaceChangesOnlyTheSlot() {
	items := s.items(s.Source.Batch() + 3)
	untouched := s.load(s.Put(len(items)))
	before := s.rests(append(items, untouched))
	var changes []scan.Change
	for i, item := range items {
		changes = append(changes, s.change(item, fmt.Sprintf("value %d", i)))
	}
	for i, result := range s.replace(changes...) {
		if result.Err != nil {
			s.t.Fatalf("replace %s: %v", items[i].Ref, result.Err)
		}
		s.wantSlot(items[i].Ref, fmt.Appendf(nil, "value %d", i))
	}
	s.wantSlot(untouched.Ref, s.Slot(untouched.Payload))
	if diff := cmp.Diff(before, s.rests(append(items, untouched))); diff != "" {
		s.t.Errorf("outside the slots, before (-) and after (+):\n%s", diff)
	}
}

func (s *suite) writesHavePreconditions() {
	s.skipWithoutRequests()
	seen := s.watch()
	items := s.items(s.Source.Batch() + 1)
	var changes []scan.Change
	for _, item := range items {
		changes = append(changes, s.change(item, "new"))
	}
	s.replace(changes...)
	s.replace(s.change(s.load(items[0].Ref), "newer"))
	s.wantSlot(items[0].Ref, []byte("newer"))
	count, wrong := seen()
	if count == 0 {
		s.t.Error("no write request was sent")
	}
	for _, err := range wrong {
		s.t.Error(err)
	}
	for operation := range s.Faults.Counts() {
		if !slices.Contains(slices.Concat(s.Reads, s.Writes, s.Auxiliary), operation) {
			s.t.Errorf("%s was sent, but the subject does not list it", operation)
		}
	}
}

func (s *suite) staleIsNotWritten() {
	items := s.items(max(3, s.Source.Batch()))
	stale := items[1]
	s.Rewrite(stale.Ref)
	foreign, rest := s.load(stale.Ref), s.Rest(stale.Ref)
	var changes []scan.Change
	for _, item := range items {
		changes = append(changes, s.change(item, "new"))
	}
	for i, result := range s.replace(changes...) {
		if i != 1 {
			if result.Err != nil {
				s.t.Errorf("the other item %s: %v", items[i].Ref, result.Err)
			}
			s.wantSlot(items[i].Ref, []byte("new"))
			continue
		}
		if !errors.Is(result.Err, scan.ErrChanged) {
			s.t.Errorf("replace of a stale item: %v, want ErrChanged", result.Err)
		}
		if result.Current != nil {
			s.wantSameItem(*result.Current, foreign)
		}
	}
	s.wantSlot(stale.Ref, s.Slot(foreign.Payload))
	if got := s.Rest(stale.Ref); got != rest {
		s.t.Errorf("outside the slot of the stale item (-want +got):\n%s", cmp.Diff(rest, got))
	}
	if err := s.replace(s.change(s.load(stale.Ref), "new"))[0].Err; err != nil {
		s.t.Errorf("replace after another Load: %v", err)
	}
}

// wantSameItem fails the test unless the item that was returned with ErrChanged equals the
// loaded item.
func (s *suite) wantSameItem(current, loaded scan.Item) {
	s.t.Helper()
	if current.Ref != loaded.Ref || !cmp.Equal(current.Payload, loaded.Payload) {
		s.t.Errorf("the item returned with ErrChanged (-) and as loaded (+): %s",
			cmp.Diff(current.Payload, loaded.Payload))
	}
}

func (s *suite) touchedIsPreserved() {
	item := s.items(1)[0]
	before := s.Rest(item.Ref)
	s.Touch(item.Ref)
	touched := s.Rest(item.Ref)
	if before == touched {
		s.t.Fatal("Touch changes nothing that Rest reports")
	}
	err := s.replace(s.change(item, "new"))[0].Err
	if errors.Is(err, scan.ErrChanged) {
		s.wantSlot(item.Ref, s.Slot(item.Payload))
		err = s.replace(s.change(s.load(item.Ref), "new"))[0].Err
	}
	if err != nil {
		s.t.Fatalf("replace: %v", err)
	}
	s.wantSlot(item.Ref, []byte("new"))
	if got := s.Rest(item.Ref); got != touched {
		s.t.Errorf("data that another writer changed (-want +got):\n%s", cmp.Diff(touched, got))
	}
}

func (s *suite) deletedStaysDeleted() {
	items := s.items(max(2, s.Source.Batch()))
	s.Delete(items[0].Ref)
	var changes []scan.Change
	for _, item := range items {
		changes = append(changes, s.change(item, "new"))
	}
	results := s.replace(changes...)
	s.wantGone(items[0].Ref, results[0])
	if results[1].Err != nil {
		s.t.Errorf("the other item: %v", results[1].Err)
	}
	// alone, so that the source may use a different request
	s.wantGone(items[0].Ref, s.replace(changes[0])[0])
	if rest := s.Rest(items[0].Ref); rest != "" {
		s.t.Errorf("the deleted item was created again: %s", rest)
	}
}

// wantGone fails the test unless the result is ErrGone, or ErrChanged without an item and a
// subsequent Load returns ErrGone.
func (s *suite) wantGone(ref scan.Ref, result scan.Result) {
	s.t.Helper()
	err := result.Err
	if errors.Is(err, scan.ErrChanged) && result.Current == nil {
		_, err = s.Source.Load(s.t.Context(), ref)
	}
	if !errors.Is(err, scan.ErrGone) || errors.Is(err, scan.ErrChanged) {
		s.t.Errorf("replace of a deleted item: %v, then %v, want ErrGone last", result.Err,
			err)
	}
}

func (s *suite) oneWriterWins() {
	const writers = 8
	item := s.items(1)[0]
	rest := s.Rest(item.Ref)
	errs := make([]error, writers)
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			errs[i] = s.Source.Replace(s.t.Context(),
				[]scan.Change{s.change(item, fmt.Sprintf("writer %d", i))})[0].Err
		})
	}
	group.Wait()
	var winners []string
	for i, err := range errs {
		switch {
		case err == nil:
			winners = append(winners, fmt.Sprintf("writer %d", i))
		case !errors.Is(err, scan.ErrChanged):
			s.t.Errorf("writer %d: %v, want ErrChanged", i, err)
		}
	}
	if len(winners) == 0 || len(winners) > 1 && !s.LastWriterWins {
		s.t.Errorf("writers %q succeeded, want one", winners)
	}
	if got := string(s.Slot(s.load(item.Ref).Payload)); !slices.Contains(winners, got) {
		s.t.Errorf("the slot holds %q, but writers %q succeeded", got, winners)
	}
	if got := s.Rest(item.Ref); got != rest {
		s.t.Errorf("outside the slot (-want +got):\n%s", cmp.Diff(rest, got))
	}
}

// faults checks the errors from which the engine draws conclusions. After a failed request,
// the error must be neither a refusal nor nil. The store must hold the old value, or the new
// value if only the response was lost.
func (s *suite) faults() {
	s.skipWithoutRequests()
	outer := s.t
	for _, c := range []struct {
		name    string
		kind    fault.Kind
		applied bool
	}{
		{"throttled", fault.Throttle, false},
		{"internal error", fault.InternalError, false},
		{"connection reset", fault.Reset, false},
		{"lost response", fault.LostResponse, true},
	} {
		outer.Run(c.name, func(t *testing.T) {
			s.t = t
			s.fault(c.kind, c.applied)
		})
	}
	s.t = outer
}

func (s *suite) fault(kind fault.Kind, applied bool) {
	items := s.items(max(2, s.Source.Batch()))
	var first, second []scan.Change
	for _, item := range items {
		first = append(first, s.change(item, "first"))
	}
	for i, result := range s.replace(first...) { // requests that a source sends only once are done
		if result.Err != nil {
			s.t.Fatal(result.Err)
		}
		second = append(second, s.change(s.load(items[i].Ref), "second"))
	}
	rests := s.rests(items)
	for _, operation := range s.Writes {
		s.Faults.Set(operation, fault.Fault{Kind: kind})
	}
	results := s.replace(second...)
	s.Faults.Clear("")
	want := "first"
	if applied {
		want = "second"
	}
	for i, result := range results {
		if result.Err == nil || errors.Is(result.Err, scan.ErrChanged) ||
			errors.Is(result.Err, scan.ErrGone) {
			s.t.Errorf("replace %s: %v, want the error of the request", items[i].Ref, result.Err)
		}
		s.wantSlot(items[i].Ref, []byte(want))
	}
	if diff := cmp.Diff(rests, s.rests(items)); diff != "" {
		s.t.Errorf("outside the slots, before (-) and after (+):\n%s", diff)
	}
}
