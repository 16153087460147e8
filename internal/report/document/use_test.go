package document_test

import (
	"strings"
	"testing"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/report"
	"rotator/internal/report/document"
	"rotator/internal/verdict"
	"rotator/internal/watch"
)

// TestNISTState: the state of a source key follows from its state in KMS, the ciphertexts under it
// and the calls of other callers.
func TestNISTState(t *testing.T) {
	t.Parallel()
	asked := at("2026-11-29T11:40:00Z")
	for name, test := range map[string]struct {
		state   string
		status  watch.Status
		quiet   time.Duration // before asked; 0 if CloudTrail did not answer
		under   int64
		stopped bool
		want    document.NISTState
	}{
		"not known":            {"", watch.Quiet, 48 * time.Hour, 0, false, ""},
		"no material":          {"PendingImport", watch.Quiet, 0, 0, false, "pre-activation"},
		"disabled":             {"Disabled", watch.Quiet, 0, 5, false, "suspended"},
		"scheduled":            {"PendingDeletion", watch.Quiet, 0, 0, false, "suspended"},
		"unavailable":          {"Unavailable", watch.Quiet, 0, 0, false, "suspended"},
		"ciphertexts under it": {"Enabled", watch.Quiet, 48 * time.Hour, 1, false, "active"},
		"not read to the end":  {"Enabled", watch.Quiet, 48 * time.Hour, 0, true, "active"},
		"used":                 {"Enabled", watch.Used, 48 * time.Hour, 0, false, "active"},
		"quiet for an hour":    {"Enabled", watch.Quiet, time.Hour, 0, false, "active"},
		"no reply":             {"Enabled", watch.Quiet, 0, 0, false, "active"},
		"quiet for two days": {"Enabled", watch.Quiet, 48 * time.Hour, 0, false,
			"deactivated"},
	} {
		s := summaryOf("verify", 0, 1, at("2026-11-27T10:00:00Z"),
			countsOf(test.under, 10, 0, 0, 0), countsOf(0, 10, 0, 0, 0))
		if test.stopped {
			s.Status = report.Stopped
		}
		k := watch.Key{ARN: oldKey, State: test.state, Status: test.status}
		if test.quiet > 0 {
			k.Trail = watch.Trail{Asked: asked, From: asked.Add(-test.quiet)}
		}
		d := document.New(s, document.Input{Now: asked, Use: &watch.Result{Asked: asked,
			Since: asked.Add(-72 * time.Hour), Keys: []watch.Key{k}}})
		if use := d.KeyUse[0]; use.NIST != test.want || use.Rule == "" ||
			(use.Refused == nil) != (test.quiet == 0) {
			t.Errorf("%s: state %q, want %q (%s)", name, use.NIST, test.want, use.Rule)
		}
	}
}

// TestJointBound: the bound of a merged report is that of all samples together. It is neither the
// sum of the bounds nor that of one sample of the sum.
func TestJointBound(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		parts []checkpoint.Sample // one for each report
		want  int64
	}{
		{[]checkpoint.Sample{{Population: 21658, Checked: 1000}}, 63},
		{[]checkpoint.Sample{{Population: 100_000, Checked: 1000}}, 297},
		{[]checkpoint.Sample{{Population: 21658, Checked: 1000},
			{Population: 100_000, Checked: 1000}}, 297},
		{[]checkpoint.Sample{{Population: 20, Checked: 10}}, 3},
		{[]checkpoint.Sample{{Population: 20, Checked: 10}, {Population: 20, Checked: 10}}, 4},
		{[]checkpoint.Sample{{Population: 20, Checked: 20}, {Population: 20, Checked: 20}}, 0},
	} {
		var list []document.Saved
		for i, one := range test.parts {
			d := otherJob(0)
			d.Job += strings.Repeat("+", i)
			d.Targets[0].Location.Root += strings.Repeat("+", i)
			d.Sample = report.Sample{Sample: one}
			list = append(list, document.Saved{File: d.Job, Document: d})
		}
		merged, err := document.Merge(list)
		if err != nil {
			t.Fatal(err)
		}
		if b := merged.Bound; b == nil || b.AtMostWrong == nil || *b.AtMostWrong != test.want {
			t.Errorf("%+v: the bound is %+v, want %d", test.parts, b, test.want)
		}
		if text := merged.BoundSentence(); !strings.HasPrefix(text, "KMS named the key of") {
			t.Errorf("%+v: %q", test.parts, text)
		}
	}
}

// TestBoundIsChecked: a bound that is not that of the samples is a contradiction.
func TestBoundIsChecked(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*document.Document){
		"another number": func(d *document.Document) { *d.Bound.AtMostWrong-- },
		"no number":      func(d *document.Document) { d.Bound.AtMostWrong = nil },
		"another size":   func(d *document.Document) { d.Bound.Population++ },
		"no sample":      func(d *document.Document) { d.Sample = report.Sample{} },
	} {
		d := sample()
		change(d)
		if err := d.Check(); err == nil {
			t.Errorf("%s: the document is accepted", name)
		}
	}
	earlier := sample()
	earlier.Bound, earlier.KeyUse = nil, nil
	if err := earlier.Check(); err != nil {
		t.Errorf("a document of an earlier version: %v", err)
	}
	if v := verdict.Joint(nil); v != nil {
		t.Errorf("without a sample, the bound is %+v", v)
	}
}
