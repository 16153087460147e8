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

// requestOf is short for what hooks get.
type requestOf = *http.Request

func readCloser(body []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(body)) }

// halfway starts a run and kills it after the given number of requests to KMS.
func halfway(t *testing.T, w *harness.Env, requests int, flags ...string) {
	t.Helper()
	p := runs(w, flags...).Begin(t)
	until(t, "half of the pass", asked(w, requests))
	p.Kill()
	if r := p.End(t); r.Code != -1 {
		t.Fatalf("the run ended before it was killed: %s", r)
	}
	w.CheckPartial(t, nil)
}

// lostCheckpoint: without its checkpoint the worker looks at everything again, and
// writes nothing again (a guard looks for that).
func lostCheckpoint(t *testing.T) {
	for name, lost := range map[string]string{"all of the state": "*", "the checkpoint alone": "state.db*", "the audit log alone": "*.jsonl"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTrial(t, harness.Config{Rate: 500})
			halfway(t, w, 100)
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
			w.CountsVary() // what was moved before is current now, or known from the audit log
			r := toTheEnd(t, w)
			if s := r.Summary.Slots; s.Rotated+s.Current != expected.Rotated+expected.Current || s.Seen != expected.Seen {
				t.Errorf("counted %+v; without the loss it were %+v", s, expected)
			}
		})
	}
}

// sum adds up the slots of all targets.
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
		halfway(t, w, 120)
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
			r := w.Run(t, "run", "-o", "json")
			switch r.Code {
			case exitStorage, exitBusy: // 76 for a newer version
				refused++
				if !strings.Contains(r.Log, "checkpoint") || r.Out != "" {
					t.Errorf("%s: refused without a clear message: %s", what, r)
				}
			case exitExceptions: // the harm was where nothing is
				w.CheckPartial(t, r.Summary)
			default:
				t.Errorf("%s: want it refused (%d), or not noticed for good reason: %s", what, exitStorage, r)
			}
		}
		try("cut in half", good[:len(good)/2])
		try("zeros", make([]byte, len(good)))
		try("another file", []byte("this is no checkpoint"))
		for i := range 8 {
			bad := bytes.Clone(good)
			for at := i * 37; at < len(bad); at += 311 + i {
				bad[at] ^= 1 << (i % 8)
			}
			try(fmt.Sprintf("bits flipped, pattern %d", i), bad)
		}
		if newer := bytes.ReplaceAll(good, []byte(`"schema":2`), []byte(`"schema":9`)); bytes.Equal(newer, good) {
			t.Error("no record of the checkpoint names its schema in the known words: write this test anew")
		} else {
			before := refused
			try("of a newer version", newer)
			if refused == before {
				t.Error("a checkpoint of a newer version was not refused")
			}
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
		halfway(t, w, 100)
		replaceInJob(t, w, "segments: 2", "segments: 3") // how the work is cut is not what it means
		r := toTheEnd(t, w)
		if r.Summary.Pass != 1 || !strings.Contains(r.Log, "resumed pass 1") {
			t.Errorf("want pass 1 resumed, and the log to say so: %s", r)
		}
	})
	each(t, homes(), anotherMeaning)
}

// anotherMeaning: a pass of other targets, slots or keys than the job file's is
// refused, and begins anew at the user's word alone.
func anotherMeaning(t *testing.T, c harness.Config) {
	c.Rate = 150
	w := newTrial(t, c)
	halfway(t, w, 50)
	before := recordsOfPasses(t, w)
	replaceInJob(t, w, "purpose: pii", "purpose: none")
	if r := w.Run(t, "run", "-o", "json"); r.Code != exitJob || !strings.Contains(r.Log, "--restart") {
		t.Errorf("a pass of another meaning: want exit code %d, and a word of --restart: %s", exitJob, r)
	}
	if !maps.Equal(before, recordsOfPasses(t, w)) {
		t.Error("the refusal changed the checkpoint")
	}
	replaceInJob(t, w, "purpose: none", "purpose: pii")
	w.CountsVary() // what the first pass moved is current in the second
	r := w.Must(t, complete(), "run", "--restart", "-o", "json")
	w.Check(t, r.Summary)
	if r.Summary.Pass != 2 {
		t.Errorf("it is pass %d, want 2: the first is kept", r.Summary.Pass)
	}
	keptRecords(t, before, w.Records(t), "")
}

