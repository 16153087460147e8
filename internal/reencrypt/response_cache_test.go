package reencrypt

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"rotator/internal/ciphertext"
)

// deciderFunc is a Decider that is a function of the slot.
type deciderFunc func(ciphertext.Slot) (Verdict, error)

func (a deciderFunc) Decide(_ context.Context, s Subject) (Verdict, error) { return a(s.slot) }

// Slots have the same SlotID only if their blobs and both contexts are equal.
func TestSlotIDs(t *testing.T) {
	contexts := rapid.MapOfN(rapid.StringN(0, 2, 2), rapid.StringN(0, 2, 2), 0, 3)
	slots := rapid.Custom(func(t *rapid.T) ciphertext.Slot {
		return ciphertext.Slot{
			Blob:               []byte(rapid.StringN(0, 2, 2).Draw(t, "blob")),
			Context:            contexts.Draw(t, "context"),
			DestinationContext: contexts.Draw(t, "destination context"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := slots.Draw(t, "one"), slots.Draw(t, "other")
		text := func(s ciphertext.Slot) string {
			return fmt.Sprintf("%q %q %q", s.Blob, s.Context, s.DestinationContext)
		}
		if (IDOf(a) == IDOf(b)) != (text(a) == text(b)) {
			t.Errorf("%s and %s: same ID %v", text(a), text(b), IDOf(a) == IDOf(b))
		}
	})
}

// Concurrent and later callers with the same SlotID share one request. Failures are not shared.
func TestCacheAsksOnce(t *testing.T) {
	for _, test := range []struct {
		name    string
		verdict Verdict
		want    int64 // requests of 50 slots
	}{
		{"moves", Verdict{Blob: []byte("new"), Key: "old"}, 1},
		{"current", Verdict{Outcome: Current, Key: "new"}, 1},
		{"failed", Verdict{Outcome: Failed, Reason: ReasonInvalidCiphertext}, 50},
		{
			"foreign, and KMS would not name the key",
			Verdict{Outcome: Foreign, Reason: ReasonForeignKey},
			50,
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			var requests atomic.Int64
			s := newResponseCache(deciderFunc(func(ciphertext.Slot) (Verdict, error) {
				requests.Add(1)
				time.Sleep(time.Second)
				return test.verdict, nil
			}))
			slot := ciphertext.Slot{Blob: []byte("blob")}
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() {
					time.Sleep(time.Duration(i) * 100 * time.Millisecond)
					got, err := s.Decide(t.Context(), NewSubject("t", false, "", slot, IDOf(slot)))
					if err != nil || got.Outcome != test.verdict.Outcome ||
						string(got.Blob) != string(test.verdict.Blob) ||
						got.Key != test.verdict.Key {
						t.Errorf("%s: %+v, %v", test.name, got, err)
					}
				})
			}
			all.Wait()
			if requests.Load() != test.want || s.served.Load() != 50-test.want {
				t.Errorf("%s: %d requests, %d served, want %d requests", test.name,
					requests.Load(), s.served.Load(), test.want)
			}
		})
	}
}

// The cache stays within its size, and keeps the responses that were used last.
func TestCacheIsBounded(t *testing.T) {
	s := newResponseCache(deciderFunc(func(slot ciphertext.Slot) (Verdict, error) {
		return Verdict{Blob: append(make([]byte, 2000), slot.Blob...), Key: "old"}, nil
	}))
	ask := func(i int) {
		slot := ciphertext.Slot{Blob: fmt.Append(nil, i)}
		got, err := s.Decide(t.Context(), NewSubject("t", false, "", slot, IDOf(slot)))
		if err != nil || string(got.Blob[2000:]) != string(slot.Blob) {
			t.Fatalf("slot %d: %q, %v", i, got.Blob[2000:], err)
		}
	}
	const many = 3 * cacheSize / 2000
	for i := range many {
		ask(i)
		ask(0) // always in use
	}
	if s.bytes > cacheSize || s.bytes < cacheSize/2 || len(s.known) != s.recent.Len() ||
		len(s.calls) != 0 {
		t.Errorf("%d bytes, %d known, %d in order, %d calls", s.bytes, len(s.known),
			s.recent.Len(), len(s.calls))
	}
	if served := s.served.Load(); served != many {
		t.Errorf("%d served of %d that were in use", served, many)
	}
}

// A cache without any use stays small. After the first use it has its full size.
func TestUnusedCacheIsSmall(t *testing.T) {
	s := newResponseCache(deciderFunc(func(slot ciphertext.Slot) (Verdict, error) {
		return Verdict{Blob: make([]byte, 2000), Key: "old"}, nil
	}))
	ask := func(from, to int) {
		for i := from; i < to; i++ {
			slot := ciphertext.Slot{Blob: fmt.Append(nil, i)}
			if _, err := s.Decide(t.Context(),
				NewSubject("t", false, "", slot, IDOf(slot))); err != nil {
				t.Fatal(err)
			}
		}
	}
	const many = 2 * cacheSize / 2000
	ask(0, many)
	if s.bytes > cacheSizeUnused || s.bytes < cacheSizeUnused/2 {
		t.Errorf("an unused cache has %d bytes", s.bytes)
	}
	ask(many-100, many-50)
	ask(many, 2*many)
	if s.bytes < cacheSize/2 || s.served.Load() != 50 {
		t.Errorf("%d bytes after %d were served", s.bytes, s.served.Load())
	}
}
