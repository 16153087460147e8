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

// faultRow is one row of the fault table: a fault, and a function that causes it during a real run,
// resumes the run until the pass is complete, and then checks every item and every count.
type faultRow struct {
	number int
	name   string
	try    func(t *testing.T)
}

// faultRows returns the fault table. The number of a row never changes.
func faultRows(slow *slowRuns) []faultRow {
	return []faultRow{
		{1, "throttling burst", throttlingBurst},
		{2, "server errors for a second, and for good", serverErrors},
		{3, "the response is lost after the write was applied", lostResponses},
		{4, "reset before and in the middle of bodies", resets},
		{5, "clock skew, and a clock that jumps", clockSkew},
		{6, "credentials expire during a run", slow.expiredCredentials},
		{7, "a key becomes disabled or pending deletion during a run", slow.keysOff},
		{8, "access denied to some items, and to all", deniedItems},
		{9, "a concurrent writer", concurrentWriter},
		{10, "items are deleted during a run", deletedItems},
		{11, "time to live", timeToLive},
		{12, "a bucket that keeps versions", versionedBucket},
		{13, "Object Lock and legal hold", lockedBucket},
		{14, "archived objects", archivedObjects},
		{15, "poison ciphertexts", poisonCiphertexts},
		{16, "huge items", hugeItems},
		{17, "the checkpoint is lost", lostCheckpoint},
		{18, "the checkpoint is corrupt, of a newer version, or of another job", corruptCheckpoint},
		{19, "the disk is full", fullDisk},
		{20, "two workers", twoRuns},
		{21, "a worker is paused", pausedRun},
		{22, "SIGTERM at any point", terminated},
		{23, "SIGKILL at any point", killed},
		{24, "memory is short", shortMemory},
		{25, "an alias is moved during a run", movedAlias},
		{26, "the report cannot be written", lostReport},
		{27, "items are added during the scan", addedItems},
		{28, "a dry run", dryRun},
		{29, "an application edits the source of a context", editedContext},
		{30, "endless headers and bodies", endlessResponses},
		{31, "services repeat the request in errors", echoedSecrets},
		{33, "KMS returns responses to other requests", mixedResponses},
	}
}

// TestFaults runs the fault table. The guards of package harness check every row: no write without
// a precondition, nothing written twice, no Decrypt request, and no secret in anything that was
// printed or stored.
func TestFaults(t *testing.T) {
	t.Parallel()
	slow := startSlowRuns(t)
	last := 0
	for _, row := range faultRows(slow) {
		if row.number <= last {
			t.Errorf("row %d comes after row %d", row.number, last)
		}
		last = row.number
		t.Run(fmt.Sprintf("%02d %s", row.number, row.name), func(t *testing.T) {
			t.Parallel()
			row.try(t)
		})
	}
}

// newTrial starts an environment with its guards, which are checked when the test ends.
func newTrial(t *testing.T, c harness.Config) *harness.Env {
	t.Helper()
	w := harness.Start(t, c)
	t.Cleanup(func() {
		w.Guards(t)
		w.Secrets(t)
	})
	return w
}

// fewer returns a configuration with all kinds of items, for rows in which each item takes time.
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

// complete returns the exit codes of a complete pass.
func complete() []int { return []int{exitDone, exitExceptions} }

// runs returns a run, not started yet, that prints its result as JSON.
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

// toConvergence runs one pass after another until a pass moves nothing, and checks everything. It
// is for environments in which the application wrote under the old key.
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
	t.Error("the fifth pass still moved slots")
}

// stopped checks the end of a run that could not continue: its exit code, counts that add up, no
// slot that failed because of the stop, and correct stored items.
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
		t.Errorf("the status is %q, want stopped", r.Summary.Status)
	}
	seeded := []string{"invalid-ciphertext", "source-other-context", "foreign-key"} // of the seed
	for _, reason := range r.Summary.Reasons {
		if !slices.Contains(seeded, reason.Reason) {
			t.Errorf("%d slots have outcome %s and reason %s", reason.Slots, reason.Outcome,
				reason.Reason)
		}
	}
}

// ledger returns the entries that report --ledger prints.
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

// until waits until a condition becomes true.
func until(t *testing.T, what string, came func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !came(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// requestsSent returns a function that reports whether n more requests were sent to KMS since the
// call.
func requestsSent(w *harness.Env, n int) func() bool {
	before := w.Requests("kms:ReEncrypt")
	return func() bool { return w.Requests("kms:ReEncrypt")-before >= n }
}

// statePath returns the path of the default checkpoint.
func statePath(w *harness.Env) string { return filepath.Join(w.Dir, ".rotator", "state.db") }

// replaceInJob changes the job file.
func replaceInJob(t *testing.T, w *harness.Env, old, new string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.Dir, "job.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("the job file does not contain %q", old)
	}
	w.WriteJob(t, strings.Replace(string(text), old, new, 1))
}

// writeOperations returns the operations with which rotator changes targets.
func writeOperations() []string {
	return []string{"dynamodb:BatchExecuteStatement", "dynamodb:UpdateItem", "s3:PutObject"}
}