// fullDisk: what cannot be kept stops the run with 73, never with 0, and what was
// kept before is whole: with room again the pass goes on.
func fullDisk(t *testing.T) {
	for _, blocks := range []int{4, 20, 40, 100} { // of 1 KiB, for each file
		t.Run(fmt.Sprintf("files of %d KiB", blocks), func(t *testing.T) {
			t.Parallel()
			w := newTrial(t, harness.Config{})
			p := runs(w)
			p.Args = append([]string{"bash", "-c", fmt.Sprintf(`ulimit -f %d; exec "$0" "$@"`, blocks)}, p.Args...)
			p.Path = "/bin/bash"
			stopped(t, w, p.Begin(t).End(t), exitStorage)
			r := w.Run(t, "run", "-o", "json")
			if r.Code != exitExceptions {
				t.Errorf("with room again, and nothing else done, want exit code 3: %s", r)
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

// failingSync lets fsync and fdatasync fail, as they do for a disk that is broken,
// from the beginning or from the middle of a run on: nothing after it may be taken
// for kept.
func failingSync(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("SKIPPED: strace, which makes fsync fail, is not installed")
	}
	inject := []string{strace, "-f", "-qq", "-o", filepath.Join(t.TempDir(), "calls"), "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"}
	goesOn := func(t *testing.T, w *harness.Env, p *harness.Process) {
		stopped(t, w, p.End(t), exitStorage)
		w.CountsVary() // a note that was not synced may be there all the same
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
		w := newTrial(t, harness.Config{Rate: 100}) // some seconds are left when it begins to fail
		p := runs(w).Begin(t)
		until(t, "half of the pass", asked(w, 100))
		tracer := exec.Command(inject[0], append(inject[1:], "-p", strconv.Itoa(p.Process.Pid))...)
		if err := tracer.Start(); err != nil {
			t.Fatal(err)
		}
		goesOn(t, w, p)
		_ = tracer.Wait() // it ends with what it traces
	})
}

// shortMemory: how much memory a run takes does not depend on how many items there
// are.
func shortMemory(t *testing.T) {
	peak := func(items int) int64 {
		w := newTrial(t, harness.Config{Items: map[harness.Kind]int{harness.Ordinary: items}, Objects: map[harness.Kind]int{}, Plaintext: 4000, Workers: 4,
			Rate: 50000, Env: []string{"GOMEMLIMIT=40MiB"}})
		return toTheEnd(t, w).MaxRSS
	}
	few, many := peak(400), peak(2000)
	t.Logf("%d MiB for 400 items, %d MiB for 2000", few>>20, many>>20)
	allowed := int64(20 << 20) // blobs kept in all their forms would be 35
	if raceEnabled {
		allowed *= 4
	}
	if many > few+allowed {
		t.Errorf("%d MiB for 400 items, and %d MiB for 2000", few>>20, many>>20)
	}
}

// snapshot is every file under a directory.
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

// movedAlias: the keys of a pass are those that the aliases stood for when it
// began.
func movedAlias(t *testing.T) {
	t.Run("under way", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{Aliases: true, Rate: 500})
		p := runs(w).Begin(t)
		until(t, "the first requests", asked(w, 40))
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
		halfway(t, w, 80)
		if err := w.Server.KMS().SetAlias("alias/new", w.Third); err != nil {
			t.Fatal(err)
		}
		if r := w.Run(t, "run", "-o", "json"); r.Code != exitJob || !strings.Contains(r.Log, "alias/new was "+w.New) {
			t.Errorf("want exit code %d, with the key's name: %s", exitJob, r)
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
			body = bytes.ReplaceAll(body, []byte(`"DestinationKeyId":"`+w.New), []byte(`"DestinationKeyId":"`+w.Third))
			r.Body = readCloser(body)
		}})
		stopped(t, w, w.Run(t, "run", "-o", "json"), exitInternal)
		w.Server.Faults().Clear("")
		toTheEnd(t, w)
	})
}

// lostReport: a result that cannot be printed is not lost.
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

// addedItems: what is added behind the cursor is not in the pass, which therefore
// is no proof; verify finds it, and the next pass moves it.
func addedItems(t *testing.T) {
	w := newTrial(t, harness.Config{Items: map[harness.Kind]int{harness.Ordinary: 60}, Objects: map[harness.Kind]int{harness.Ordinary: 20}})
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
	w.Server.Faults().Clear("") // nothing is added from here on
	w.CheckPartial(t, r.Summary)
	if s := r.Summary; s.Converged || !s.Ended.After(s.Started) {
		t.Errorf("converged %v, from %s to %s", s.Converged, s.Started, s.Ended)
	}
	r = w.Must(t, []int{exitRemaining}, "verify", "-o", "json")
	left := r.Summary.Slots.Remaining
	r = toTheEnd(t, w)
	if r.Summary.Slots.Rotated != left {
		t.Errorf("verify found %d slots, and the next pass moved %d", left, r.Summary.Slots.Rotated)
	}
	r = w.Must(t, []int{exitDone}, "verify", "-o", "json")
	w.Check(t, r.Summary)
	if !r.Summary.Converged {
		t.Errorf("not converged: %s", r)
	}
}

// dryRun: commands that only look send no write, and touch nothing of a run that
// was stopped.
func dryRun(t *testing.T) {
	w := newTrial(t, harness.Config{Rate: 1000})
	halfway(t, w, 100)
	before := snapshot(t, filepath.Join(w.Dir, ".rotator"))
	w.ReadOnly(true)
	for _, look := range []struct {
		args  []string
		codes []int
	}{{[]string{"audit"}, []int{exitDone}},
		{[]string{"audit", "--fail-on-remaining"}, []int{exitRemaining}},
		{[]string{"verify"}, []int{exitRemaining}},
		{[]string{"status"}, []int{exitDone}}, {[]string{"report"}, []int{exitDone}}} {
		r := w.Must(t, look.codes, append(look.args, "-o", "json")...)
		w.CheckPartial(t, r.Summary)
		if command := look.args[0]; command != "status" && command != "report" {
			want := sum(w.Expected())
			if s := r.Summary.Slots; s.Rotated != 0 || s.Seen != want.Seen || s.Remaining+s.Current != want.Rotated+want.Current {
				t.Errorf("%s counted %+v, and a whole pass counts %+v", command, s, want)
			}
		}
		if after := snapshot(t, filepath.Join(w.Dir, ".rotator")); !maps.Equal(before, after) {
			t.Errorf("%s touched the state of a run", look.args)
		}
	}
	w.ReadOnly(false)
	toTheEnd(t, w)
}

// recordsOfPasses returns the records of the checkpoint other than the list of members. A run
// joins the members before it asks KMS, so that its first requests are within the rate.
func recordsOfPasses(t *testing.T, w *harness.Env) map[string]string {
	t.Helper()
	records := w.Records(t)
	maps.DeleteFunc(records, func(id, _ string) bool { return strings.HasSuffix(id, "/roster") })
	return records
}
