package main

import (
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/report/document"
	"rotator/internal/report/sheet"
)

// heapInUse returns the bytes of live objects.
func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// exceptionOf returns the exception with a number.
func exceptionOf(i int) checkpoint.LedgerEntry {
	return checkpoint.LedgerEntry{
		Target:   "customers",
		Ref:      fmt.Sprintf(`{"id":{"S":"customer-%09d"}}`, i),
		Path:     "ssn",
		Blob:     fmt.Sprintf("%064x", i),
		Outcome:  "failed",
		Reason:   "invalid-ciphertext",
		Detail:   "KMS cannot decrypt it: it is corrupt",
		Attempts: 1,
		At:       time.Unix(int64(i), 0),
		Origin:   "unknown",
	}
}

// TestMillionExceptions: a million exceptions of a read-only pass, and the table of a million
// exceptions, take no more memory than a thousand.
func TestMillionExceptions(t *testing.T) {
	const most = 16 << 20 // bytes; a million entries have more than 200 MiB
	before := heapInUse()
	held := func(what string, i int) {
		t.Helper()
		if i%100_000 != 0 {
			return
		}
		if now := heapInUse(); now > before+most {
			t.Fatalf("%s: %d bytes are in use after %d exceptions", what, now-before, i)
		}
	}
	var found exceptions
	for i := range 1_000_000 {
		if err := found.add([]checkpoint.LedgerEntry{exceptionOf(i)}); err != nil {
			t.Fatal(err)
		}
		held("read-only pass", i)
	}
	if n := len(found.listed); n != document.MaxListed || !found.failed.full {
		t.Errorf("%d exceptions are listed, and all failed ones kept: %v", n, !found.failed.full)
	}
	err := sheet.WriteExceptions(io.Discard, func(
		yield func(checkpoint.LedgerEntry, error) bool,
	) {
		for i := range 1_000_000 {
			held("table", i)
			if !yield(exceptionOf(i), nil) {
				return
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
}
