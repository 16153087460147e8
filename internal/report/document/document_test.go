package document_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"rotator/internal/checkpoint"
	"rotator/internal/copies"
	"rotator/internal/report"
	"rotator/internal/report/document"
	"rotator/internal/verdict"
	"rotator/internal/watch"
)

var update = flag.Bool("update", false, "write the golden files")

const (
	oldKey   = "arn:aws:kms:us-east-1:111122223333:key/77010183-f077-4e9d-b8fa-44bd8b8c4ae4"
	newKey   = "arn:aws:kms:us-east-1:111122223333:key/2f0d1c52-6c6c-4c55-9d55-3a4c6e7b1a90"
	otherKey = "arn:aws:kms:us-east-1:111122223333:key/06e1edf9-0b6e-4d8c-8b0a-5a1f6c2d7e3b"
)

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

// countsOf returns the counts of a target: the slots under each key, how many were moved, and how
// many failed.
func countsOf(old, new, other, moved, failed int64) checkpoint.Counts {
	c := checkpoint.Counts{Slots: checkpoint.SlotCounts{
		Seen:    old + new + other + failed,
		Rotated: moved,
		Current: new,
		Foreign: other,
		Failed:  failed,
	}}
	c.Slots.Remaining = old - moved
	c.Items = checkpoint.ItemCounts{Seen: c.Slots.Seen, Ruled: c.Slots.Seen, Written: moved}
	c.AddKey(oldKey, checkpoint.KeyCount{Slots: old, Rotated: moved})
	c.AddKey(newKey, checkpoint.KeyCount{Slots: new, Header: new * 9 / 10})
	c.AddKey(otherKey, checkpoint.KeyCount{Slots: other})
	c.AddReason("foreign/foreign-key", other)
	c.AddReason("failed/invalid-ciphertext", failed)
	c.AddOrigin(checkpoint.OriginNone, failed)
	c.Rules = map[string]checkpoint.RuleCounts{"raw": {Found: c.Slots.Seen}}
	return c
}

// summaryOf returns a result with a table and a bucket.
func summaryOf(
	command string, pass, read int, began time.Time, customers, vault checkpoint.Counts,
) *report.Summary {
	s := &report.Summary{
		Job:            "demo",
		Command:        command,
		Mode:           report.ModeMove,
		Pass:           pass,
		ReadPass:       read,
		Status:         report.Complete,
		Account:        "111122223333",
		Caller:         "arn:aws:sts::111122223333:assumed-role/rotator/demo",
		AsOf:           began,
		Started:        began,
		Ended:          began.Add(2200 * time.Millisecond),
		DestinationKey: newKey,
		Version:        "1.8.0",
		KMS:            report.KMS{Requests: 1119, Throttled: 3},
	}
	s.SetSources([]checkpoint.Key{
		{ARN: oldKey, Given: "alias/demo-old", Algorithm: "SYMMETRIC_DEFAULT"},
	}, false)
	s.SetTargets([]report.TargetInfo{
		{Name: "customers", Location: &checkpoint.Location{Kind: checkpoint.LocationDynamoDB,
			Table: "customers", Region: "us-east-1", Account: "111122223333", Format: "raw"}},
		{Name: "vault", Location: &checkpoint.Location{Kind: checkpoint.LocationS3,
			Bucket: "vault", Prefix: "prod/", Region: "us-east-1", Format: "base64"}},
	}, map[string]checkpoint.Counts{"customers": customers, "vault": vault})
	s.SetSamples([]checkpoint.Sample{{Population: 19665, Checked: 1000}})
	s.Conclude()
	return s
}

// history returns an audit, a pass that moved everything, a pass that moved what a late writer
// stored, and a verify.
func history() (list []document.Stored) {
	for i, s := range []*report.Summary{
		summaryOf("audit", 0, 1, at("2026-11-29T10:34:01Z"),
			countsOf(19677, 180, 92, 0, 47), countsOf(1973, 20, 8, 0, 3)),
		summaryOf("run", 1, 0, at("2026-11-29T10:34:04Z"),
			countsOf(19677, 180, 92, 19677, 47), countsOf(1973, 20, 8, 1973, 3)),
		summaryOf("run", 2, 0, at("2026-11-29T10:34:17Z"),
			countsOf(405, 19456, 92, 405, 47), countsOf(0, 1989, 8, 0, 3)),
		summaryOf("verify", 0, 2, at("2026-11-29T10:34:21Z"),
			countsOf(0, 19861, 92, 0, 47), countsOf(0, 1989, 8, 0, 3)),
	} {
		one := document.Stored{Summary: s, Hosts: []string{"host-1"}, Reported: i == 3}
		if s.Pass > 0 {
			one.Logs = []checkpoint.AuditLog{{Host: "host-1", Name: "demo.audit.1.jsonl",
				Lines: 44178, Head: strings.Repeat("5d9e", 16)}}
		}
		list = append(list, one)
	}
	return list
}

