package main

import (
	"net/http"
	"strings"
	"testing"

	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
)

// TestSignatureOfOneObject: if S3 refuses the signature of requests for one object, the slots of
// this object fail, also if no other request is sent meanwhile. If S3 refuses all signatures,
// the credentials are wrong.
func TestSignatureOfOneObject(t *testing.T) {
	t.Parallel()
	w := newTrial(t, harness.Config{
		Workers: 1,
		Items:   map[harness.Kind]int{},
		Objects: map[harness.Kind]int{harness.Ordinary: 4},
	})
	object := w.Entries(harness.Of(harness.Objects, harness.Ordinary))[1]
	refused := fault.Fault{Kind: fault.Refusal, Answer: fault.Answer{
		Status: http.StatusForbidden,
		Code:   "SignatureDoesNotMatch",
	}}
	one := refused
	one.Of = func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, object.ID) }
	w.Fault("s3:GetObject", one)
	r := w.Must(t, []int{exitExceptions}, "run", "-o", "json")
	if s := r.Summary.Slots; s.Failed != 1 || s.Rotated != 3 ||
		len(r.Summary.Reasons) != 1 || r.Summary.Reasons[0].Reason != "signatureDoesNotMatch" {
		t.Errorf("want 3 slots moved and one failed with signatureDoesNotMatch: %s", r)
	}
	w.Fault("s3:GetObject", refused)
	w.Fault("s3:HeadBucket", fault.Fault{
		Kind:   refused.Kind,
		Answer: refused.Answer,
		Skip:   1, // of the preflight
	})
	w.Must(t, []int{exitAccess}, "retry", "-o", "json")
	w.Server.Faults().Clear("")
	w.Check(t, w.Must(t, []int{exitDone}, "retry", "-o", "json").Summary)
}
