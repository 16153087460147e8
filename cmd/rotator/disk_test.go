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

// diskWorld returns an environment with enough work for many saves.
func diskWorld(t *testing.T) *harness.Env {
	items, objects := harness.Mix(8)
	return harness.Start(t, harness.Config{Items: items, Objects: objects})
}

// inShell runs a command of rotator after a line of shell.
func inShell(p *harness.Process, script string) *harness.Process {
	p.Path = "/bin/sh"
	p.Args = append([]string{"sh", "-c", script + ` && exec "$0" "$@"`}, p.Args...)
	return p
}

// wantStorageError runs a command that must exit with 73, print text, and not report success.
func wantStorageError(t *testing.T, p *harness.Process, text string) {
	t.Helper()
	r := p.Begin(t).End(t)
	if r.Code != exitStorage || !strings.Contains(r.Log, text) {
		t.Errorf("want exit code %d and %q: %s", exitStorage, text, r)
	}
	if r.Summary != nil && r.Summary.Status != "stopped" {
		t.Errorf("the status is %s, want stopped", r.Summary.Status)
	}
}

// completes runs the pass to its end and checks everything.
func completes(t *testing.T, w *harness.Env) {
	t.Helper()
	r := w.Must(t, []int{exitExceptions}, "run", "-o", "json")
	w.Check(t, r.Summary)
	w.Guards(t)
	w.Secrets(t)
	w.Must(t, []int{exitDone}, "report", "--check")
}

// TestAuditLogCannotBeWritten: a change that cannot be recorded in the audit log is not made. The
// log of an earlier pass is larger than the size limit of files, the checkpoint is not.
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
	wantStorageError(t,
		inShell(w.Command("run", "-o", "json"), fmt.Sprintf("ulimit -f %d", size/2/1024)),
		"file too large")
	if r := w.Must(t, []int{exitDone}, "status", "-o", "json"); r.Summary.Slots.Seen != 0 {
		t.Errorf("the checkpoint counts %+v, but no change was recorded durably", r.Summary.Slots)
	}
	w.CheckPartial(t, nil)
	completes(t, w)
}

// TestFileSizeLimit limits the size of files to less than the checkpoint needs. This has the
// effect of a full disk and needs no permission to mount one.
func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	w := diskWorld(t)
	// Blocks have 512 bytes. The first limit is too small for the start, the others for the end.
	for _, blocks := range []int{8, 96, 256} {
		wantStorageError(t,
			inShell(w.Command("run", "-o", "json"), fmt.Sprintf("ulimit -f %d", blocks)),
			"file too large")
		w.CheckPartial(t, nil)
	}
	completes(t, w)
}

// mounted runs a command with its state directory on a small file system, and copies the state out
// of it afterwards.
func mounted(t *testing.T, w *harness.Env, options string, after string) *harness.Process {
	t.Helper()
	if out, err := exec.Command("unshare", "-m", "sh", "-c",
		"mount -t tmpfs tmpfs "+t.TempDir()).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no file system can be mounted here (%v: %s); "+
			"TestFileSizeLimit covers a full disk", err, bytes.TrimSpace(out))
	}
	state := filepath.Join(w.Dir, ".rotator")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`cp -a %[1]s %[1]s.in &&
mount -t tmpfs -o %[2]s tmpfs %[1]s && cp -a %[1]s.in/. %[1]s/ %[3]s
"$0" "$@"; code=$?
rm -rf %[1]s.in && cp -a %[1]s %[1]s.out && exit $code`, state, options, after)
	p := w.Command("run", "-o", "json")
	p.Path = "/usr/bin/unshare"
	p.Args = append([]string{"unshare", "-m", "sh", "-c", script}, p.Args...)
	t.Cleanup(func() { _ = os.RemoveAll(state + ".out") })
	return p
}

// takeOver replaces the state by the state that was copied out.
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
		wantStorageError(t, mounted(t, w, "size="+size, ""), "no space left on device")
		w.CheckPartial(t, nil)
		takeOver(t, w)
	}
	completes(t, w)
}

// TestReadOnlyDisk runs with the state on a read-only file system.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	w := diskWorld(t)
	killed := w.Command("run").Begin(t)
	until(t, "some writes", func() bool {
		return killed.Ended() || w.Requests("dynamodb:BatchExecuteStatement") >= 3
	})
	killed.Kill()
	killed.End(t)
	state := filepath.Join(w.Dir, ".rotator")
	wantStorageError(t, mounted(t, w, "size=16m", "&& mount -o remount,ro "+state),
		"read-only file system")
	takeOver(t, w)
	completes(t, w)
}
