package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
)

// TestSameWork: what an older version did not have, and now has to be stated, makes no other
// work of an unfinished pass.
func TestSameWork(t *testing.T) {
	t.Parallel()
	load := func(text string) *config.Job {
		t.Helper()
		path := filepath.Join(t.TempDir(), "job.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		job, err := config.Load(path, os.LookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		return job
	}
	const text = `job: j
destination: {key: alias/a, algorithm: ALGORITHM}
source: {keys: [alias/a]}
targets:
  - dynamodb: {table: t}
    format: raw
    slots: [{path: p, context: {c: d}, MORE}]
`
	make := func(algorithm, more, mode string) *config.Job {
		t.Helper()
		return load(mode + strings.NewReplacer("ALGORITHM", algorithm, ", MORE", more).
			Replace(text))
	}
	const symmetric, rsa, empty = "SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_256",
		", destination_context: {}"
	for _, test := range []struct {
		name     string
		was, now *config.Job
		same     bool
	}{
		{"a mode", make(symmetric, "", ""), make(symmetric, "", "mode: refresh\n"), true},
		{"the other mode", make(symmetric, empty, ""),
			make(symmetric, empty, "mode: context\n"), true},
		{"a confirmed context", make(rsa, "", ""), make(rsa, empty, ""), true},
		{"the same", make(rsa, empty, ""), make(rsa, empty, ""), true},
		{"a context that is dropped", make(symmetric, "", ""), make(symmetric, empty, ""), false},
		{"another context", make(symmetric, "", ""),
			make(symmetric, ", destination_context: {x: y}", ""), false},
	} {
		print, err := fingerprint(test.was)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := sameWork(checkpoint.Pass{Fingerprint: print}, test.now); err != nil ||
			same != test.same {
			t.Errorf("%s: the same work %v, %v, want %v", test.name, same, err, test.same)
		}
	}
}
