package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/report"
)

// blob returns a new ciphertext under the old key.
func (b *crashBench) blob(t *testing.T, i int) string {
	t.Helper()
	blob, err := b.server.KMS().Encrypt(b.old, []byte(crashSecret(i)),
		map[string]string{"purpose": "pii"})
	if err != nil {
		t.Fatal(err)
	}
	return string(blob)
}

// only checks that a report counts only the items of the user and has a note on each kind of
// skipped file.
func only(t *testing.T, s report.Summary, items, own int64, kinds ...string) {
	t.Helper()
	if s.Items.Seen != items || s.Slots.Seen != items || s.Items.WithoutSlot != 0 ||
		s.Items.Own < own || s.Slots.Exceptions() > 0 {
		t.Errorf("%s counts %+v and %+v, want %d items and at least %d of rotator itself",
			s.Command,
			s.Items, s.Slots, items, own)
	}
	notes := strings.Join(s.Notes, "\n")
	for _, kind := range kinds {
		if !strings.Contains(notes, "file of rotator itself ("+kind+")") {
			t.Errorf("%s: no note about the %s:\n%s", s.Command, kind, notes)
		}
	}
}

// copies writes further files that a directory of a job can contain: copies of the state, logs of
// other machines, and reports.
func (b *crashBench) copies(t *testing.T, dir string) {
	t.Helper()
	_, evidence, _ := b.rotator(t, exitDone, "report")
	cmd, text, log := b.command(t.Context(), "report", "-f", "job.yaml")
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, log)
	}
	for name, content := range map[string]string{
		"old.jsonl":     b.read(t, benchLog),
		"state.bak":     b.read(t, benchState),
		"lock.bak":      b.read(t, benchState+".lock"),
		"evidence.json": evidence,
		"evidence.txt":  text.String(),
		".rotator/other-host/crash.audit.2.jsonl": b.read(t, benchLog),
	} {
		b.put(t, filepath.Join(dir, name), content)
	}
}

// TestOwnFilesInADirectory: the state of a job, copies of it and reports are in
// the scanned directory. They are left out and not counted, with every format.
func TestOwnFilesInADirectory(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"raw", "auto"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			b := newCrashBench(t, 0, 1000)
			b.files(t, format)
			const n = 4
			for i := range n {
				b.put(t, fmt.Sprintf("secret-%d.bin", i), b.blob(t, i))
			}
			s, _, _ := b.rotator(t, exitDone, "run")
			only(t, s, n, 0)
			b.copies(t, ".")
			for _, command := range []string{"run", "verify"} {
				s, _, _ := b.rotator(t, exitDone, command)
				only(t, s, n, 5, "audit log", "checkpoint file", "checkpoint lock", "report")
				if !s.Converged {
					t.Errorf("%s has not converged", command)
				}
			}
		})
	}
}

// files writes a job over the files of the directory of the bench.
func (b *crashBench) files(t *testing.T, format string) {
	t.Helper()
	slots := "    slots: [{context: {purpose: pii}}]\n"
	if format == "auto" {
		slots = "    context: {purpose: pii}\n"
	}
	b.put(t, "job.yaml",
		fmt.Sprintf("job: crash\ndestination: {key: %q}\nsource: {keys: [%q]}\nworkers: 2\n"+
			"targets:\n  - name: all\n    files: {root: .}\n    format: %s\n%s", b.new, b.old,
			format, slots))
}

// TestOwnObjectsInABucket: the checkpoint is in the bucket and under the prefix that are
// scanned, and so are its uploaded audit log, and an audit log and a report that were copied there.
func TestOwnObjectsInABucket(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"raw", "s3-encryption-client"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			b := newCrashBench(t, 0, 1000)
			client := s3.NewFromConfig(b.aws, func(o *s3.Options) { o.UsePathStyle = true })
			if _, err := client.CreateBucket(t.Context(),
				&s3.CreateBucketInput{Bucket: aws.String("vault")}); err != nil {
				t.Fatal(err)
			}
			put := func(key, body string) {
				t.Helper()
				in := &s3.PutObjectInput{
					Bucket: aws.String("vault"),
					Key:    &key,
					Body:   strings.NewReader(body),
				}
				if _, err := client.PutObject(t.Context(), in); err != nil {
					t.Fatal(err)
				}
			}
			n := int64(0)
			slots := ""
			if format == "raw" {
				slots = "    slots: [{context: {purpose: pii}}]\n"
				for ; n < 4; n++ {
					put(fmt.Sprintf("prod/secret-%d", n), b.blob(t, int(n)))
				}
			}
			b.put(t, "job.yaml",
				fmt.Sprintf("job: crash\ndestination: {key: %q}\nsource: {keys: [%q]}\n"+
					"workers: 2\n"+
					"checkpoint: s3://vault/prod/state\nlease: 1s\ntargets:\n  - name: vault\n"+
					"    s3: {bucket: vault, prefix: prod/}\n"+
					"    format: %s\n    may_be_empty: true\n%s", b.new, b.old, format, slots))
			s, _, _ := b.rotator(t, exitDone, "run")
			only(t, s, n, 1, "checkpoint record")
			if format == "raw" {
				put("prod/crash.audit.jsonl.000001.zst", b.read(t, benchLog+".000001.zst"))
				_, evidence, _ := b.rotator(t, exitDone, "report")
				put("prod/evidence.json", evidence)
				s, _, _ = b.rotator(t, exitDone, "verify")
				only(t, s, n, 6, "checkpoint record", "audit log", "report")
			}
		})
	}
}

// TestOwnItemsInATable: the checkpoint is in the table that is scanned.
func TestOwnItemsInATable(t *testing.T) {
	t.Parallel()
	const n = 30
	b := newCrashBench(t, n, 1000)
	b.put(t, "job.yaml", "checkpoint: dynamodb://customers\n"+b.read(t, "job.yaml"))
	s, _, _ := b.rotator(t, exitDone, "run")
	only(t, s, n, 1, "checkpoint record")
	s, _, _ = b.rotator(t, exitDone, "verify")
	only(t, s, n, 3, "checkpoint record")
	if !s.Converged {
		t.Error("verify has not converged")
	}
}

// TestLookalikesAreItems: a file that begins like one of rotator, and contains a ciphertext, is an
// ordinary item.
func TestLookalikesAreItems(t *testing.T) {
	t.Parallel()
	b := newCrashBench(t, 0, 1000)
	b.files(t, "raw")
	b.put(t, "secret.bin", b.blob(t, 0))
	b.rotator(t, exitDone, "run")
	b.put(t, "lookalike.jsonl", b.read(t, benchLog)+b.blob(t, 1))
	s, _, _ := b.rotator(t, exitExceptions, "run")
	if s.Items.Seen != 2 || s.Slots.Failed != 1 || s.Items.Own != 0 {
		t.Errorf("items %+v, slots %+v", s.Items, s.Slots)
	}
	if err := os.Remove(filepath.Join(b.dir, "lookalike.jsonl")); err != nil {
		t.Fatal(err)
	}
}