// exceptions returns n exceptions.
func exceptions(n int) (list []checkpoint.LedgerEntry) {
	for i := range n {
		e := checkpoint.LedgerEntry{
			Target:    "customers",
			Ref:       `{"id":{"S":"customer-000` + string(rune('a'+i%26)) + `"}}`,
			Path:      "ssn",
			Blob:      strings.Repeat("9bc6", 16),
			Outcome:   "failed",
			Reason:    "invalid-ciphertext",
			Detail:    "KMS refused the ciphertext (InvalidCiphertextException)",
			Attempts:  1,
			At:        at("2026-11-29T10:34:22Z"),
			Origin:    checkpoint.OriginNone,
			HeaderKey: checkpoint.HeaderNone,
		}
		if i%3 > 0 {
			e.Outcome, e.Reason, e.Detail, e.Key = "foreign", "foreign-key", "", otherKey
			e.Origin, e.HeaderKey = "", otherKey
		}
		list = append(list, e)
	}
	return list
}

func copied() *copies.Result {
	return &copies.Result{Asked: at("2026-11-29T11:40:00Z"), LastMove: at("2026-11-29T10:34:20Z"),
		Rows: []copies.Row{
			{Kind: copies.Noncurrent, Target: "vault", Place: "vault/prod/", State: copies.Counted,
				Count: 1973, Bytes: 812345, Until: at("2026-12-29T00:00:00Z"),
				API:    "ListObjectVersions",
				Detail: "Lifecycle rule noncurrent-30d deletes them after 30 days."},
			{Kind: copies.Recovery, Target: "customers", Place: "customers", State: copies.Counted,
				Count: 1, Until: at("2027-01-03T10:34:20Z"), API: "DescribeContinuousBackups",
				Detail: "Point-in-time recovery covers 35 days."},
			{Kind: copies.Backups, Target: "customers", Place: "customers", State: copies.Counted,
				Count: 1, NoEnd: true, API: "ListBackups", Detail: "customers-nightly"},
			{Kind: copies.Stream, Target: "customers", Place: "customers", State: copies.Counted,
				Count: 1, Until: at("2026-11-30T10:34:20Z"), API: "DescribeTable",
				Detail: "Stream records are kept for 24 hours."},
			{Kind: copies.AWSBackup, Target: "customers", Place: "customers",
				State: copies.CannotSee, API: "ListRecoveryPointsByResource",
				Detail:            "Access denied.",
				MissingPermission: "backup:ListRecoveryPointsByResource"},
			{Kind: copies.Exports, Target: "customers", Place: "customers", State: copies.None,
				API: "ListExports", Detail: "No export was made in the last 90 days."},
			{Kind: copies.Elsewhere, State: copies.NotLookedAt,
				Detail: "No AWS API lists dumps, caches and data warehouses."},
		}}
}

// used returns what AWS stated about oldKey: another caller used it before the last pass.
func used() *watch.Result {
	asked := at("2026-11-29T11:40:00Z")
	return &watch.Result{Job: "demo", Asked: asked, Since: at("2026-11-29T10:34:21Z"),
		Status: watch.Quiet, Keys: []watch.Key{{
			ARN: oldKey, Given: "alias/demo-old", Status: watch.Quiet,
			Sentence: "alias/demo-old has no known use by another caller than rotator since " +
				"2026-11-29T10:34:21Z.",
			State: "Enabled", Spec: "SYMMETRIC_DEFAULT", Created: at("2025-10-01T09:00:00Z"),
			LastUsage: watch.Usage{Asked: asked, Tracking: at("2026-04-23T00:00:00Z"),
				At: at("2026-11-29T10:34:22Z"), Operation: "ReEncrypt", RequestID: "7c0f-1",
				By: watch.ByRotator},
			Trail: watch.Trail{Asked: asked, From: at("2026-11-29T10:34:21Z"), Pages: 1,
				Events: 42, Own: 42, Callers: []watch.Caller{{
					ARN:       "arn:aws:iam::111122223333:role/orders-reader",
					Operation: "Decrypt", Result: "DryRunOperationException", Calls: 3,
					First: at("2026-11-29T10:40:00Z"), Last: at("2026-11-29T10:41:00Z")}}},
			Grants: []watch.Grant{{ID: "g-1", Grantee: "arn:aws:iam::111122223333:role/orders",
				Operations: []string{"Decrypt"}}},
			Aliases: []string{"alias/demo-old"},
			Rotation: &watch.Rotation{Enabled: true, PeriodDays: 365,
				Next: at("2027-10-01T09:00:00Z"), Materials: []watch.Material{
					{ID: strings.Repeat("a1", 32), State: "NON_CURRENT"},
					{ID: strings.Repeat("b2", 32), State: "CURRENT",
						Rotated: at("2026-10-01T09:00:00Z")}}},
			CannotSee: []watch.Unseen{},
			Facts: []watch.Fact{
				{About: "last use", Sentence: "ReEncrypt at 2026-11-29T10:34:22Z, by rotator " +
					"itself (request 7c0f-1). KMS can report a use up to 1 hour late."},
				{About: "calls", Sentence: "CloudTrail has 3 calls by other callers."},
			},
		}}}
}

