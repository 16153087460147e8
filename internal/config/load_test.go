package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// environment returns the variables that job files in tests can use.
func environment(name string) (string, bool) {
	value, ok := map[string]string{
		"JOB":       "from-env",
		"EMPTY":     "",
		"TOKEN":     "a-very-secret-token",
		"REFERENCE": "${tenant_id}",
		"INJECT":    "raw\n    slots: [{path: other}]",
	}[name]
	return value, ok
}

// load parses text as the file dir/job.yaml.
func load(t *testing.T, text string) *Job {
	t.Helper()
	job, err := Parse("dir/job.yaml", []byte(text), environment)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

const minimal = `
job: a
destination: { key: alias/new }
source: { keys: [alias/old] }
targets:
  - dynamodb: { table: customers }
    format: raw
    slots: [{ path: ssn }]
  - s3: { bucket: secrets, prefix: prod/ }
    format: base64
    slots: [{}]
  - s3: { bucket: secrets }
    format: base64
    slots: [{}]
`

func TestDefaults(t *testing.T) {
	got := load(t, minimal)
	want := &Job{
		Job:         "a",
		Mode:        "move",
		Destination: Destination{Key: "alias/new", Algorithm: "SYMMETRIC_DEFAULT"},
		Source:      Source{Keys: []string{"alias/old"}, Algorithm: "SYMMETRIC_DEFAULT"},
		KMS:         KMS{Rate: 1000},
		Targets: []Target{
			{
				Name:     "customers",
				DynamoDB: &DynamoDB{Table: "customers", Segments: 8, BatchWrites: "auto"},
				Format:   "raw",
				Slots:    []Slot{{Path: "ssn"}},
				Search:   "read",
			},
			{
				Name:   "secrets/prod/",
				S3:     &S3{Bucket: "secrets", Prefix: "prod/"},
				Format: "base64",
				Slots:  []Slot{{}},
				Search: "read",
			},
			{
				Name:   "secrets",
				S3:     &S3{Bucket: "secrets"},
				Format: "base64",
				Slots:  []Slot{{}},
				Search: "read",
			},
		},
		Checkpoint:      "file:dir/.rotator/state.db",
		AuditLog:        "dir/.rotator/a.audit.jsonl",
		Lease:           DefaultLease,
		MaxOutage:       Duration(10 * time.Minute),
		AuditLogSegment: 32 << 20,
		StopAfter:       50,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Job{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got.CheckpointLocation().File != "dir/.rotator/state.db" || got.File() != "dir/job.yaml" {
		t.Errorf("checkpoint %q, file %q", got.CheckpointLocation().File, got.File())
	}
}

// TestValuesAreKept: case, empty contexts, anchors, merge keys and absolute paths have the meaning
// that the file gives them.
func TestValuesAreKept(t *testing.T) {
	got := load(t, "\ufeff"+`
job: ${env:JOB}
destination: { key: 1234abcd-12ab-34cd-56ef-1234567890ab }
source: { any: true }
kms: { rate: 0.5, grant_tokens: ["${env:TOKEN}", other] }
targets:
  - dynamodb: { table: t, segments: 1000000, read_capacity: 10 }
    format: raw
    slots:
      - path: a
        context: &c { Tenant: "${tenant_id}", tenant: "x ${env:JOB}-${b} y", 7: "7", Ünï: "é" }
        destination_context: {}
      - path: b
        context: *c
        destination_context: { <<: *c, tenant: other, tag: "${env:JOB}" }
checkpoint: file:/var/state.db
audit_log: logs/audit.jsonl
max_outage: 1h30m
workers: 1
`)
	context := map[string]string{
		"Tenant": "${tenant_id}",
		"tenant": "x from-env-${b} y",
		"7":      "7",
		"Ünï":    "é",
	}
	want := []Slot{
		{Path: "a", Context: context, DestinationContext: map[string]string{}},
		{Path: "b", Context: context, DestinationContext: map[string]string{
			"Tenant": "${tenant_id}",
			"tenant": "other",
			"7":      "7",
			"Ünï":    "é",
			"tag":    "from-env",
		}},
	}
	if diff := cmp.Diff(want, got.Targets[0].Slots); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
	if got.Job != "from-env" || got.KMS.Rate != 0.5 ||
		got.MaxOutage != Duration(90*time.Minute) || got.Workers != 1 {
		t.Errorf("got %+v", got)
	}
	if got.Checkpoint != "file:/var/state.db" || got.AuditLog != "dir/logs/audit.jsonl" {
		t.Errorf("checkpoint %q, audit log %q", got.Checkpoint, got.AuditLog)
	}
	if load(t, minimal).Targets[0].Slots[0].DestinationContext != nil {
		t.Error("DestinationContext is not nil although the file does not set it")
	}
}

// TestSegments: auto is the default. It means more segments if several runs can share the pass.
func TestSegments(t *testing.T) {
	for location, want := range map[string]Segments{
		"file:state.db": 8, "dynamodb://state": 64, "s3://bucket/prefix": 64,
	} {
		for written, want := range map[string]Segments{
			"":                 want,
			", segments: auto": want,
			", segments: 12":   12,
		} {
			text := strings.Replace(minimal, "table: customers", "table: customers"+written, 1)
			job := load(t, "checkpoint: "+location+"\n"+text)
			if got := job.Targets[0].DynamoDB.Segments; got != want {
				t.Errorf("%s%s: %d segments, want %d", location, written, got, want)
			}
		}
	}
}

// TestEnvironmentCannotInject: the value of an environment variable is one YAML value, even if it
// contains YAML syntax.
func TestEnvironmentCannotInject(t *testing.T) {
	job := load(t, strings.Replace(minimal, "path: ssn", `path: "${env:INJECT}"`, 1))
	want := []Slot{{Path: "raw\n    slots: [{path: other}]"}}
	if got := job.Targets[0].Slots; !cmp.Equal(want, got) {
		t.Errorf("slots %+v, want %+v", got, want)
	}
}

func TestProblemsPointIntoTheFile(t *testing.T) {
	job := load(t, minimal)
	for field, want := range map[string]string{
		"job":                              "2:6",
		"destination.key":                  "3:21",
		"source.keys[0]":                   "4:18",
		"targets":                          "5:1",
		"targets[0].dynamodb.table":        "6:24",
		"targets[0].dynamodb.segments":     "6:5", // missing; has the position of its parent
		"targets[0].slots[0].path":         "8:21",
		`targets[0].slots[0].context["x"]`: "8:13",
		"targets[1].s3.bucket":             "9:19",
		"targets[2]":                       "12:5",
		"workers":                          "1:1",
	} {
		p := job.Problem(field, "is wrong")
		if got := fmt.Sprintf("%d:%d", p.Line, p.Column); got != want {
			t.Errorf("%s is at %s, want %s", field, got, want)
		}
	}
	err := &Problems{
		File: job.File(),
		List: []Problem{job.Problem("targets[0].dynamodb.table", "there is no such table")},
	}
	want := "dir/job.yaml:6:24: targets[0].dynamodb.table: there is no such table"
	if err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

// TestBadJobFiles: for each file of testdata/bad, all problems are reported, with their position
// and a way to fix them.
func TestBadJobFiles(t *testing.T) {
	paths, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%v, %v", paths, err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			job, err := Load(path, environment)
			var problems *Problems
			if job != nil || !errors.As(err, &problems) {
				t.Fatalf("got %+v, %v, want *Problems", job, err)
			}
			problems.File = filepath.Base(path)
			golden(t, strings.TrimSuffix(path, ".yaml")+".golden", []byte(err.Error()+"\n"))
			for _, secret := range []string{"very-secret", "user:secret"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the message contains a secret: %v", err)
				}
			}
		})
	}
}

