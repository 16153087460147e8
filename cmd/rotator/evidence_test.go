package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"rotator/internal/fakeaws/fault"
	"rotator/internal/report"
	"rotator/internal/report/auditlog"
)

// The files of the state of a crashBench.
const (
	benchLog   = ".rotator/crash.audit.jsonl"
	benchState = ".rotator/state.db"
)

// rotator runs a command over the bench's job, which must end with an exit code.
func (b *crashBench) rotator(t *testing.T, code int,
	args ...string) (s report.Summary, out, log string) {
	t.Helper()
	cmd, stdout, stderr := b.command(t.Context(), append(args, "-f", "job.yaml", "-o", "json")...)
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("%v ended with %d, want %d\n%s%s", args, got, code, stdout, stderr)
	}
	if stdout.Len() > 0 && args[0] != "report" {
		if err := json.Unmarshal(stdout.Bytes(), &s); err != nil {
			t.Fatalf("%v: %v in %q", args, err, stdout)
		}
	}
	return s, stdout.String(), stderr.String()
}

// edit changes the text of the job file.
func (b *crashBench) edit(t *testing.T, old, new string) {
	t.Helper()
	text := b.read(t, "job.yaml")
	if !strings.Contains(text, old) {
		t.Fatalf("the job file does not contain %q", old)
	}
	b.put(t, "job.yaml", strings.Replace(text, old, new, 1))
}

func (b *crashBench) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (b *crashBench) put(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(b.dir, name)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// plainLog returns the plain lines of a log.
func (b *crashBench) plainLog(t *testing.T, name string) string {
	t.Helper()
	var text bytes.Buffer
	if err := auditlog.Export(filepath.Join(b.dir, name), &text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func (b *crashBench) lose(t *testing.T, pattern string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

// begin starts a pass and ends it before anything is read.
func (b *crashBench) begin(t *testing.T) {
	t.Helper()
	b.server.Faults().Set("dynamodb:Scan",
		fault.Fault{Kind: fault.Refusal, Answer: fault.Answer{Code: "AccessDeniedException"}})
	b.rotator(t, exitAccess, "run")
	b.server.Faults().Clear("dynamodb:Scan")
}

// TestLogWithoutItsCheckpoint: lines of a log about a pass that the checkpoint
// does not have are not used. KMS decides about the slots.
func TestLogWithoutItsCheckpoint(t *testing.T) {
	t.Parallel()
	const n = 5
	context := "context: {purpose: pii}"
	for _, test := range []struct {
		name string
		edit string // the context of the slot in the second job file
		code int
		want report.Slots
	}{
		{"the same job", context, exitDone, report.Slots{Seen: n, Current: n}},
		{"another destination context", context + `, destination_context: {purpose: pii, v: "2"}`,
			exitExceptions,
			report.Slots{Seen: n, Foreign: n}},
		{"no destination context", context + `, destination_context: {}`,
			exitExceptions,
			report.Slots{Seen: n, Foreign: n}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newCrashBench(t, n, 1000)
			if s, _, _ := b.rotator(t, exitDone, "run"); s.Slots.Rotated != n {
				t.Fatalf("the first run: %+v", s.Slots)
			}
			b.lose(t, benchState+"*")
			b.edit(t, context, test.edit)
			s, _, _ := b.rotator(t, test.code, "run")
			if s.Slots != test.want || s.Pass != 1 || s.KMS.Requests == 0 {
				t.Errorf("pass %d: %+v with %d requests, want %+v", s.Pass, s.Slots,
					s.KMS.Requests, test.want)
			}
			b.check(t, nil)
		})
	}
}

// TestRestartUsesNoOldLog: lines of an earlier pass are not used in a pass that --restart began.
func TestRestartUsesNoOldLog(t *testing.T) {
	t.Parallel()
	const n = 50
	b := newCrashBench(t, n, 100)
	b.killHalfway(t)
	s, _, _ := b.rotator(t, exitDone, "run", "--restart")
	if s.Pass != 2 || s.Slots.Rotated == n || s.Slots.Rotated+s.Slots.Current != n {
		t.Errorf("pass %d: %+v", s.Pass, s.Slots)
	}
	b.check(t, nil)
}

// killHalfway kills a run when it has written some slots.
func (b *crashBench) killHalfway(t *testing.T) {
	t.Helper()
	cmd, _, log := b.command(t.Context(), "run", "-f", "job.yaml")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "a write", func() bool {
		for i := range b.slots {
			if b.under(t, i) == b.new {
				return true
			}
		}
		return false
	})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the run ended before it was killed\n%s", log)
	}
}

// forged is a line of an audit log with its own hash.
func forged(fields map[string]any) (text, hash string) {
	body, _ := json.Marshal(fields)
	sum := sha256.Sum256(body)
	hash = hex.EncodeToString(sum[:])
	return string(body[:len(body)-1]) + `,"hash":"` + hash + "\"}\n", hash
}

// forge appends a line for each of some items to a log, with an unbroken chain.
// Each line claims that a pass has moved the current ciphertext of the item.
func (b *crashBench) forge(t *testing.T, log string, pass int, binding string,
	items ...int) string {
	t.Helper()
	prev, seq := strings.Repeat("0", 64), 0
	for text := range strings.Lines(log) {
		var l struct {
			Seq  int
			Hash string
		}
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		prev, seq = l.Hash, l.Seq
	}
	stored := b.server.DynamoDB().Items("customers")
	for _, i := range items {
		seq++
		var item struct{ SSN struct{ B []byte } }
		ref := fmt.Sprintf(`{"id":{"S":%q}}`, crashID(i))
		if err := json.Unmarshal(stored[ref], &item); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(item.SSN.B)
		var text string
		text, prev = forged(map[string]any{
			"seq":            seq,
			"event":          "rotated",
			"at":             "2026-01-02T03:04:05Z",
			"pass":           pass,
			"target":         "customers",
			"ref":            ref,
			"path":           "ssn",
			"from_key":       b.old,
			"to_key":         b.new,
			"before_sha256":  strings.Repeat("1", 64),
			"after_sha256":   hex.EncodeToString(sum[:]),
			"binding_sha256": binding,
			"prev":           prev,
		})
		log += text
	}
	return log
}

// TestForgedLinesHideNothing: a slot under the old key is moved even if a
// forged line claims that it was moved, in a separate log or after the lines
// that the checkpoint has recorded.
func TestForgedLinesHideNothing(t *testing.T) {
	t.Parallel()
	const n = 50
	for _, test := range []struct {
		name     string
		halfway  bool // the pass has a log, and the checkpoint may have recorded its last line
		borrowed bool // the forged lines have the binding of a real line of the log
	}{{"separate log", false, false}, {"after the real lines", true, false},
		{"with the binding of a real line", true, true}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newCrashBench(t, n, 100)
			log, binding := "", strings.Repeat("2", 64)
			if test.halfway {
				b.killHalfway(t)
				log = b.plainLog(t, benchLog)
			} else {
				b.begin(t)
			}
			if test.borrowed {
				_, after, _ := strings.Cut(log, `"binding_sha256":"`)
				binding = after[:64]
			}
			var still []int
			for i := range n {
				if b.under(t, i) == b.old {
					still = append(still, i)
				}
			}
			if len(still) < 3 {
				t.Fatalf("only %d items are still under the old key", len(still))
			}
			b.put(t, benchLog, b.forge(t, log, 1, binding, still[:3]...))
			s, _, _ := b.rotator(t, exitDone, "run")
			if want := (report.Slots{Seen: n, Rotated: n}); s.Slots != want || s.Pass != 1 {
				t.Errorf("pass %d: %+v, want %+v", s.Pass, s.Slots, want)
			}
			b.check(t, nil)
		})
	}
}

