package document_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"rotator/internal/checkpoint"
	"rotator/internal/report"
	"rotator/internal/report/document"
	"rotator/internal/verdict"
)

// otherJob returns the document of a job in another account. It has its own source key, and found
// n ciphertexts under oldKey, which is foreign to it.
func otherJob(n int64) *document.Document {
	c := checkpoint.Counts{
		Slots: checkpoint.SlotCounts{Seen: 10 + n, Current: 10, Foreign: n},
		Items: checkpoint.ItemCounts{Seen: 10 + n, Ruled: 10 + n},
	}
	c.AddKey(newKey, checkpoint.KeyCount{Slots: 10})
	c.AddKey(oldKey, checkpoint.KeyCount{Slots: n})
	c.AddReason("foreign/foreign-key", n)
	c.Rules = map[string]checkpoint.RuleCounts{"raw": {Found: 10 + n}}
	s := &report.Summary{Job: "archive", Command: "verify", Status: report.Complete,
		Account: "444455556666", AsOf: at("2026-11-28T08:00:00Z"),
		Started: at("2026-11-28T08:00:00Z"), Ended: at("2026-11-28T08:01:00Z"),
		DestinationKey: newKey}
	s.SetSources([]checkpoint.Key{{ARN: otherKey, Given: "alias/archive-old",
		Algorithm: "SYMMETRIC_DEFAULT"}}, false)
	s.SetTargets([]report.TargetInfo{{Name: "files", Location: &checkpoint.Location{
		Kind: checkpoint.LocationFiles, Root: "/var/archive", Host: "host-2"}}},
		map[string]checkpoint.Counts{"files": c})
	s.SetSamples(nil)
	s.Conclude()
	s.Judge(verdict.Input{Now: at("2026-11-28T09:00:00Z"), JobFile: "archive.yaml",
		Passes: []verdict.Pass{s.VerdictPass()}}, nil)
	return document.New(s, document.Input{Now: at("2026-11-28T09:00:00Z"),
		Passes: []document.Stored{{Summary: s, Reported: true}}, Exceptions: exceptions(1)})
}

func verdictOn(t *testing.T, d *document.Document, key string) verdict.Verdict {
	t.Helper()
	i := slices.IndexFunc(d.Verdicts, func(v verdict.Verdict) bool { return v.Key == key })
	if i < 0 {
		t.Fatalf("there is no verdict on %s", key)
	}
	return d.Verdicts[i]
}

// TestMerge: a merged report has the sums of its parts, is as old as the oldest one, and can be
// read again. Ciphertexts that another job found under a key count against it.
func TestMerge(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		foreign int64
		code    verdict.Code
		want    string
	}{
		{0, verdict.CanBeDisabled, "alias/demo-old can be disabled."},
		{5, verdict.Cannot, "alias/demo-old cannot be disabled. Other jobs found 5 ciphertexts " +
			"under it: 5 in the report of job archive."},
	} {
		one, two := sample(), otherJob(test.foreign)
		merged, err := document.Merge([]document.Saved{{File: "a.json", Document: one},
			{File: "b.json", Document: two}})
		if err != nil {
			t.Fatal(err)
		}
		if err := merged.Check(); err != nil {
			t.Fatal(err)
		}
		if _, err := document.Read("merged", strings.NewReader(
			string(jsonOf(t, merged)))); err != nil {
			t.Error(err)
		}
		if merged.Slots.Seen != one.Slots.Seen+two.Slots.Seen || !merged.AsOf.Equal(two.AsOf) ||
			merged.Account != "111122223333, 444455556666" || len(merged.Parts) != 2 {
			t.Errorf("%d slots as of %s, accounts %s", merged.Slots.Seen, merged.AsOf,
				merged.Account)
		}
		v := verdictOn(t, merged, oldKey)
		if v.Code != test.code || v.Exit != test.code.Exit() ||
			!strings.HasPrefix(v.Sentence, test.want) {
			t.Errorf("%d foreign: %s: %s", test.foreign, v.Code, v.Sentence)
		}
		if own := verdictOn(t, merged, otherKey); own.Code != verdict.Cannot {
			t.Errorf("100 ciphertexts under a source key of the other job: %s", own.Sentence)
		}
	}
}

// TestMergeEqualNames: reports of one job file that was used in two accounts are merged, also if
// one of them was merged before. Their passes can have begun in the same second.
func TestMergeEqualNames(t *testing.T) {
	t.Parallel()
	one, two := sample(), otherJob(0)
	two.Job, two.Targets[0].Name = one.Job, "customers"
	two.Passes[0].Kind, two.Passes[0].Number = one.Passes[3].Kind, one.Passes[3].Number
	two.Passes[0].Began = one.Passes[3].Began
	for i := range two.Inventory {
		two.Inventory[i].Target = "customers"
	}
	a := document.Saved{File: "a.json", Document: one}
	b := document.Saved{File: "b.json", Document: two}
	for _, list := range [][]document.Saved{{a, b}, {b, a}} {
		merged := mergedOf(t, list)
		if merged.Job != "demo (1), demo (2)" || merged.Inventory[0].Job != "demo (1)" ||
			merged.Parts[1].Job != "demo (2)" {
			t.Errorf("job %s, inventory of %s", merged.Job, merged.Inventory[0].Job)
		}
		if v := verdictOn(t, merged, oldKey); v.Code != verdict.CanBeDisabled {
			t.Errorf("the merged verdict is %s", v.Sentence)
		}
	}
	if one.Job != "demo" || two.Job != "demo" {
		t.Error("merging changed a part")
	}
	third := otherJob(0)
	third.Targets[0].Location.Root = "/var/third"
	before := mergedOf(t, []document.Saved{a, {File: "c.json", Document: third}})
	mergedOf(t, []document.Saved{{File: "m.json", Document: before}, b})
}

