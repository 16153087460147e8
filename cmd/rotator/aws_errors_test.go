package main

import (
	"os"
	"path/filepath"
	"testing"

	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/harness"
	"rotator/internal/report"
)

// TestFromAnotherMachine runs a job in one directory, and looks at it and retries
// its ledger from another, which has nothing but the job file: all that is needed is
// in the shared checkpoint.
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
		elsewhere := newElsewhere(t, w)

		halfway(t, w, 40, "--exact") // headers do not show what is denied
		r := elsewhere(exitDone, "status", "-o", "json")
		if r.Summary == nil || r.Summary.Pass != 1 || r.Summary.Status != report.Stopped {
			t.Fatalf("want pass 1 under way: %s", r)
		}
		w.CheckPartial(t, r.Summary)

		ran := toTheEnd(t, w, "--exact")
		for _, command := range []string{"status", "report"} {
			r = elsewhere(exitDone, command, "-o", "json")
			w.Check(t, r.Summary)
			if r.Summary == nil || r.Summary.Slots != ran.Summary.Slots ||
				r.Summary.KMS != ran.Summary.KMS {
				t.Errorf("%s tells other figures than the run %+v: %s", command, ran.Summary, r)
			}
		}
		here, there := w.Must(t, []int{exitDone}, "report", "--ledger", "-o",
			"json"), elsewhere(exitDone, "report", "--ledger", "-o", "json")
		if here.Out != there.Out || here.Out == "" {
			t.Errorf("the ledger is\n%s\nand elsewhere\n%s", here.Out, there.Out)
		}

		w.Server.KMS().SetPolicy(nil)
		w.Allow(denied)
		retried := elsewhere(exitExceptions, "retry", "-o", "json")
		w.Check(t, retried.Summary)
		if r = w.Must(t, []int{exitDone}, "status", "-o",
			"json"); r.Summary.Slots != retried.Summary.Slots {
			t.Errorf("retried elsewhere: %s\nand here: %s", retried, r)
		}
	})
}

// newElsewhere makes a directory with the job file alone, and returns how to run a
// command there.
func newElsewhere(t *testing.T, w *harness.Env) func(code int, args ...string) harness.Result {
	t.Helper()
	dir := filepath.Join(w.Dir, "elsewhere") // where the guard of secrets looks
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
			t.Fatalf("elsewhere: want exit code %d: %s", code, r)
		}
		return r
	}
}
