package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
	"rotator/internal/report"
)

// requestOf is an abbreviation for the argument of hooks.
type requestOf = *http.Request

func readCloser(body []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(body)) }

// halfway starts a run and kills it after the given number of requests to KMS.
func halfway(t *testing.T, w *harness.Env, requests int, flags ...string) {
	t.Helper()
	p := runs(w, flags...)
	// No request gets an answer from then on, so the run cannot end before it is killed.
	w.Fault("kms:ReEncrypt", fault.Fault{Skip: requests, Before: func(r requestOf, _ []byte) {
		p.Kill()
		<-r.Context().Done()
	}})
	if r := p.Begin(t).End(t); r.Code != -1 {
		t.Fatalf("the run ended before it was killed: %s", r)
	}
	w.Server.Faults().Clear("kms:ReEncrypt")
	w.CheckPartial(t, nil)
}

// lostCheckpoint: without its checkpoint, rotator reads all items again but writes none again,
// which a guard checks.
func lostCheckpoint(t *testing.T) {
	for name, lost := range map[string]string{
		"all of the state":     "*",
		"the checkpoint alone": "state.db*",
		"the audit log alone":  "*.jsonl",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTrial(t, harness.Config{Rate: 500})
			halfway(t, w, 50)
			files, err := filepath.Glob(filepath.Join(w.Dir, ".rotator", lost))
			if err != nil || len(files) == 0 {
				t.Fatalf("no state: %v", err)
			}
			for _, file := range files {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			}
			expected := sum(w.Expected())
			w.CountsVary() // slots that were moved before are current, or known from the audit log
			r := toTheEnd(t, w)
			if s := r.Summary.Slots; s.Rotated+s.Current != expected.Rotated+expected.Current ||
				s.Seen != expected.Seen {
				t.Errorf("counted %+v, want %+v as without the loss", s, expected)
			}
		})
	}
}

// sum returns the sum of the slots of all targets.
func sum(targets map[string]report.Target) (s report.Slots) {
	for _, target := range targets {
		s.Seen += target.Slots.Seen
		s.Rotated += target.Slots.Rotated
		s.Current += target.Slots.Current
		s.Foreign += target.Slots.Foreign
		s.Failed += target.Slots.Failed
	}
	return s
}

// corruptCheckpoint: a checkpoint that cannot be trusted is refused, with the name
// of the file, and is left as it is; moved away, the job begins again.
func corruptCheckpoint(t *testing.T) {
	t.Run("bits", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{Rate: 500})
		halfway(t, w, 60)
		w.CountsVary()
		path := statePath(w)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		refused := 0
		try := func(what string, bad []byte) {
			t.Helper()
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if refusesCheckpoint(t, w, what) {
				refused++
			}
		}
		try("first half", good[:len(good)/2])
		try("zeros", make([]byte, len(good)))
		try("another file", []byte("this is not a checkpoint"))
		for i := range 4 {
			bad := bytes.Clone(good)
			for at := i * 37; at < len(bad); at += 311 + i {
				bad[at] ^= 1 << (i % 8)
			}
			try(fmt.Sprintf("bits flipped, pattern %d", i), bad)
		}
		newer := bytes.ReplaceAll(good, []byte(`"schema":2`), []byte(`"schema":9`))
		if before := refused; bytes.Equal(newer, good) {
			t.Error("no record of the checkpoint has schema 2; adapt this test")
		} else if try("of a newer version", newer); refused == before {
			t.Error("a checkpoint of a newer version was accepted")
		}
		if refused < 4 {
			t.Errorf("only %d corrupt checkpoints were refused", refused)
		}
		if err := os.Rename(path, path+".bad"); err != nil {
			t.Fatal(err)
		}
		toTheEnd(t, w)
	})
	t.Run("records", corruptRecords)
	t.Run("other limits", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{Rate: 500})
		halfway(t, w, 50)
		replaceInJob(t, w, "segments: 2", "segments: 3") // not part of the fingerprint
		r := toTheEnd(t, w)
		if r.Summary.Pass != 1 || !strings.Contains(r.Log, "resumed pass 1") {
			t.Errorf("want pass 1 resumed, and a log line about it: %s", r)
		}
	})
	each(t, homes(), otherFingerprint)
}

