package main

import (
	"encoding/json"
	"strings"
	"testing"

	"rotator/internal/checkpoint"
	"rotator/internal/report"
)

// TestExceptionsToKeep: the record of a read-only pass has the examples of each reason first, and
// then further exceptions, each once and with all fields, until a size is reached.
func TestExceptionsToKeep(t *testing.T) {
	t.Parallel()
	var listed []checkpoint.LedgerEntry
	for i := range 40 {
		listed = append(listed, exceptionOf(i))
	}
	last := listed[39]
	elsewhere := report.Example{Target: "vault", Ref: "not listed"}
	reasons := []report.Reason{{Outcome: last.Outcome, Reason: last.Reason,
		Examples: []report.Example{{Target: last.Target, Ref: last.Ref, Path: last.Path},
			elsewhere}}}
	kept := exceptionsToKeep(reasons, listed)
	if len(kept) != 41 || kept[0] != last || kept[1].Ref != elsewhere.Ref || kept[2] != listed[0] {
		t.Errorf("%d exceptions are kept; the first ones are %+v", len(kept), kept[:3])
	}
	for i := range listed {
		listed[i].Detail = strings.Repeat("x", 2000)
	}
	kept = exceptionsToKeep(reasons, listed)
	text, err := json.Marshal(kept)
	if err != nil || len(text) > keptExamples || len(kept) < 10 {
		t.Errorf("%d exceptions with %d bytes are kept: %v", len(kept), len(text), err)
	}
}
