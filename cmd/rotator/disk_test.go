package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rotator/internal/harness"
	"rotator/internal/report/auditlog"
	"rotator/internal/rotate"
)

// diskWorld is one with enough work for many saves.
func diskWorld(t *testing.T) *harness.Env {
	items, objects := harness.Mix(4)
	return harness.Start(t, harness.Config{Items: items, Objects: objects})
}

// inShell makes a command of rotator run behind a line of shell.
func inShell(p *harness.Process, script string) *harness.Process {
	p.Path = "/bin/sh"
	p.Args = append([]string{"sh", "-c", script + ` && exec "$0" "$@"`}, p.Args...)
	return p
}

// fails runs a command that must end with 73 and a word for what is wrong, and say
// nothing of success.
func fails(t *testing.T, p *harness.Process, says string) {
	t.Helper()
	r := p.Begin(t).End(t)
	if r.Code != exitStorage || !strings.Contains(r.Log, says) {
		t.Errorf("want exit code %d and %q: %s", exitStorage, says, r)
	}
	if r.Summary != nil && r.Summary.Status != "stopped" {
		t.Errorf("it says that the pass is %s", r.Summary.Status)
	}
}

// goesOn runs to the end and checks everything.
func goesOn(t *testing.T, w *harness.Env) {
	t.Helper()
	r := w.Must(t, []int{exitExceptions}, "run", "-o", "json")
	w.Check(t, r.Summary)
	w.Guards(t)
	w.Secrets(t)
	w.Must(t, []int{exitDone}, "report", "--check")
}

// TestAuditLogCannotBeWritten: what cannot be noted is not written. The log of an earlier
// pass is larger than files may grow, and the checkpoint is not.
func TestAuditLogCannotBeWritten(t *testing.T) {
	t.Parallel()
	w := diskWorld(t)
	path := filepath.Join(w.Dir, ".rotator", "trial.audit.jsonl")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	log, err := auditlog.Open(path, "trial")
	if err != nil {
		t.Fatal(err)
	}
	const size = 4 << 20
	earlier := rotate.Record{Pass: 7, Path: strings.Repeat("x", 4000)}
	for range size / 4000 {
		if err := log.Record([]rotate.Record{earlier}); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	fails(t, inShell(w.Command("run", "-o", "json"), fmt.Sprintf("ulimit -f %d", size/2/1024)),
		"file too large")
	if r := w.Must(t, []int{exitDone}, "status", "-o", "json"); r.Summary.Slots.Seen != 0 {
		t.Errorf("the checkpoint counts %+v, and nothing was noted durably", r.Summary.Slots)
	}
	w.CheckPartial(t, nil)
	goesOn(t, w)
}

// TestFileSizeLimit limits the size of files to less than the checkpoint needs. This has the
// effect of a full disk and needs no permission to mount one.
func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	w := diskWorld(t)
	for _, blocks := range []int{8, 96, 256} { // of 512 bytes: too little to begin with, and for all of it
		fails(t, inShell(w.Command("run", "-o", "json"), fmt.Sprintf("ulimit -f %d", blocks)), "file too large")
		w.CheckPartial(t, nil)
	}
	goesOn(t, w)
}

// mounted runs a command with its state directory on a small file system of its
// own, and copies the state out of it in the end.
func mounted(t *testing.T, w *harness.Env, options string, after string) *harness.Process {
	t.Helper()
	if out, err := exec.Command("unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs "+t.TempDir()).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no file system can be mounted here (%v: %s); TestFileSizeLimit stands in for it", err, bytes.TrimSpace(out))
	}
	state := filepath.Join(w.Dir, ".rotator")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`cp -a %[1]s %[1]s.in && mount -t tmpfs -o %[2]s tmpfs %[1]s && cp -a %[1]s.in/. %[1]s/ %[3]s
"$0" "$@"; code=$?
rm -rf %[1]s.in && cp -a %[1]s %[1]s.out && exit $code`, state, options, after)
	p := w.Command("run", "-o", "json")
	p.Path = "/usr/bin/unshare"
	p.Args = append([]string{"unshare", "-m", "sh", "-c", script}, p.Args...)
	t.Cleanup(func() { _ = os.RemoveAll(state + ".out") })
	return p
}

// takeOver makes the state that was copied out the state.
func takeOver(t *testing.T, w *harness.Env) {
	t.Helper()
	state := filepath.Join(w.Dir, ".rotator")
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(state+".out", state); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk fills a small file system in the middle of a pass.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	w := diskWorld(t)
	for _, size := range []string{"64k", "192k", "320k"} {
		fails(t, mounted(t, w, "size="+size, ""), "no space left on device")
		w.CheckPartial(t, nil)
		takeOver(t, w)
	}
	goesOn(t, w)
}

// TestReadOnlyDisk finds its state on a file system that takes no write.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	w := diskWorld(t)
	killed := w.Command("run").Begin(t)
	until(t, "some writes", func() bool { return killed.Over() || w.Requests("dynamodb:BatchExecuteStatement") >= 3 })
	killed.Kill()
	killed.End(t)
	state := filepath.Join(w.Dir, ".rotator")
	fails(t, mounted(t, w, "size=16m", "&& mount -o remount,ro "+state), "read-only file system")
	takeOver(t, w)
	goesOn(t, w)
}