// refusesCheckpoint reports whether a run refuses a checkpoint that was damaged. A run may also
// complete, if the damage is in unused space.
func refusesCheckpoint(t *testing.T, w *harness.Env, what string) bool {
	t.Helper()
	r := w.Run(t, "run", "-o", "json")
	switch r.Code {
	case exitStorage, exitBusy: // 76 for a newer version
		if !strings.Contains(r.Log, "checkpoint") || r.Out != "" {
			t.Errorf("%s: refused without a clear message: %s", what, r)
		}
		return true
	case exitExceptions:
		w.CheckPartial(t, r.Summary)
	default:
		t.Errorf("%s: want exit code %d, or a complete pass: %s", what, exitStorage, r)
	}
	return false
}

// otherFingerprint: a pass with other targets, slots or keys than the job file is refused. A new
// pass begins only with --restart.
func otherFingerprint(t *testing.T, c harness.Config) {
	c.Rate = 150
	w := newTrial(t, c)
	halfway(t, w, 50)
	before := recordsOfPasses(t, w)
	replaceInJob(t, w, "purpose: pii", "purpose: none")
	if r := w.Run(t, "run", "-o", "json"); r.Code != exitJob ||
		!strings.Contains(r.Log, "--restart") {
		t.Errorf("with other slots: want exit code %d and advice about --restart: %s", exitJob, r)
	}
	if !maps.Equal(before, recordsOfPasses(t, w)) {
		t.Error("the refused run changed the checkpoint")
	}
	replaceInJob(t, w, "purpose: none", "purpose: pii")
	w.CountsVary() // slots that the first pass moved are current in the second
	r := w.Must(t, complete(), "run", "--restart", "-o", "json")
	w.Check(t, r.Summary)
	if r.Summary.Pass != 2 {
		t.Errorf("the new pass is %d, want 2", r.Summary.Pass)
	}
	keptRecords(t, before, w.Records(t), "")
}

// fullDisk: a run that cannot store its state stops with 73, never with 0. What it stored before is
// complete: with free space the pass continues.
func fullDisk(t *testing.T) {
	for _, blocks := range []int{4, 20, 40, 100} { // of 1 KiB, for each file
		t.Run(fmt.Sprintf("files of %d KiB", blocks), func(t *testing.T) {
			t.Parallel()
			w := newTrial(t, harness.Config{})
			p := runs(w)
			p.Args = append([]string{"bash", "-c",
				fmt.Sprintf(`ulimit -f %d; exec "$0" "$@"`, blocks)}, p.Args...)
			p.Path = "/bin/bash"
			stopped(t, w, p.Begin(t).End(t), exitStorage)
			r := w.Run(t, "run", "-o", "json")
			if r.Code != exitExceptions {
				t.Errorf("with free space again: want exit code 3: %s", r)
				return
			}
			w.Check(t, r.Summary)
		})
	}
	t.Run("no directory", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{})
		if err := os.WriteFile(filepath.Join(w.Dir, ".rotator"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		stopped(t, w, w.Run(t, "run", "-o", "json"), exitStorage)
		if err := os.Remove(filepath.Join(w.Dir, ".rotator")); err != nil {
			t.Fatal(err)
		}
		toTheEnd(t, w)
	})
	t.Run("the audit log", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{Extra: "audit_log: nowhere/audit.jsonl"})
		stopped(t, w, w.Run(t, "run", "-o", "json"), exitStorage)
		replaceInJob(t, w, "audit_log: nowhere/audit.jsonl", "audit_log: audit.jsonl")
		toTheEnd(t, w)
	})
	t.Run("fsync fails", failingSync)
}

