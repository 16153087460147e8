package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
)

// beforeWrites calls do when a request arrives that would write an entry for which keep is true. It
// is called once for each entry, or always if again is set.
func beforeWrites(
	t *testing.T,
	w *harness.Env,
	keep func(*harness.Entry) bool,
	again bool,
	do func(*harness.Entry) error,
) {
	entries := w.Entries(keep)
	var mu sync.Mutex
	done := map[string]bool{}
	for _, operation := range writeOperations() {
		w.Fault(operation, fault.Fault{Before: func(r requestOf, body []byte) {
			for _, e := range entries {
				if !strings.HasSuffix(r.URL.Path, e.ID) &&
					!bytes.Contains(body, []byte(`"`+e.ID+`"`)) {
					continue
				}
				mu.Lock()
				first := !done[e.ID]
				done[e.ID] = true
				mu.Unlock()
				if first || again {
					if err := do(e); err != nil {
						t.Errorf("update of the application: %v", err)
					}
				}
			}
		}})
	}
}

// concurrentWriter: a value that the application stores while its item is moved is kept, and is
// then moved too. An item that changes at every attempt becomes a conflict.
func concurrentWriter(t *testing.T) {
	t.Run("everywhere", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{Rate: 400})
		writing, stop := context.WithCancel(t.Context())
		defer stop()
		wrote := make(chan error, 1)
		go func() {
			n, err := w.Write(writing, time.Millisecond, w.Old, w.New)
			t.Logf("%d writes of the application", n)
			wrote <- err
		}()
		r := w.Must(t, complete(), "run", "-o", "json")
		stop()
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		w.CheckPartial(t, r.Summary)
		toConvergence(t, w)
	})
	t.Run("immediately before the write, once", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{})
		third := func(e *harness.Entry) bool {
			return len(e.ID)%3 == 0 || strings.Contains(e.ID, "3")
		}
		beforeWrites(t, w, third, false, func(e *harness.Entry) error {
			if strings.Contains(e.ID, "1") {
				return w.Replace(t.Context(), e, w.New)
			}
			return w.Replace(t.Context(), e, w.Old)
		})
		toTheEnd(t, w)
	})
	for _, target := range []string{harness.Table, harness.Objects} {
		t.Run("always: "+target, func(t *testing.T) {
			t.Parallel()
			w := newTrial(t, harness.Config{})
			hot := w.Entries(harness.Of(target, harness.Ordinary))[3]
			beforeWrites(t, w, func(e *harness.Entry) bool {
				return e == hot
			}, true, func(e *harness.Entry) error {
				return w.Replace(t.Context(), e, w.Old)
			})
			r := w.Must(t, []int{exitExceptions}, "run", "-o", "json")
			if n := r.Summary.Slots.Conflict; n != 1 {
				t.Errorf("%d conflicts, want 1, the item that changes at every attempt: %s", n, r)
			}
			w.CheckPartial(t, r.Summary)
			w.Server.Faults().Clear("")
			r = w.Must(t, []int{exitExceptions}, "retry", "-o", "json")
			if r.Summary.Slots.Conflict != 0 {
				t.Errorf("a conflict remains: %s", r)
			}
			w.Check(t, r.Summary)
		})
	}
}

// deletedItems: an item that is deleted while it is moved counts as gone and is not created again.
func deletedItems(t *testing.T) {
	w := newTrial(t, harness.Config{})
	fifth := func(e *harness.Entry) bool {
		return e.Kind == harness.Ordinary && strings.ContainsAny(e.ID[len(e.ID)-6:], "57")
	}
	beforeWrites(t, w, fifth, false, func(e *harness.Entry) error {
		return w.Delete(t.Context(), e)
	})
	r := toTheEnd(t, w)
	if n := int64(len(w.Entries(fifth))); r.Summary.Slots.Gone != n {
		t.Errorf("%d slots are gone, want %d, one for each deleted item", r.Summary.Slots.Gone, n)
	}
}

// timeToLive: all items have expired but are not yet deleted. They are moved, and their ttl does
// not change. Some are deleted between the scan and the write, as DynamoDB does.
func timeToLive(t *testing.T) {
	w := newTrial(t, harness.Config{Objects: map[harness.Kind]int{}})
	expiring := w.Entries(func(e *harness.Entry) bool {
		return e.Kind == harness.Ordinary && strings.HasSuffix(e.ID, "4")
	})
	w.Fault("kms:ReEncrypt", fault.Fault{
		Skip:  2,
		Times: len(expiring),
		Before: func(requestOf, []byte) {
			// Called len(expiring) times: each call takes the next item.
			for _, e := range expiring {
				if !w.Deleted(e) {
					if err := w.Delete(t.Context(), e); err != nil {
						t.Errorf("expire %s: %v", e.ID, err)
					}
					return
				}
			}
		},
	})
	r := toTheEnd(t, w)
	if s := r.Summary.Slots; s.Gone == 0 || s.Gone > int64(len(expiring)) {
		t.Errorf("%d slots are gone, want %d, one for each expired item", s.Gone, len(expiring))
	}
}

