package main

import (
	"os"
	"path/filepath"
	"testing"

	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/harness"
	"rotator/internal/report"
)

// TestFromAnotherMachine runs a job in one directory. In another directory, which has only the job
// file, it prints the results and retries the ledger: the shared checkpoint contains all that is
// needed.
func TestFromAnotherMachine(t *testing.T) {
	t.Parallel()
	each(t, sharedHomes(), func(t *testing.T, c harness.Config) {
		c.Rate = 100
		w := newTrial(t, c)
		denied := func(e *harness.Entry) bool {
			return e.Target == harness.Table && e.Tenant() == "tenant-3"
		}
		w.Server.KMS().SetPolicy(func(c fakekms.Call) bool {
			return c.Action != "kms:ReEncryptFrom" ||
				c.EncryptionContext["tenant"] != "tenant-3" || c.EncryptionContext["purpose"] == ""
		})
		w.Deny(denied)
		otherMachine := newMachine(t, w)

		halfway(t, w, 40, "--exact") // KMS does not deny a slot that is decided by its header
		r := otherMachine(exitDone, "status", "-o", "json")
		if r.Summary == nil || r.Summary.Pass != 1 || r.Summary.Status != report.Stopped {
			t.Fatalf("want pass 1 in progress: %s", r)
		}
		w.CheckPartial(t, r.Summary)

		ran := toTheEnd(t, w, "--exact")
		for _, command := range []string{"status", "report"} {
			r = otherMachine(exitDone, command, "-o", "json")
			w.Check(t, r.Summary)
			if r.Summary == nil || r.Summary.Slots != ran.Summary.Slots ||
				r.Summary.KMS != ran.Summary.KMS {
				t.Errorf("%s has other figures than the run, %+v: %s", command, ran.Summary, r)
			}
		}
		here, there := w.Must(t, []int{exitDone}, "report", "--ledger", "-o",
			"json"), otherMachine(exitDone, "report", "--ledger", "-o", "json")
		if here.Out != there.Out || here.Out == "" {
			t.Errorf("the ledger is\n%s\nbut on the other machine\n%s", here.Out, there.Out)
		}

		w.Server.KMS().SetPolicy(nil)
		w.Allow(denied)
		retried := otherMachine(exitExceptions, "retry", "-o", "json")
		w.Check(t, retried.Summary)
		if r = w.Must(t, []int{exitDone}, "status", "-o",
			"json"); r.Summary.Slots != retried.Summary.Slots {
			t.Errorf("retry on the other machine: %s\nbut status here: %s", retried, r)
		}
	})
}

// newMachine makes a directory with only the job file, and returns a function that runs a command
// there.
func newMachine(t *testing.T, w *harness.Env) func(code int, args ...string) harness.Result {
	t.Helper()
	dir := filepath.Join(w.Dir, "elsewhere") // in w.Dir, because the guard of secrets searches that
	job, err := os.ReadFile(filepath.Join(w.Dir, "job.yaml"))
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "job.yaml"), job, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func(code int, args ...string) harness.Result {
		t.Helper()
		p := w.Command(args...)
		p.Dir = dir
		r := p.Begin(t).End(t)
		if r.Code != code {
			t.Fatalf("on the other machine: want exit code %d: %s", code, r)
		}
		return r
	}
}
