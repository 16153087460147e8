package main

import (
	"bytes"
	"net/http"
	"sync/atomic"
	"testing"

	"rotator/internal/fakeaws/fault"
)

// TestReadsOfPartitionRecords: a run reads the record of each partition three times: when it joins
// the pass, when it claims the partition, and when it adds up the counts at the end.
func TestReadsOfPartitionRecords(t *testing.T) {
	const partitions = 16
	s := newSharing(t, load{table: 64, rate: 4000, segments: partitions,
		checkpoint: "dynamodb://state"})
	var reads atomic.Int64
	count := func(_ *http.Request, body []byte) {
		if bytes.Contains(body, []byte("/partition/")) {
			reads.Add(1)
		}
	}
	s.server.Faults().Set("dynamodb:GetItem", fault.Fault{Before: count})
	s.startAll(t, 1)
	s.under[0].summary(t, exitDone)
	if n := reads.Load(); n == 0 || n > 3*partitions {
		t.Errorf("%d reads of %d records", n, partitions)
	}
}
