package rotate

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

// Slots have one question only if blob and both contexts are the same.
func TestQuestions(t *testing.T) {
	contexts := rapid.MapOfN(rapid.StringN(0, 2, 2), rapid.StringN(0, 2, 2), 0, 3)
	slots := rapid.Custom(func(t *rapid.T) ciphertext.Slot {
		return ciphertext.Slot{Blob: []byte(rapid.StringN(0, 2, 2).Draw(t, "blob")),
			Context: contexts.Draw(t, "context"), DestinationContext: contexts.Draw(t, "destination context")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := slots.Draw(t, "one"), slots.Draw(t, "other")
		text := func(s ciphertext.Slot) string {
			return fmt.Sprintf("%q %q %q", s.Blob, s.Context, s.DestinationContext)
		}
		if (questionOf(a) == questionOf(b)) != (text(a) == text(b)) {
			t.Errorf("%s and %s: one question %v", text(a), text(b), questionOf(a) == questionOf(b))
		}
	})
}

// One request is made for all who ask the same at one time, and after it; none of
// them gets what failed.
func TestSharedAsksOnce(t *testing.T) {
	for _, test := range []struct {
		name string
		said verdict
		want int64 // requests of 50 slots
	}{
		{"moves", verdict{blob: []byte("new"), key: "old"}, 1},
		{"current", verdict{outcome: Current, key: "new"}, 1},
		{"failed", verdict{outcome: Failed, reason: reasonInvalidCiphertext}, 50},
		{"foreign, and KMS would not name the key", verdict{outcome: Foreign, reason: reasonForeignKey}, 50},
	} {
		synctest.Test(t, func(t *testing.T) {
			var requests atomic.Int64
			s := newShared(func(context.Context, ciphertext.Slot) (verdict, error) {
				requests.Add(1)
				time.Sleep(time.Second)
				return test.said, nil
			})
			slot := ciphertext.Slot{Blob: []byte("blob")}
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() {
					time.Sleep(time.Duration(i) * 100 * time.Millisecond)
					got, err := s.decide(t.Context(), questionOf(slot), slot)
					if err != nil || got.outcome != test.said.outcome || string(got.blob) != string(test.said.blob) || got.key != test.said.key {
						t.Errorf("%s: %+v, %v", test.name, got, err)
					}
				})
			}
			all.Wait()
			if requests.Load() != test.want || s.served.Load() != 50-test.want {
				t.Errorf("%s: %d requests, %d served, want %d requests", test.name, requests.Load(), s.served.Load(), test.want)
			}
		})
	}
}

// What is remembered stays within its bound, and is what was used last.
func TestSharedIsBounded(t *testing.T) {
	s := newShared(func(_ context.Context, slot ciphertext.Slot) (verdict, error) {
		return verdict{blob: append(make([]byte, 2000), slot.Blob...), key: "old"}, nil
	})
	ask := func(i int) {
		slot := ciphertext.Slot{Blob: fmt.Append(nil, i)}
		got, err := s.decide(t.Context(), questionOf(slot), slot)
		if err != nil || string(got.blob[2000:]) != string(slot.Blob) {
			t.Fatalf("slot %d: %q, %v", i, got.blob[2000:], err)
		}
	}
	const many = 3 * sharedMost / 2000
	for i := range many {
		ask(i)
		ask(0) // always in use
	}
	if s.bytes > sharedMost || s.bytes < sharedMost/2 || len(s.known) != s.recent.Len() || len(s.flights) != 0 {
		t.Errorf("%d bytes, %d known, %d in order, %d flights", s.bytes, len(s.known), s.recent.Len(), len(s.flights))
	}
	if served := s.served.Load(); served != many {
		t.Errorf("%d served of %d that were in use", served, many)
	}
}

// Where nothing is shared little is remembered, and all there is room for once
// something is.
func TestSharedForNothing(t *testing.T) {
	s := newShared(func(_ context.Context, slot ciphertext.Slot) (verdict, error) {
		return verdict{blob: make([]byte, 2000), key: "old"}, nil
	})
	ask := func(from, to int) {
		for i := from; i < to; i++ {
			slot := ciphertext.Slot{Blob: fmt.Append(nil, i)}
			if _, err := s.decide(t.Context(), questionOf(slot), slot); err != nil {
				t.Fatal(err)
			}
		}
	}
	const many = 2 * sharedMost / 2000
	ask(0, many)
	if s.bytes > sharedFew || s.bytes < sharedFew/2 {
		t.Errorf("%d bytes are remembered for nothing", s.bytes)
	}
	ask(many-100, many-50)
	ask(many, 2*many)
	if s.bytes < sharedMost/2 || s.served.Load() != 50 {
		t.Errorf("%d bytes after %d were served", s.bytes, s.served.Load())
	}
}
