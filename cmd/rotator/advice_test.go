package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"rotator/internal/fakeaws/fakedynamodb"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/harness"
	"rotator/internal/retry"
)

// TestFullStdout writes the output of every command to a full disk.
func TestFullStdout(t *testing.T) {
	t.Parallel()
	w := newTrial(t, fewer())
	w.Must(t, complete(), "run", "-o", "json")
	for _, c := range []struct {
		command string
		jobless bool
	}{
		{"status", false}, {"status -o json", false},
		{"report", false}, {"report -o json", false}, {"report --check", false},
		{"report --ledger", false}, {"report --ledger -o json", false},
		{"audit", false}, {"verify -o json", false}, {"audit --fail-on-remaining", false},
		{"retry", false}, {"run -o json", false},
		{"version", true}, {"schema", true},
		{"help", true}, {"help run", true}, {"--help", true}, {"audit --help", true},
		{"completion bash", true},
	} {
		p := w.Command(strings.Fields(c.command)...)
		if c.jobless {
			p.Args = p.Args[:len(p.Args)-2] // -f job.yaml
		}
		fullStdout(t, p)
		r := p.Begin(t).End(t)
		if r.Code != exitStorage || !strings.Contains(r.Log, "write to stdout: ") ||
			!strings.Contains(r.Log, "no space left on device") {
			t.Errorf("want exit code %d and the reason: %s", exitStorage, r)
		}
	}
}

// fullStdout makes every write of a command to stdout fail.
func fullStdout(t *testing.T, p *harness.Process) {
	t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = full.Close() })
	p.Stdout = full
}

// TestExceptionsIntoOutput: a list of exceptions replaces its file, so it cannot be the file
// to which the result is written.
func TestExceptionsIntoOutput(t *testing.T) {
	t.Parallel()
	w := newTrial(t, fewer())
	path := filepath.Join(w.Dir, "result")
	for _, list := range []string{path, "/dev/stdout", "/dev/fd/1"} {
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		p := w.Command("verify", "--exceptions", list)
		p.Stdout = file
		r := p.Begin(t).End(t)
		_ = file.Close()
		if r.Code != exitUsage || !strings.Contains(r.Log, "stdout is written to this file too") {
			t.Errorf("%s: want exit code %d and the reason: %s", list, exitUsage, r)
		}
	}
}

// TestStoppedCommandsAdvise sends SIGTERM to running commands. The advice is to resume a run
// or retry, and to start audit and verify over.
func TestStoppedCommandsAdvise(t *testing.T) {
	t.Parallel()
	w := newTrial(t, harness.Config{Rate: 40})
	for command, advice := range map[string]string{
		"audit":  "audit saves no progress, so it starts over when it is run again",
		"verify": "verify saves no progress, so it starts over when it is run again",
		"run":    "Continue with: rotator run -f job.yaml",
	} {
		p := w.Command(command, "--exact").Begin(t)
		until(t, "some requests", requestsSent(w, 10))
		p.Signal(t, syscall.SIGTERM)
		r := p.End(t)
		if r.Code != exitInterrupted || !strings.Contains(r.Log, advice) {
			t.Errorf("want exit code %d and %q: %s", exitInterrupted, advice, r)
		}
		if goesOn := strings.Contains(r.Log, "ontinue"); goesOn != (command == "run") ||
			strings.Contains(r.Log, "to resume") {
			t.Errorf("%s: the advice to resume applies to run only: %s", command, r)
		}
	}
}

// deniedInLedger checks the report of a run that stopped because of denials: the number of
// denied slots in the ledger.
func deniedInLedger(t *testing.T, w *harness.Env, r harness.Result) {
	t.Helper()
	n := 0
	for _, e := range ledger(t, w) {
		if retry.DeniedReason(e.Reason) {
			n++
		}
	}
	want := "rotator: no slot is in the ledger because of this"
	if n > 0 {
		want = fmt.Sprintf("rotator: %d slots of this pass are in the ledger because access was "+
			"denied", n)
	}
	if !strings.Contains(r.Log, want) {
		t.Errorf("want %q: %s", want, r)
	}
}

