package main

import (
	"testing"

	"rotator/internal/harness"
	"rotator/internal/report"
)

// TestNotFoundForValues: a server that returns NotFound for a value that is not a ciphertext
// does not stop a run. These slots are in the ledger with a separate reason.
func TestNotFoundForValues(t *testing.T) {
	t.Parallel()
	w := newTrial(t, harness.Config{
		Items:   map[harness.Kind]int{harness.Ordinary: 40, harness.Poison: 6},
		Objects: map[harness.Kind]int{},
	})
	w.Server.KMS().SetNoBlobCode("NotFoundException")
	r := w.Run(t, "run", "-o", "json")
	if r.Code != exitExceptions || r.Summary == nil || r.Summary.Status != report.Complete {
		t.Fatalf("want exit code %d: %s", exitExceptions, r)
	}
	w.Check(t, r.Summary)
	unknown := int64(0)
	for _, reason := range r.Summary.Reasons {
		if reason.Reason == "key-unknown" {
			unknown = reason.Slots
		}
	}
	if unknown == 0 || unknown > 6 {
		t.Errorf("%d slots are key-unknown: %+v", unknown, r.Summary.Reasons)
	}
}