// versionedBucket: each object gets one new version with all properties of the old one. The old
// versions stay, and verify reports their number.
func versionedBucket(t *testing.T) {
	w := newTrial(t, harness.Config{Items: map[harness.Kind]int{}, Bucket: harness.Versioned})
	before := w.Server.S3().Versions(harness.Bucket)
	toTheEnd(t, w)
	old := 0
	for key, versions := range w.Server.S3().Versions(harness.Bucket) {
		if !bytes.Equal(versions[0].Body, before[key][0].Body) || len(versions) > 2 {
			t.Errorf("%s: %d versions, want 2, the first of which is the old one", key,
				len(versions))
		}
		old += len(versions) - 1
	}
	r := w.Must(t, []int{exitExceptions}, "verify", "-o", "json")
	if notes := strings.Join(r.Summary.Notes, "\n"); old == 0 ||
		!strings.Contains(notes, "old versions") {
		t.Errorf("%d old versions, but the notes of verify are %q", old, notes)
	}
}

// lockedBucket: the new version is locked like the old one, and the old one stays. No lock is
// bypassed, which a guard checks.
func lockedBucket(t *testing.T) {
	w := newTrial(t, harness.Config{Items: map[harness.Kind]int{}, Bucket: harness.Locked})
	toTheEnd(t, w)
	two := 0
	for key, versions := range w.Server.S3().Versions(harness.Bucket) {
		first, last := versions[0], versions[len(versions)-1]
		if first.Lock != last.Lock || !strings.Contains(first.Lock, "ON") || first.Marker {
			t.Errorf("%s: the lock changed from %q to %q", key, first.Lock, last.Lock)
		}
		if len(versions) == 2 {
			two++
		}
	}
	if two == 0 {
		t.Error("no object was moved")
	}
}

// archivedObjects: an object in an archive storage class has the reason archived, and rotator
// does not restore it (the fake does not implement RestoreObject).
func archivedObjects(t *testing.T) {
	w := newTrial(t, harness.Config{
		Items:   map[harness.Kind]int{},
		Objects: map[harness.Kind]int{harness.Ordinary: 10, harness.Archived: 7},
	})
	toTheEnd(t, w)
	for _, e := range ledger(t, w) {
		if e.Reason != "archived" {
			t.Errorf("%s is in the ledger with reason %s", e.Ref, e.Reason)
		}
	}
}

// poisonCiphertexts: each ciphertext that KMS cannot decrypt is one exception and costs a bounded
// number of requests. The other ciphertexts are moved.
func poisonCiphertexts(t *testing.T) {
	const poison, foreign, ordinary = 60, 10, 30
	w := newTrial(t, harness.Config{
		Items: map[harness.Kind]int{
			harness.Poison:   poison,
			harness.Foreign:  foreign,
			harness.Ordinary: ordinary,
		},
		Objects: map[harness.Kind]int{harness.Poison: 3},
	})
	r := toTheEnd(t, w)
	// Two dry runs; one request for each slot that moves, two for each that cannot be decrypted,
	// three for each under another key.
	if bound := int64(2 + ordinary + 2*(poison+3) + 3*foreign); r.Summary.KMS.Requests > bound {
		t.Errorf("%d requests to KMS, want at most %d", r.Summary.KMS.Requests, bound)
	}
	attempts := func(n int) {
		t.Helper()
		entries := ledger(t, w)
		if len(entries) != poison+3+foreign {
			t.Errorf("%d slots in the ledger, want %d", len(entries), poison+3+foreign)
		}
		for _, e := range entries {
			outcome := e.Outcome + " " + e.Reason
			// KMS compares keys only if the damage is after the header.
			named := outcome == "failed invalid-ciphertext" && e.Key == "" ||
				outcome == "failed source-other-context" && e.Key != ""
			if e.Attempts != n || !named && outcome != "foreign foreign-key" {
				t.Errorf("the ledger has %s as %s for %s after %d attempts, want %d", e.Ref,
					e.Outcome, e.Reason, e.Attempts, n)
			}
		}
	}
	attempts(1)
	r = w.Must(t, []int{exitExceptions}, "retry", "-o", "json")
	w.Check(t, r.Summary)
	attempts(2)
}

// hugeItems: small slots in large items are moved, all other data is preserved, and the memory is
// bounded. An item that is larger than a limit is refused without being read.
func hugeItems(t *testing.T) {
	t.Run("400 KB items", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{
			Memory:  true,
			Items:   map[harness.Kind]int{harness.Ordinary: 40, harness.Nested: 2},
			Objects: map[harness.Kind]int{},
			Padding: 395 << 10,
		})
		r := toTheEnd(t, w)
		atMost(t, r, 100<<20)
	})
	t.Run("8 MiB documents", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{
			Items:         map[harness.Kind]int{},
			Objects:       map[harness.Kind]int{harness.Document: 3},
			ObjectPadding: 8 << 20,
			Memory:        true,
			Workers:       1,
		})
		r := toTheEnd(t, w)
		atMost(t, r, 200<<20)
	})
	t.Run("a 65 MiB document", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{
			Items:         map[harness.Kind]int{},
			Objects:       map[harness.Kind]int{harness.Document: 1},
			ObjectPadding: 65 << 20,
			Memory:        true,
		})
		w.Deny(nil)
		r := toTheEnd(t, w)
		atMost(t, r, 100<<20)
		if entries := ledger(t, w); len(entries) != 1 || entries[0].Reason != "too-large" {
			t.Errorf("the ledger contains %+v", entries)
		}
	})
}

// atMost checks the memory that a command used.
func atMost(t *testing.T, r harness.Result, bytes int64) {
	t.Helper()
	used := r.MaxRSS(t)
	t.Logf("%d MiB", used>>20)
	if raceEnabled {
		bytes *= 4
	}
	if used > bytes {
		t.Errorf("rotator used %d MiB, want at most %d", used>>20, bytes>>20)
	}
}