// failingSync makes fsync and fdatasync fail, as for a broken disk, from the start or from the
// middle of a run. Nothing after that counts as stored.
func failingSync(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("SKIPPED: strace, which is needed to make fsync fail, is not installed")
	}
	inject := []string{strace, "-f", "-qq", "-o", filepath.Join(t.TempDir(), "calls"), "-e",
		"trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"}
	goesOn := func(t *testing.T, w *harness.Env, p *harness.Process) {
		stopped(t, w, p.End(t), exitStorage)
		w.CountsVary() // a record that was not synced may exist anyway
		toTheEnd(t, w)
	}
	t.Run("from the beginning", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{})
		p := runs(w)
		p.Path, p.Args = strace, slices.Concat(inject, p.Args)
		goesOn(t, w, p.Begin(t))
	})
	t.Run("in the middle", func(t *testing.T) {
		t.Parallel()
		// some seconds of work are left when it begins to fail
		w := newTrial(t, harness.Config{Rate: 100})
		p := runs(w).Begin(t)
		until(t, "half of the pass", requestsSent(w, 50))
		tracer := exec.Command(inject[0], append(inject[1:], "-p", strconv.Itoa(p.Process.Pid))...)
		if err := tracer.Start(); err != nil {
			t.Fatal(err)
		}
		goesOn(t, w, p)
		_ = tracer.Wait() // ends with the traced process
	})
}

// shortMemory: the memory of a run does not depend on the number of items.
func shortMemory(t *testing.T) {
	peak := func(items int) int64 {
		w := newTrial(t, harness.Config{
			Items:     map[harness.Kind]int{harness.Ordinary: items},
			Objects:   map[harness.Kind]int{},
			Plaintext: 4000,
			Workers:   4,
			Rate:      50000,
			Env:       []string{"GOMEMLIMIT=40MiB"},
			Memory:    true,
		})
		return toTheEnd(t, w).MaxRSS(t)
	}
	few, many := peak(400), peak(2000)
	t.Logf("%d MiB for 400 items, %d MiB for 2000", few>>20, many>>20)
	allowed := int64(20 << 20) // keeping all forms of each blob would need 35 MiB
	if raceEnabled {
		allowed *= 4
	}
	if many > few+allowed {
		t.Errorf("%d MiB for 400 items, but %d MiB for 2000", few>>20, many>>20)
	}
}

// snapshot returns the content of every file in a directory.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// movedAlias: the keys of a pass are those to which the aliases referred when it began.
func movedAlias(t *testing.T) {
	t.Run("under way", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{Aliases: true, Rate: 500})
		p := runs(w).Begin(t)
		until(t, "the first requests", requestsSent(w, 40))
		for alias, key := range map[string]string{"alias/new": w.Third, "alias/old": w.New} {
			if err := w.Server.KMS().SetAlias(alias, key); err != nil {
				t.Fatal(err)
			}
		}
		r := p.End(t)
		if r.Code != exitExceptions {
			t.Fatalf("want exit code 3: %s", r)
		}
		w.Check(t, r.Summary)
	})
	t.Run("while stopped", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{Aliases: true, Rate: 500})
		halfway(t, w, 50)
		if err := w.Server.KMS().SetAlias("alias/new", w.Third); err != nil {
			t.Fatal(err)
		}
		if r := w.Run(t, "run", "-o", "json"); r.Code != exitJob ||
			!strings.Contains(r.Log, "alias/new was "+w.New) {
			t.Errorf("want exit code %d and the name of the key: %s", exitJob, r)
		}
		w.CheckPartial(t, nil)
		if err := w.Server.KMS().SetAlias("alias/new", w.New); err != nil {
			t.Fatal(err)
		}
		toTheEnd(t, w)
	})
	t.Run("a server that encrypts under another key", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{})
		w.Fault("kms:ReEncrypt", fault.Fault{Skip: 40, Before: func(r requestOf, body []byte) {
			body = bytes.ReplaceAll(body, []byte(`"DestinationKeyId":"`+w.New),
				[]byte(`"DestinationKeyId":"`+w.Third))
			r.Body = readCloser(body)
		}})
		stopped(t, w, w.Run(t, "run", "-o", "json"), exitInternal)
		w.Server.Faults().Clear("")
		toTheEnd(t, w)
	})
}

// lostReport: a result that cannot be printed can be printed later.
func lostReport(t *testing.T) {
	w := newTrial(t, harness.Config{})
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	p := runs(w)
	p.Stdout = full
	if r := p.Begin(t).End(t); r.Code != exitStorage {
		t.Errorf("want exit code %d: %s", exitStorage, r)
	}
	r := w.Must(t, []int{exitDone}, "report", "-o", "json")
	w.Check(t, r.Summary)
}

