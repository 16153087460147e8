package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/harness"
	"rotator/internal/report"
)

// faultRow is one row of the fault matrix: what goes wrong, and a function that
// makes it go wrong around a real run, has the run resumed until it is done, and
// then looks at every item and every figure.
type faultRow struct {
	number int
	name   string
	try    func(t *testing.T)
}

// faultRows is the fault matrix. A number, once given, stays.
func faultRows(slow *slowRuns) []faultRow {
	return []faultRow{
		{1, "throttling burst", throttlingBurst},
		{2, "server errors for a second, and for good", serverErrors},
		{3, "the answer is lost after the write was applied", lostAnswers},
		{4, "reset before and in the middle of bodies", resets},
		{5, "clock skew, and a clock that jumps", clockSkew},
		{6, "credentials expire in the middle", slow.expiredCredentials},
		{7, "a key is disabled or pending deletion in the middle", slow.keysOff},
		{8, "access denied to some items, and to all", deniedItems},
		{9, "a concurrent writer", concurrentWriter},
		{10, "items are deleted in the middle", deletedItems},
		{11, "time to live", timeToLive},
		{12, "a bucket that keeps versions", versionedBucket},
		{13, "Object Lock and legal hold", lockedBucket},
		{14, "archived objects", archivedObjects},
		{15, "poison ciphertexts", poisonCiphertexts},
		{16, "huge items", hugeItems},
		{17, "the checkpoint is lost", lostCheckpoint},
		{18, "the checkpoint is corrupt, of a newer version, or of another job", corruptCheckpoint},
		{19, "the disk is full", fullDisk},
		{20, "two workers", twoWorkers},
		{21, "a worker is paused", pausedWorker},
		{22, "SIGTERM at any point", terminated},
		{23, "SIGKILL at any point", killed},
		{24, "memory is short", shortMemory},
		{25, "an alias is moved in the middle", movedAlias},
		{26, "the report cannot be written", lostReport},
		{27, "items are added while the scan is under way", addedItems},
		{28, "a dry run", dryRun},
		{29, "an application edits what a context is made from", editedContext},
		{30, "headers and bodies without end", endlessAnswers},
		{31, "services repeat what they were sent", echoedSecrets},
		{33, "KMS answers with what is no answer to the question", mixedAnswers},
	}
}

// TestFaults tries the fault matrix. Around every row stand the guards of package
// trial: no write without a precondition, nothing written twice, no plaintext
// asked for, and no secret in anything that was printed or kept.
func TestFaults(t *testing.T) {
	t.Parallel()
	slow := startSlowRuns(t)
	last := 0
	for _, row := range faultRows(slow) {
		if row.number <= last {
			t.Errorf("row %d stands behind row %d", row.number, last)
		}
		last = row.number
		t.Run(fmt.Sprintf("%02d %s", row.number, row.name), func(t *testing.T) {
			t.Parallel()
			row.try(t)
		})
	}
}

// newTrial makes a world with its guards, which are asked when the test ends.
func newTrial(t *testing.T, c harness.Config) *harness.Env {
	t.Helper()
	w := harness.Start(t, c)
	t.Cleanup(func() {
		w.Guards(t)
		w.Secrets(t)
	})
	return w
}

// fewer is a mix of all kinds for rows in which every entry takes its time.
func fewer() harness.Config {
	return harness.Config{
		Items: map[harness.Kind]int{
			harness.Ordinary: 40,
			harness.Nested:   8,
			harness.Poison:   3,
			harness.Foreign:  3,
			harness.Current:  5,
			harness.Bare:     3,
		},
		Objects: map[harness.Kind]int{
			harness.Ordinary: 12,
			harness.Poison:   2,
			harness.Foreign:  2,
			harness.Current:  3,
			harness.Document: 4,
		},
	}
}

// complete are the exit codes of a pass that came to its end.
func complete() []int { return []int{exitDone, exitExceptions} }

// runs is a run with its result in JSON, not begun yet.
func runs(w *harness.Env, flags ...string) *harness.Process {
	return w.Command(append([]string{"run", "-o", "json"}, flags...)...)
}

// toTheEnd runs, or resumes, the pass to its end and checks everything.
func toTheEnd(t *testing.T, w *harness.Env, flags ...string) harness.Result {
	t.Helper()
	r := w.Must(t, complete(), append([]string{"run", "-o", "json"}, flags...)...)
	if r.Summary == nil {
		t.Fatalf("no result: %s", r)
	}
	w.Check(t, r.Summary)
	return r
}

// toConvergence runs pass after pass, for worlds in which the application wrote
// under the old key, until one moves nothing, and checks everything.
func toConvergence(t *testing.T, w *harness.Env) {
	t.Helper()
	for range 5 {
		r := w.Must(t, complete(), "run", "-o", "json")
		if r.Summary == nil {
			t.Fatalf("no result: %s", r)
		}
		w.CheckPartial(t, r.Summary)
		if r.Summary.Slots.Rotated == 0 {
			w.Check(t, r.Summary)
			return
		}
	}
	t.Error("five passes, and the last still moved something")
}

// stopped checks how a run that could not go on ended: with the exit code, with
// figures that add up, and with no item marked failed for it; nothing is wrong with
// what is stored.
func stopped(t *testing.T, w *harness.Env, r harness.Result, code int) {
	t.Helper()
	if r.Code != code {
		t.Errorf("want exit code %d: %s", code, r)
	}
	if r.Summary == nil {
		w.CheckPartial(t, nil)
		return
	}
	w.CheckPartial(t, r.Summary)
	if r.Summary.Status != report.Stopped && code != exitStorage {
		t.Errorf("its result says %q", r.Summary.Status)
	}
	ours := []string{"invalid-ciphertext", "source-other-context", "foreign-key"} // of the seed
	for _, reason := range r.Summary.Reasons {
		if !slices.Contains(ours, reason.Reason) {
			t.Errorf("%d slots are %s for %s", reason.Slots, reason.Outcome, reason.Reason)
		}
	}
}

// ledger is what report --ledger lists.
func ledger(t *testing.T, w *harness.Env) (entries []checkpoint.LedgerEntry) {
	t.Helper()
	r := w.Must(t, []int{exitDone}, "report", "--ledger", "-o", "json")
	for lines := bufio.NewScanner(strings.NewReader(r.Out)); lines.Scan(); {
		var e checkpoint.LedgerEntry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("a line of the ledger: %v", err)
		}
		entries = append(entries, e)
	}
	return entries
}

// until waits for something that has to come.
func until(t *testing.T, what string, came func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !came(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// asked is true once the worker has asked KMS n times more than now.
func asked(w *harness.Env, n int) func() bool {
	before := w.Requests("kms:ReEncrypt")
	return func() bool { return w.Requests("kms:ReEncrypt")-before >= n }
}

// statePath is where the default checkpoint is.
func statePath(w *harness.Env) string { return filepath.Join(w.Dir, ".rotator", "state.db") }

// replaceInJob changes the job file.
func replaceInJob(t *testing.T, w *harness.Env, old, new string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.Dir, "job.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("the job file does not say %q", old)
	}
	w.WriteJob(t, strings.Replace(string(text), old, new, 1))
}

// writeOperations are those by which the worker changes the places of a world.
func writeOperations() []string {
	return []string{"dynamodb:BatchExecuteStatement", "dynamodb:UpdateItem", "s3:PutObject"}
}