// sample returns the document of the last pass of history.
func sample() *document.Document {
	passes := history()
	last := passes[3].Summary
	found := copied()
	var judged []verdict.Pass
	for _, p := range passes {
		judged = append(judged, p.Summary.VerdictPass())
	}
	until := []verdict.Copy{}
	for _, row := range found.Rows {
		if row.Kind != copies.Elsewhere {
			until = append(until, verdict.Copy{Kind: row.Kind.Name(), Place: row.Place,
				State: verdict.CopyState(row.State), Count: row.Count, Until: row.Until,
				NoEnd: row.NoEnd, Missing: row.MissingPermission})
		}
	}
	last.Judge(verdict.Input{Now: at("2026-11-29T11:40:00Z"), MaxAge: 24 * time.Hour,
		JobFile: "job.yaml", Passes: judged, Copies: until}, nil)
	return document.New(last, document.Input{
		Now:        at("2026-11-29T11:40:00Z"),
		Passes:     passes,
		Exceptions: exceptions(20),
		Copies:     found,
		Use:        used(),
	})
}

// golden compares a text with a golden file.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; if this is intended, run the test with -update", name)
	}
}

// TestDocument: the JSON form of a document is as in the golden file, reads as the same document,
// and is written as the same bytes again.
func TestDocument(t *testing.T) {
	t.Parallel()
	d := sample()
	if err := d.Check(); err != nil {
		t.Fatal(err)
	}
	first := jsonOf(t, d)
	golden(t, "report.json", first)
	read, err := document.Read("report.json", bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	if again := jsonOf(t, read); !bytes.Equal(again, first) {
		t.Errorf("the document was read as another one:\n%s", again)
	}
	var before, after bytes.Buffer
	if err := d.Text(&before); err != nil {
		t.Fatal(err)
	}
	if err := read.Text(&after); err != nil {
		t.Fatal(err)
	}
	if before.String() != after.String() {
		t.Errorf("the text of the saved document is\n%s\nand was\n%s", after.String(),
			before.String())
	}
}

// TestInventory: both columns have the sum of the slots of their pass, and moved slots are under
// the destination key.
func TestInventory(t *testing.T) {
	t.Parallel()
	passes := history()[:2]
	passes[1].Reported = true
	d := document.New(passes[1].Summary, document.Input{Passes: passes,
		Now: at("2026-11-29T11:40:00Z")})
	var before, after, under int64
	for _, h := range d.Inventory {
		before += *h.Before
		after += h.After
		if h.Role == document.Source {
			under += h.After
		}
	}
	if before != d.Slots.Seen || after != d.Slots.Seen || under != 0 {
		t.Errorf("before %d, after %d, under the source key %d, seen %d", before, after, under,
			d.Slots.Seen)
	}
	if p := d.Passes[1]; p.Found != 21650 || p.Left != 0 {
		t.Errorf("pass 1 found %d and left %d", p.Found, p.Left)
	}
}

// TestManyExceptions: a document lists a limited number of exceptions, and counts the others.
func TestManyExceptions(t *testing.T) {
	t.Parallel()
	s := summaryOf("audit", 0, 1, at("2026-11-29T10:34:01Z"), countsOf(0, 1, 0, 0, 1_000_000),
		countsOf(0, 1, 0, 0, 0))
	s.Judge(verdict.Input{Passes: []verdict.Pass{s.VerdictPass()}}, nil)
	d := document.New(s, document.Input{Now: at("2026-11-29T11:40:00Z"),
		Exceptions: exceptions(2 * document.MaxListed)})
	if e := d.Exceptions; e.Total != 1_000_000 || len(e.Listed) != document.MaxListed ||
		e.LeftOut != 1_000_000-document.MaxListed {
		t.Errorf("of %d exceptions, %d are listed and %d left out", e.Total, len(e.Listed),
			e.LeftOut)
	}
	if err := d.Check(); err != nil {
		t.Error(err)
	}
}

func jsonOf(t *testing.T, d *document.Document) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := d.JSON(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestText: the text begins with the sentence, and its lines have at most 80 characters, except for
// commands.
func TestText(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := sample().Text(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.txt", b.Bytes())
	if !strings.HasPrefix(b.String(), "alias/demo-old can be disabled. None of the 22,000") {
		t.Errorf("the text begins with %.80s", b.String())
	}
	for line := range strings.Lines(b.String()) {
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > 80 && !strings.HasPrefix(line, "     aws ") {
			t.Errorf("a line has %d characters: %s", n, line)
		}
		if strings.TrimRight(line, " ") != line {
			t.Errorf("a line ends with a space: %q", line)
		}
	}
}