// addedItems: items that are added before the cursor are not in the pass, so the pass is not
// evidence. verify finds them, and the next pass moves them.
func addedItems(t *testing.T) {
	w := newTrial(t, harness.Config{
		Items:   map[harness.Kind]int{harness.Ordinary: 60},
		Objects: map[harness.Kind]int{harness.Ordinary: 20},
	})
	for _, operation := range writeOperations() {
		w.Fault(operation, fault.Fault{Times: 2, Before: func(requestOf, []byte) {
			for _, target := range []string{harness.Table, harness.Objects} {
				if _, err := w.Add(t.Context(), target); err != nil {
					t.Errorf("add: %v", err)
				}
			}
		}})
	}
	r := w.Must(t, []int{exitDone}, "run", "-o", "json")
	w.Server.Faults().Clear("") // nothing is added from now on
	w.CheckPartial(t, r.Summary)
	if s := r.Summary; s.Converged || !s.Ended.After(s.Started) {
		t.Errorf("converged: %v, started %s, ended %s", s.Converged, s.Started, s.Ended)
	}
	r = w.Must(t, []int{exitRemaining}, "verify", "-o", "json")
	left := r.Summary.Slots.Remaining
	r = toTheEnd(t, w)
	if r.Summary.Slots.Rotated != left {
		t.Errorf("verify found %d slots, but the next pass moved %d", left, r.Summary.Slots.Rotated)
	}
	r = w.Must(t, []int{exitDone}, "verify", "-o", "json")
	w.Check(t, r.Summary)
	if !r.Summary.Converged {
		t.Errorf("not converged: %s", r)
	}
}

// dryRun: commands that only read send no write to the targets and change no record of a pass. With
// --no-store they change no file at all.
func dryRun(t *testing.T) {
	w := newTrial(t, harness.Config{Rate: 1000})
	halfway(t, w, 50)
	before := snapshot(t, filepath.Join(w.Dir, ".rotator"))
	records := recordsOfPasses(t, w)
	w.ReadOnly(true)
	for _, look := range []struct {
		args  []string
		codes []int
	}{{[]string{"audit"}, []int{exitDone}},
		{[]string{"audit", "--no-store"}, []int{exitDone}},
		{[]string{"audit", "--fail-on-remaining"}, []int{exitRemaining}},
		{[]string{"verify"}, []int{exitRemaining}},
		{[]string{"verify", "--no-store"}, []int{exitRemaining}},
		{[]string{"status"}, []int{exitDone}}, {[]string{"report"}, []int{exitDone}}} {
		r := w.Must(t, look.codes, append(look.args, "-o", "json")...)
		w.CheckPartial(t, r.Summary)
		if command := look.args[0]; command != "status" && command != "report" {
			want := sum(w.Expected())
			if s := r.Summary.Slots; s.Rotated != 0 || s.Seen != want.Seen ||
				s.Remaining+s.Current != want.Rotated+want.Current {
				t.Errorf("%s counted %+v, want %+v as in a complete pass", command, s, want)
			}
		}
		if !maps.Equal(records, recordsOfPasses(t, w)) {
			t.Errorf("%s changed a record of a pass", look.args)
		}
		after := snapshot(t, filepath.Join(w.Dir, ".rotator"))
		stores := readOnly(look.args[0]) && !slices.Contains(look.args, "--no-store")
		if stores == maps.Equal(before, after) {
			t.Errorf("%s: changed the checkpoint: %v, want %v", look.args, !stores, stores)
		}
		before = after
	}
	w.ReadOnly(false)
	toTheEnd(t, w)
}

// recordsOfPasses returns the records of the checkpoint other than the list of members and the
// read-only passes. A run joins the members before it asks KMS, so that its first requests are
// within the rate.
func recordsOfPasses(t *testing.T, w *harness.Env) map[string]string {
	t.Helper()
	records := w.Records(t)
	maps.DeleteFunc(records, func(id, _ string) bool {
		return strings.HasSuffix(id, "/roster") || strings.Contains(id, "/read")
	})
	return records
}