// under returns the key of the slot of an item.
func (b *crashBench) under(t *testing.T, i int) string {
	t.Helper()
	var item struct{ SSN struct{ B []byte } }
	key := fmt.Sprintf(`{"id":{"S":%q}}`, crashID(i))
	if err := json.Unmarshal(b.server.DynamoDB().Items("customers")[key], &item); err != nil {
		t.Fatal(err)
	}
	_, key, err := b.server.KMS().Decrypt("", item.SSN.B, map[string]string{"purpose": "pii"})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestTruncatedLogIsReported: a log that lacks a line that the checkpoint has recorded is not used.
// The run continues, its report contains a note, and report --check fails, also after later runs.
func TestTruncatedLogIsReported(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(log string) string
	}{
		{"cut off", func(log string) string { return log[:strings.Index(log, "\n")+1] }},
		{"lost", nil},
		{"replaced", func(string) string {
			text, _ := forged(map[string]any{
				"seq":   1,
				"event": "log",
				"job":   "crash",
				"prev":  strings.Repeat("0", 64),
			})
			return text
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			const n = 60
			b := newCrashBench(t, n, 1000)
			b.server.Faults().Set("dynamodb:BatchExecuteStatement",
				fault.Fault{
					Kind:   fault.Refusal,
					Skip:   2, // the probes
					Answer: fault.Answer{Code: "AccessDeniedException"},
				})
			b.rotator(t, exitAccess, "run")
			b.server.Faults().Clear("dynamodb:BatchExecuteStatement")
			if test.change == nil {
				b.lose(t, benchLog)
			} else {
				b.put(t, benchLog, test.change(b.read(t, benchLog)))
			}
			s, _, _ := b.rotator(t, exitDone, "run")
			if s.Slots.Rotated+s.Slots.Current != n {
				t.Errorf("%+v", s.Slots)
			}
			notes := strings.Join(s.Notes, "\n")
			if !strings.Contains(notes, "truncated, replaced or lost") {
				t.Errorf("notes: %s", notes)
			}
			b.check(t, nil)
			for range 2 {
				_, _, log := b.rotator(t, exitInternal, "report", "--check")
				if !strings.Contains(log, "the audit log is not intact") {
					t.Errorf("report --check: %s", log)
				}
				b.rotator(t, exitDone, "retry")
			}
		})
	}
}

