package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rotator/internal/harness"
)

// TestCheckpointStaysAway: if the checkpoint remains unavailable, the final error of a run names
// the service and its last response, once. It does not name the time limit of the program as
// the cause. The log has no lines about the bodies of failed requests.
func TestCheckpointStaysAway(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("outages take too long for -short")
	}
	for cause, away := range map[string]mode{
		"connection refused": refusing, "HTTP 503": failed503, "no answer in time": silent,
	} {
		t.Run(cause, func(t *testing.T) {
			t.Parallel()
			c := fewer()
			c.Rate, c.MaxOutage, c.Checkpoint = 25, "3s", harness.InTable
			c.Extra = "lease: 3s"
			w := newTrial(t, c)
			f := newFront(t, w.Server.Endpoint())
			replaceInJob(t, w, harness.InTable, harness.InTable+"?endpoint=http://"+f.address)
			p := runs(w).Begin(t)
			until(t, "some requests", requestsSent(w, 10))
			f.set(t, away)
			r := p.End(t)
			want := fmt.Sprintf("the checkpoint: DynamoDB at http://%s gave no usable answer: %s (",
				f.address, cause)
			if lines := stopLines(r); r.Code != exitUnavailable || len(lines) != 2 ||
				!strings.Contains(lines[0], want) {
				t.Errorf("want exit code %d and %q once: %s", exitUnavailable, want, r)
			}
			notSaved := fmt.Sprintf("PutItem, DynamoDB at http://%s gives no usable answer: %s",
				f.address, cause)
			if !strings.Contains(r.Log, notSaved) {
				t.Errorf("want %q: %s", notSaved, r)
			}
			for _, text := range []string{"context ", "connection reuse"} {
				if strings.Contains(r.Log, text) {
					t.Errorf("%q: %s", text, r)
				}
			}
			f.set(t, serving)
			replaceInJob(t, w, "rate: 25", "rate: 5000")
			w.CountsVary()
			toTheEnd(t, w)
		})
	}
}

// TestUnsharedRateNamesTheOutage: if the checkpoint of an audit is unavailable, the log states
// its last response.
func TestUnsharedRateNamesTheOutage(t *testing.T) {
	t.Parallel()
	c := fewer()
	c.MaxOutage, c.Checkpoint = "2s", harness.InTable
	w := newTrial(t, c)
	f := newFront(t, w.Server.Endpoint())
	replaceInJob(t, w, harness.InTable, harness.InTable+"?endpoint=http://"+f.address)
	f.set(t, failed503)
	r := w.Run(t, "audit", "-o", "json")
	if r.Took > time.Minute || !strings.Contains(r.Log, "the checkpoint cannot be used") ||
		!strings.Contains(r.Log, "gives no usable answer: HTTP 503; if a run") {
		t.Errorf("want the last response of the checkpoint: %s", r)
	}
}