// mergedOf returns a merged document that passes its checks after it was saved.
func mergedOf(t *testing.T, list []document.Saved) *document.Document {
	t.Helper()
	merged, err := document.Merge(list)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := document.Read("m", strings.NewReader(string(jsonOf(t, merged)))); err != nil {
		t.Errorf("%s and others: %v", list[0].File, err)
	}
	return merged
}

// TestMergedVerdictNeedsItsPass: one of the passes that began in the same second must support a
// verdict. If none does, the merged report is refused.
func TestMergedVerdictNeedsItsPass(t *testing.T) {
	t.Parallel()
	one, two := sample(), otherJob(0)
	p := &two.Passes[0]
	p.Kind, p.Number, p.Began = one.Passes[3].Kind, one.Passes[3].Number, one.Passes[3].Began
	merged := mergedOf(t, []document.Saved{{File: "b", Document: two}, {File: "a", Document: one}})
	for i := range merged.Passes {
		merged.Passes[i].OtherJob = true
	}
	if err := merged.Check(); err == nil || !strings.Contains(err.Error(), "passes[3]") {
		t.Errorf("the error is %v", err)
	}
}

// TestWorstVerdict: a key that is a source key in several reports has the worst verdict of them.
func TestWorstVerdict(t *testing.T) {
	t.Parallel()
	one, two := sample(), sample()
	two.Job, two.Targets[0].Location.Table, two.Targets[1].Location.Bucket = "second", "t", "b"
	v := &two.Verdicts[0]
	v.Code, v.Exit = verdict.NotProven, 3
	v.Sentence = "alias/demo-old is not yet proven to be unused."
	for _, list := range [][]document.Saved{
		{{File: "1", Document: one}, {File: "2", Document: two}},
		{{File: "2", Document: two}, {File: "1", Document: one}},
	} {
		merged, err := document.Merge(list)
		if err != nil {
			t.Fatal(err)
		}
		if got := verdictOn(t, merged, oldKey); got.Code != verdict.NotProven {
			t.Errorf("the merged verdict is %s", got.Sentence)
		}
	}
}

// TestOldVersionsOfOtherJobs: old versions of objects that another job found under a key count
// against it.
func TestOldVersionsOfOtherJobs(t *testing.T) {
	t.Parallel()
	two := otherJob(0)
	two.Targets[0].Versions = &report.Versions{
		Versions: 3,
		Slots:    report.Slots{Seen: 3, Foreign: 3},
		Keys:     []report.Key{{Key: oldKey, Slots: 3, How: "kms"}},
		Reasons:  []report.Reason{{Outcome: "foreign", Reason: "foreign-key", Slots: 3}},
	}
	merged, err := document.Merge([]document.Saved{{File: "a", Document: sample()},
		{File: "b", Document: two}})
	if err != nil {
		t.Fatal(err)
	}
	v := verdictOn(t, merged, oldKey)
	if v.Code != verdict.Cannot || v.Reason != report.ReasonVersions || !strings.HasSuffix(
		v.Sentence, "Other jobs found 3 old versions under it: 3 in the report of job archive.") {
		t.Errorf("%s: %s", v.Code, v.Sentence)
	}
	if err := merged.Check(); err != nil {
		t.Error(err)
	}
}

