package auditlog

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rotator/internal/rotate"
)

// TestLogOfTheVersionBefore: a log of plain lines is found in, continued, closed, verified and
// exported. testdata/old was written by the version before, in three runs of which one was
// killed.
func TestLogOfTheVersionBefore(t *testing.T) {
	t.Parallel()
	old, err := os.ReadFile("testdata/old/crash.audit.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(fastDir(t), "crash.audit.jsonl")
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	mark := Mark{Name: "crash.audit.jsonl", Lines: int64(bytes.Count(old, []byte("\n"))),
		Hash: string(hashOf(old)), Here: true}
	log, err := Open(path, "crash")
	if err != nil {
		t.Fatal(err)
	}
	if broken := log.Believe([]Mark{mark}); len(broken) > 0 {
		t.Errorf("the log lacks %+v", broken)
	}
	second, _, err := parse(bytes.Split(old, []byte("\n"))[1])
	if err != nil {
		t.Fatal(err)
	}
	want := rotate.Trace{Record: second.record(), Written: true, Kept: true}
	if trace, ok := log.Find(second.Target, want.Record.Ref, second.After); !ok || trace != want {
		t.Errorf("Find: %+v, %v, want %+v", trace, ok, want)
	}
	appendSlots(t, log, 1, 20)
	log.SegmentSize = small
	appendSlots(t, log, 21, 20) // which closes the segment of plain lines
	if log.number < 2 {
		t.Error("the segment of plain lines was not closed")
	}
	lines, hash := log.Head()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	found, err := VerifyFile(path, mark, Mark{Lines: lines, Hash: hash})
	if err != nil || found != mark.Lines+80 {
		t.Errorf("VerifyFile = %d, %v, want %d lines", found, err, mark.Lines+80)
	}
	var plain bytes.Buffer
	if err := Export(path, &plain); err != nil || !bytes.HasPrefix(plain.Bytes(), old) {
		t.Errorf("the export does not begin with the old lines (%v)", err)
	}
	if log, err = Open(path, "crash"); err != nil {
		t.Fatal(err)
	}
	if n, head := log.Head(); n != lines || head != hash {
		t.Errorf("reopened, it has %d lines up to %s, want %d, %s", n, head, lines, hash)
	}
	_ = log.Close()
}

// appendSlots appends both lines of n slots.
func appendSlots(t *testing.T, log *Log, first, n int) {
	t.Helper()
	for i := range n {
		records := []rotate.Record{typical(first + i)}
		if err := errors.Join(log.Intend(records), log.Record(records)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPythonChecker runs the script of docs/audit-log.md over exported lines.
func TestPythonChecker(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("SKIPPED: python3 is not installed, so the script of docs/audit-log.md is not run")
	}
	page, err := os.ReadFile("../../../docs/audit-log.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, _ := strings.Cut(string(page), "```python\n")
	script, _, _ = strings.Cut(script, "```")
	if n := strings.Count(script, "\n"); n < 5 || n > 15 {
		t.Fatalf("the script has %d lines", n)
	}
	s := newSession(t, filepath.Join(fastDir(t), "job.audit.jsonl"), 3)
	_ = s.log.Close()
	var plain bytes.Buffer
	if err := Export(s.path, &plain); err != nil {
		t.Fatal(err)
	}
	check := func(text []byte) (string, error) {
		cmd := exec.Command(python, "-c", script)
		cmd.Stdin = bytes.NewReader(text)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := check(plain.Bytes())
	if err != nil || !strings.Contains(out, s.mark.Hash) {
		t.Errorf("the script prints %q (%v), want %s", out, err, s.mark.Hash)
	}
	lines := bytes.SplitAfter(plain.Bytes(), []byte("\n"))
	for name, text := range map[string][]byte{
		"a changed line":  bytes.Replace(plain.Bytes(), []byte("orders"), []byte("Orders"), 1),
		"a line less":     bytes.Join(append(lines[:5:5], lines[6:]...), nil),
		"a changed hash":  bytes.Replace(plain.Bytes(), []byte(`"hash":"`), []byte(`"hash":"0`), 1),
		"a changed order": bytes.Join(append([][]byte{lines[1], lines[0]}, lines[2:]...), nil),
	} {
		if out, err := check(text); err == nil {
			t.Errorf("%s: the script prints %q", name, out)
		}
	}
}
