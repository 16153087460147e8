package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"rotator/internal/checkpoint"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
)

// codeCase starts a command in a small environment, in which one value is under the old key,
// and returns it. The command must exit with the code of the case.
type codeCase func(t *testing.T, w *harness.Env) *harness.Process

func codeCases() map[int]codeCase {
	command := func(args ...string) codeCase {
		return func(t *testing.T, w *harness.Env) *harness.Process {
			return w.Command(args...).Begin(t)
		}
	}
	return map[int]codeCase{
		exitDone:        command("run"),
		exitInternal:    cutAuditLog,
		exitPanic:       signalled(syscall.SIGQUIT),
		exitExceptions:  unreadableValue,
		exitRemaining:   command("verify"),
		exitUsage:       command("run", "--no-such-flag"),
		exitUnavailable: silentService,
		exitStorage:     withFullStdout,
		exitInterrupted: signalled(syscall.SIGTERM),
		exitBusy:        lockedCheckpoint,
		exitAccess:      unknownProfile,
		exitJob:         unknownField,
		exitPipe:        withoutReader,
	}
}

// cutAuditLog checks an audit log whose last line is missing.
func cutAuditLog(t *testing.T, w *harness.Env) *harness.Process {
	w.Must(t, []int{exitDone}, "run")
	path := filepath.Join(w.Dir, ".rotator", "trial.audit.jsonl")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := strings.LastIndexByte(strings.TrimSuffix(string(text), "\n"), '\n')
	if err := os.WriteFile(path, text[:end+1], 0o600); err != nil {
		t.Fatal(err)
	}
	return w.Command("report", "--check").Begin(t)
}

// signalled sends a signal to a run while its first request to KMS waits for a response.
func signalled(signal syscall.Signal) codeCase {
	return func(t *testing.T, w *harness.Env) *harness.Process {
		requested := make(chan struct{}, 1)
		w.Fault("kms:DescribeKey", fault.Fault{Before: func(requestOf, []byte) {
			select {
			case requested <- struct{}{}:
			default:
			}
			<-t.Context().Done()
		}})
		p := w.Command("run").Begin(t)
		<-requested
		p.Signal(t, signal)
		return p
	}
}

// unreadableValue runs over a value that is not a ciphertext.
func unreadableValue(t *testing.T, w *harness.Env) *harness.Process {
	replaceInJob(t, w, "format: raw", "format: base64")
	return w.Command("run").Begin(t)
}

// silentService runs while KMS fails for longer than max_outage.
func silentService(t *testing.T, w *harness.Env) *harness.Process {
	replaceInJob(t, w, "max_outage: 20s", "max_outage: 500ms")
	w.Fault("kms:ReEncrypt", fault.Fault{Kind: fault.InternalError})
	return w.Command("run").Begin(t)
}

func withFullStdout(t *testing.T, w *harness.Env) *harness.Process {
	p := w.Command("run")
	fullStdout(t, p)
	return p.Begin(t)
}

// withoutReader prints into a pipe whose reader has ended.
func withoutReader(t *testing.T, w *harness.Env) *harness.Process {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = writer.Close() })
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	w.Must(t, []int{exitDone}, "run")
	p := w.Command("report")
	p.Stdout = writer
	return p.Begin(t)
}

// lockedCheckpoint runs while another process has the checkpoint open.
func lockedCheckpoint(t *testing.T, w *harness.Env) *harness.Process {
	if err := os.MkdirAll(filepath.Dir(statePath(w)), 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := checkpoint.AcquireLock(statePath(w))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Release() })
	return w.Command("run").Begin(t)
}

func unknownProfile(t *testing.T, w *harness.Env) *harness.Process {
	p := w.Command("run")
	p.Env = append(p.Env, "AWS_PROFILE=nobody")
	return p.Begin(t)
}

func unknownField(t *testing.T, w *harness.Env) *harness.Process {
	replaceInJob(t, w, "job: trial", "jobb: trial")
	return w.Command("run").Begin(t)
}

// TestExitCodes: the program, built as users build it (TestMain), exits with each code of the
// table in docs/exit-codes.md, and the table has no other codes.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	cases, documented := codeCases(), documentedCodes(t)
	if got := declaredCodes(t); !slices.Equal(got, documented) {
		t.Errorf("exit.go has the codes %v, but docs/exit-codes.md has %v", got, documented)
	}
	if got := slices.Sorted(maps.Keys(cases)); !slices.Equal(got, documented) {
		t.Fatalf("there are cases for %v, but docs/exit-codes.md has %v", got, documented)
	}
	for code, start := range cases {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			w := harness.Start(t, harness.Config{MaxOutage: "20s",
				Items: map[harness.Kind]int{harness.Ordinary: 1}, Objects: map[harness.Kind]int{}})
			if r := start(t, w).End(t); r.Code != code {
				t.Errorf("want exit code %d: %s", code, r)
			}
		})
	}
}

// documentedCodes returns the codes of the table in docs/exit-codes.md, sorted. It also
// compares the documented order of precedence.
func documentedCodes(t *testing.T) (codes []int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "exit-codes.md"))
	if err != nil {
		t.Fatal(err)
	}
	number := func(digits string) int {
		n, err := strconv.Atoi(digits)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	rows := regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(string(text), -1)
	for _, row := range rows {
		codes = append(codes, number(row[1]))
	}
	order := regexp.MustCompile(`the first of ([\d,\s]+) is used`).FindStringSubmatch(string(text))
	if order == nil {
		t.Fatal("docs/exit-codes.md has no order of exit codes")
	}
	var listed []int
	for _, digits := range regexp.MustCompile(`\d+`).FindAllString(order[1], -1) {
		listed = append(listed, number(digits))
	}
	if want := append(precedence(), exitDone); !slices.Equal(listed, want) {
		t.Errorf("docs/exit-codes.md has the order %v, but the program has %v", listed, want)
	}
	return slices.Sorted(slices.Values(codes))
}

// declaredCodes returns the exit codes that exit.go declares, sorted.
func declaredCodes(t *testing.T) (codes []int) {
	t.Helper()
	text, err := os.ReadFile("exit.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^\texit[A-Z]\w* += (\d+)`)
	for _, found := range declared.FindAllStringSubmatch(string(text), -1) {
		code, err := strconv.Atoi(found[1])
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, code)
	}
	return slices.Sorted(slices.Values(codes))
}