// TestOverlap: reports that count the same place are not merged.
func TestOverlap(t *testing.T) {
	t.Parallel()
	files := func(root string) checkpoint.Location {
		return checkpoint.Location{Kind: checkpoint.LocationFiles, Root: root}
	}
	for name, test := range map[string]struct {
		a, b    checkpoint.Location
		refused bool
	}{
		"the same table": {checkpoint.Location{Kind: checkpoint.LocationDynamoDB, Table: "t"},
			checkpoint.Location{Kind: checkpoint.LocationDynamoDB, Table: "t"}, true},
		"a table by its ARN": {checkpoint.Location{Kind: checkpoint.LocationDynamoDB, Table: "t"},
			checkpoint.Location{Kind: checkpoint.LocationDynamoDB,
				Table: "arn:aws:dynamodb:us-east-1:111122223333:table/t"}, true},
		"tables of two Regions": {
			checkpoint.Location{Kind: checkpoint.LocationDynamoDB, Table: "t", Region: "us-east-1"},
			checkpoint.Location{Kind: checkpoint.LocationDynamoDB, Table: "t", Region: "eu-west-1"},
			false},
		"a prefix in a bucket": {
			checkpoint.Location{Kind: checkpoint.LocationS3, Bucket: "b"},
			checkpoint.Location{Kind: checkpoint.LocationS3, Bucket: "b", Prefix: "p/"}, true},
		"an endpoint with a slash": {
			checkpoint.Location{Kind: checkpoint.LocationS3, Bucket: "b", Endpoint: "http://S/"},
			checkpoint.Location{Kind: checkpoint.LocationS3, Bucket: "b", Endpoint: "http://s"},
			true},
		"two prefixes": {
			checkpoint.Location{Kind: checkpoint.LocationS3, Bucket: "b", Prefix: "q/"},
			checkpoint.Location{Kind: checkpoint.LocationS3, Bucket: "b", Prefix: "p/"}, false},
		"a directory in another":        {files("/a"), files("/a/b"), true},
		"a directory in the root":       {files("/"), files("/a/b"), true},
		"a slash at the end":            {files("/a/b//"), files("/a/b"), true},
		"segments that mean nothing":    {files("/a/./c/../b"), files("/a/b/d"), true},
		"similar directories":           {files("/a"), files("/ab"), false},
		"directories beside each other": {files("/a/b/"), files("/a/c/"), false},
	} {
		one, two := otherJob(0), otherJob(0)
		one.Targets[0].Location, two.Targets[0].Location = &test.a, &test.b
		_, err := document.Merge([]document.Saved{{File: "1", Document: one},
			{File: "2", Document: two}})
		if errors.As(err, new(*document.OverlapError)) != test.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCompare: a comparison states how each count changed, and whether a source key has more
// ciphertexts in some target, also if it has fewer in all.
func TestCompare(t *testing.T) {
	t.Parallel()
	passes := history()
	now := document.Input{Now: at("2026-11-29T11:40:00Z")}
	audit, verify := document.New(passes[0].Summary, now), document.New(passes[3].Summary, now)
	mixed := document.New(summaryOf("audit", 0, 3, at("2026-11-30T10:00:00Z"),
		countsOf(0, 19857, 92, 0, 47), countsOf(1974, 19, 8, 0, 3)), now)
	for name, test := range map[string]struct {
		before, after *document.Document
		grew          bool
		want          string
	}{
		"fewer": {audit, verify, false,
			"0 ciphertexts are under a source key, 21650 fewer than before."},
		"more": {verify, audit, true, "21650 ciphertexts are under a source key, 21650 more than " +
			"before. A writer still uses a source key."},
		"the same": {verify, verify, false, "0 ciphertexts are under a source key, as before."},
		"more in one target": {audit, mixed, true, "In some places a source key has 1 ciphertext " +
			"more, although the total went from 21650 to 1974."},
	} {
		diff := document.Compare("old", test.before, "new", test.after)
		if diff.Grew != test.grew || !strings.HasPrefix(diff.Sentence, test.want) {
			t.Errorf("%s: grew: %v, %s", name, diff.Grew, diff.Sentence)
		}
		before, after := int64(0), int64(0)
		for _, c := range diff.Keys {
			before, after = before+c.Before, after+c.After
			if c.Change != c.After-c.Before {
				t.Errorf("%s: %+v", name, c)
			}
		}
		if before != test.before.Slots.Seen || after != test.after.Slots.Seen {
			t.Errorf("%s: the sums are %d and %d", name, before, after)
		}
	}
}

// TestCompareMerged: in merged reports, fewer ciphertexts of one job do not hide more of another
// job whose target has the same name.
func TestCompareMerged(t *testing.T) {
	t.Parallel()
	holding := func(job string, after int64) document.Holding {
		return document.Holding{Job: job, Target: "customers", Key: oldKey,
			Role: document.Source, After: after}
	}
	before := &document.Document{Inventory: []document.Holding{holding("a", 9), holding("b", 0)}}
	after := &document.Document{Inventory: []document.Holding{holding("a", 0), holding("b", 9)}}
	diff := document.Compare("old", before, "new", after)
	if !diff.Grew || len(diff.Keys) != 2 || diff.Keys[1].Target != "b: customers" {
		t.Errorf("grew: %v, %+v", diff.Grew, diff.Keys)
	}
}

// TestCompareUnread: the comparison names the targets that only the old report contains, and states
// that the pass of the new report was stopped.
func TestCompareUnread(t *testing.T) {
	t.Parallel()
	before, after := &document.Document{}, &document.Document{}
	before.Targets = []report.Target{{Name: "customers"}, {Name: "vault"}}
	after.Targets = before.Targets[:1]
	after.Status = report.Stopped
	diff := document.Compare("old", before, "new", after)
	for _, want := range []string{"was stopped", "does not contain the target vault."} {
		if !strings.Contains(diff.Sentence, want) {
			t.Errorf("%q is not in %q", want, diff.Sentence)
		}
	}
	if again := document.Compare("old", before, "new", before); strings.Contains(
		again.Sentence, "new report") {
		t.Errorf("equal reports: %q", again.Sentence)
	}
}