func TestFilesThatAreNotJobFiles(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, make([]byte, MaxSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none.yaml"): "none.yaml: cannot read the job file: " +
			"no such file or directory",
		dir:   ": cannot read the job file: is a directory",
		large: "large.yaml: the file is larger than 1048576 bytes",
	} {
		var problems *Problems
		if _, err := Load(path, environment); !errors.As(err, &problems) ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
}

// TestCostIsBounded: files for which the parser, or the expansion of aliases, would need minutes or
// all memory are refused quickly.
func TestCostIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("it measures a time")
	}
	layers := "a0: &a0 {k: v}\n"
	for i := range 30 {
		layers += fmt.Sprintf("a%d: &a%d {<<: [*a%d, *a%d]}\n", i+1, i+1, i, i)
	}
	for name, text := range map[string]string{
		"nested flow":     "job: " + strings.Repeat("[", MaxSize/2),
		"nested dashes":   strings.Repeat("- ", MaxSize/2),
		"nested tags":     strings.Repeat("!!x ", MaxSize/4),
		"nested anchors":  strings.Repeat("&a ", MaxSize/4),
		"many fields":     strings.Repeat("a: b\n", MaxSize/5),
		"merged layers":   layers + "kms: *a30\n",
		"a merged itself": "kms: &k {<<: *k}\n",
		"aliased lists": "targets: [&t {slots: [&s {path: a}" + strings.Repeat(", *s", 5000) +
			"]}" +
			strings.Repeat(", *t", 5000) + "]\n",
	} {
		start := time.Now()
		_, err := Parse("job.yaml", []byte(text), environment)
		if err == nil {
			t.Errorf("%s: accepted, want an error", name)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s: refused after %v, want at most 20s", name, took)
		}
	}
}

// TestGrantTokensAreNeverPrinted: neither fmt nor a marshaller prints the grant tokens of a job.
func TestGrantTokensAreNeverPrinted(t *testing.T) {
	job := load(t, minimal+`kms: { grant_tokens: ["${env:TOKEN}"] }`)
	tokens := []string(job.KMS.GrantTokens)
	if !cmp.Equal(tokens, []string{"a-very-secret-token"}) {
		t.Fatalf("tokens %q", tokens)
	}
	asJSON, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	printed := string(asJSON) + string(asYAML) + job.KMS.GrantTokens.String() +
		fmt.Sprint(job.KMS, *job, job.KMS.GrantTokens)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		printed += fmt.Sprintf(verb, *job) + fmt.Sprintf(verb, job.KMS.GrantTokens)
	}
	for _, form := range []string{"%s", "%x", "%X"} {
		if token := fmt.Sprintf(form, "very-secret"); strings.Contains(printed, token) {
			t.Errorf("the output contains a grant token as %s", token)
		}
	}
	if !strings.Contains(printed, redacted) {
		t.Error("the output does not contain the placeholder for a grant token")
	}
}

// TestStopAfters: without stop_after, a slot has the value of its target, and a target has the
// value of the job. A value of 0 is kept.
func TestStopAfters(t *testing.T) {
	job := load(t, `job: x
destination: {key: alias/new}
source: {keys: [alias/old]}
stop_after: 7
targets:
  - dynamodb: {table: a}
    format: raw
    slots: [{path: b}, {path: c, stop_after: 0}, {path: d, stop_after: 9}]
  - {s3: {bucket: b}, format: auto, stop_after: 0}
  - {s3: {bucket: c}, format: auto}
`)
	for i, want := range [][]int{{7, 0, 9}, {0}, {7}} {
		if got := job.StopAfters(i); !slices.Equal(got, want) {
			t.Errorf("targets[%d]: %v, want %v", i, got, want)
		}
	}
}