// TestExitCodePrecedence: of several causes the code of the first in the documented order is
// used.
func TestExitCodePrecedence(t *testing.T) {
	t.Parallel()
	codes := []int{exitJob, exitAccess, exitBusy, exitStorage, exitUnavailable, exitInterrupted,
		exitRemaining, exitExceptions}
	for i, first := range codes {
		for _, second := range codes[i:] {
			errs := []error{&outcomeError{code: first, text: "one"},
				&outcomeError{code: second, text: "other"}}
			for range 2 {
				if got, _ := exitCode("run", joined(errs)); got != first {
					t.Errorf("%d and %d give %d, want %d", first, second, got, first)
				}
				slices.Reverse(errs)
			}
		}
	}
}

type joined []error

func (j joined) Error() string   { return "several" }
func (j joined) Unwrap() []error { return j }

// TestUnusableKeys: the error for a key that cannot be used names the key, the reason, and
// the commands that make it usable. Following them works.
func TestUnusableKeys(t *testing.T) {
	t.Parallel()
	w := newTrial(t, fewer())
	client := kms.NewFromConfig(aws.Config{Region: "us-east-1",
		BaseEndpoint: aws.String(w.Server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(harness.ApplicationKey,
			"not-a-secret", "")})
	for field, key := range map[string]string{"destination.key": w.New, "source.keys[0]": w.Old} {
		id := " --region us-east-1 --key-id " + key + ")"
		cancel := "cancel the deletion (aws kms cancel-key-deletion" + id +
			", which leaves the key disabled, and then enable it (aws kms enable-key" + id
		for state, want := range map[fakekms.KeyState]string{
			fakekms.Disabled:               "it is disabled; enable it (aws kms enable-key" + id,
			fakekms.PendingDeletion:        "it will be deleted on DATE; " + cancel,
			fakekms.PendingReplicaDeletion: "it will be deleted after its replica keys; " + cancel,
			fakekms.PendingImport:          "it has no key material",
			fakekms.Unavailable:            "is disconnected or does not respond; connect",
			fakekms.Updating:               "its state is Updating; wait until",
		} {
			if err := w.Server.KMS().SetState(key, state); err != nil {
				t.Fatal(err)
			}
			out, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &key})
			if err != nil {
				t.Fatal(err)
			}
			if date := out.KeyMetadata.DeletionDate; date != nil {
				want = strings.Replace(want, "DATE", date.UTC().Format(time.RFC3339), 1)
			}
			r := w.Run(t, "run")
			if r.Code != exitAccess || !strings.Contains(r.Log, field+": key "+key+": ") ||
				!strings.Contains(r.Log, want) {
				t.Errorf("%s, %s: want exit code %d and %q: %s", field, state, exitAccess, want, r)
			}
		}
		if err := w.Server.KMS().SetState(key, fakekms.PendingDeletion); err != nil {
			t.Fatal(err)
		}
		if _, err := client.CancelKeyDeletion(t.Context(),
			&kms.CancelKeyDeletionInput{KeyId: &key}); err != nil {
			t.Fatal(err)
		}
		w.Must(t, []int{exitAccess}, "run") // it is disabled now
		if _, err := client.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &key}); err != nil {
			t.Fatal(err)
		}
	}
	toTheEnd(t, w)
}

// TestDeniedSlotsInLedger: a run that stops because of denials reports the denied slots that
// are already in the ledger, from completed pages. Following the advice completes the job.
func TestDeniedSlotsInLedger(t *testing.T) {
	t.Parallel()
	w := newTrial(t, harness.Config{Segments: 32, Workers: 1,
		Items: map[harness.Kind]int{harness.Ordinary: 64}, Objects: map[harness.Kind]int{}})
	w.Server.DynamoDB().SetPolicy(func(c fakedynamodb.Call) bool {
		return c.Action != "dynamodb:PartiQLUpdate" && c.Action != "dynamodb:UpdateItem"
	})
	r := w.Run(t, "run")
	if r.Code != exitAccess || len(ledger(t, w)) == 0 {
		t.Fatalf("want exit code %d and slots in the ledger: %s", exitAccess, r)
	}
	deniedInLedger(t, w, r)
	w.Server.DynamoDB().SetPolicy(nil)
	w.CountsVary()
	w.Must(t, complete(), "run")
	w.Check(t, w.Must(t, []int{exitDone}, "retry", "-o", "json").Summary)
}