// TestForeignFilesSurvive: a file that rotator did not write is never changed,
// regardless of the setting that names it, and nothing is written before the
// error.
func TestForeignFilesSurvive(t *testing.T) {
	t.Parallel()
	const foreign = "a note of another program"
	for _, test := range []struct {
		name, setting, file string
		code                int
		want                string
	}{
		{"as the audit log", "audit_log: notes.txt", "notes.txt", exitJob,
			"does not begin as an audit log"},
		{"the job file as the audit log", "audit_log: job.yaml", "job.yaml", exitJob,
			"does not begin as an audit log"},
		{"the checkpoint as the audit log", "audit_log: " + benchState, "", exitJob,
			"is the same file as the checkpoint"},
		{"the lock as the audit log", "audit_log: " + benchState + ".lock", "", exitJob,
			"is the lock file of the checkpoint"},
		{"a directory as the audit log", "audit_log: ./", "", exitJob, "is a directory"},
		{"a pipe as the audit log", "audit_log: pipe", "", exitJob, "is a named pipe"},
		{"a device as the audit log", "audit_log: /dev/null", "", exitJob, "is a device"},
		{"as the checkpoint", "checkpoint: file:notes.txt", "notes.txt", exitStorage,
			"is not a readable checkpoint"},
		{"the job file as the checkpoint", "checkpoint: file:job.yaml", "job.yaml", exitStorage,
			"is not a readable checkpoint"},
		{"a directory as the checkpoint", "checkpoint: file:./", "", exitStorage, "directory"},
		{"a pipe as the checkpoint", "checkpoint: file:pipe", "", exitStorage, "named pipe"},
		{"as the lock", "checkpoint: file:state", "state.lock", exitStorage, "state.lock"},
		{"a pipe as the lock", "checkpoint: file:piped", "", exitStorage, "named pipe"},
		{"as a draft of the checkpoint", "checkpoint: file:state", "state.new", exitDone, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newCrashBench(t, 5, 1000)
			for _, pipe := range []string{"pipe", "piped.lock"} {
				if err := syscall.Mkfifo(filepath.Join(b.dir, pipe), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			text := test.setting + "\n" + b.read(t, "job.yaml")
			b.put(t, "job.yaml", text)
			want := text
			if test.file != "" && test.file != "job.yaml" {
				b.put(t, test.file, foreign)
				want = foreign
			}
			_, _, log := b.rotator(t, test.code, "run")
			if !strings.Contains(log, test.want) {
				t.Errorf("stderr is %q, want %q", log, test.want)
			}
			if test.file != "" && b.read(t, test.file) != want {
				t.Errorf("%s holds %q", test.file, b.read(t, test.file))
			}
			n := b.server.Faults().Counts()["dynamodb:BatchExecuteStatement"]
			if test.code != exitDone && n > 0 {
				t.Errorf("%d writes", n)
			}
		})
	}
}

// TestLogOfAnotherJob: two jobs cannot use the same audit log.
func TestLogOfAnotherJob(t *testing.T) {
	t.Parallel()
	b := newCrashBench(t, 5, 1000)
	b.edit(t, "job: crash\n", "job: crash\naudit_log: log.jsonl\n")
	b.rotator(t, exitDone, "run")
	before := b.read(t, "log.jsonl")
	b.edit(t, "job: crash\n", "job: second\n")
	_, _, log := b.rotator(t, exitJob, "run")
	if !strings.Contains(log, `job.yaml:2:12: audit_log: `) ||
		!strings.Contains(log, `of job "crash"`) {
		t.Errorf("stderr is %s", log)
	}
	if after := b.read(t, "log.jsonl"); after != before {
		t.Errorf("the log of the other job was changed: %q",
			bytes.TrimPrefix([]byte(after), []byte(before)))
	}
}

// TestRunDuringVerify: a run that ends while verify reads does not count as an earlier pass. Slots
// that verify read before the run moved them were not written by an application afterwards.
func TestRunDuringVerify(t *testing.T) {
	t.Parallel()
	v := newVault(t, `  - files: {root: export}
    format: base64
    slots: [{context: {path: "${key}"}}]
`)
	v.seal("a")
	var running atomic.Bool
	v.server.Faults().Set("kms:ReEncrypt", fault.Fault{Before: func(_ *http.Request, body []byte) {
		if bytes.Contains(body, []byte("DryRun")) || !running.CompareAndSwap(false, true) {
			return
		}
		if out, err := v.command("run").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}})
	if s := v.rotator(exitRemaining, "verify"); len(s.Notes) > 0 {
		t.Errorf("notes %q", s.Notes)
	}
	v.rotator(exitDone, "verify")
	v.seal("a")
	s := v.rotator(exitRemaining, "verify")
	if len(s.Notes) != 1 ||
		!strings.Contains(s.Notes[0], "a writer still uses the old key") {
		t.Errorf("notes %q", s.Notes)
	}
}
