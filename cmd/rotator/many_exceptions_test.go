package main

import (
	"runtime"
	"strconv"
	"testing"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/report/document"
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
	const digest = "9bc67d887e95d0369bc67d887e95d0369bc67d887e95d0369bc67d887e95d036"
	return checkpoint.LedgerEntry{
		Target:   "customers",
		Ref:      "customer-" + strconv.Itoa(i),
		Path:     "ssn",
		Blob:     digest,
		Outcome:  "failed",
		Reason:   "invalid-ciphertext",
		Detail:   "KMS cannot decrypt it: it is corrupt",
		Attempts: 1,
		At:       time.Unix(int64(i), 0),
		Origin:   "unknown",
	}
}

// TestMillionExceptions: a million exceptions of a read-only pass take no more memory than a
// thousand. TestStream of the package sheet shows that their table takes none.
func TestMillionExceptions(t *testing.T) {
	const most = 16 << 20 // bytes; a million entries have more than 200 MiB
	before := heapInUse()
	var found exceptions
	for i := range 1_000_000 {
		if err := found.add([]checkpoint.LedgerEntry{exceptionOf(i)}); err != nil {
			t.Fatal(err)
		}
		if i%200_000 > 0 {
			continue
		}
		if now := heapInUse(); now > before+most {
			t.Fatalf("%d bytes are in use after %d exceptions", now-before, i)
		}
	}
	if n := len(found.listed); n != document.MaxListed || !found.failed.full {
		t.Errorf("%d exceptions are listed, and all failed ones kept: %v", n, !found.failed.full)
	}
}
