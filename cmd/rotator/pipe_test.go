package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rotator/internal/harness"
	"rotator/internal/report"
)

// piped runs a command in a shell. Its exit code is written to the file "code" before the pipe
// ends. pipe is the rest of the command line, with a program that reads no input.
func piped(t *testing.T, w *harness.Env, pipe string) (code string) {
	t.Helper()
	file := filepath.Join(w.Dir, "code")
	p := runs(w)
	script := `{ "$0" "$@"; echo $? >` + file + `; } ` + pipe
	p.Path = "/bin/sh"
	p.Args = append([]string{"sh", "-c", script}, p.Args...)
	r := p.Begin(t).End(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("no exit code: %v: %s", err, r)
	}
	return strings.TrimSpace(string(text))
}

// TestBrokenPipes: if the program that reads stderr ends, a run continues and its result has no
// gap. If the program that reads stdout ends, the pass is finished and saved, and the command
// ends as with a full disk.
func TestBrokenPipes(t *testing.T) {
	t.Parallel()
	t.Run("stderr", func(t *testing.T) {
		w := newTrial(t, fewer())
		result := filepath.Join(w.Dir, "result")
		if code := piped(t, w, "2>&1 >"+result+" | true"); code != "3" {
			t.Errorf("exit code %s, want 3", code)
		}
		text, err := os.ReadFile(result)
		if err != nil {
			t.Fatal(err)
		}
		var summary report.Summary
		if err := json.Unmarshal(text, &summary); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		w.Check(t, &summary)
	})
	t.Run("both", func(t *testing.T) {
		w := newTrial(t, fewer())
		if code := piped(t, w, "2>&1 | true"); code != "73" {
			t.Errorf("exit code %s, want 73", code)
		}
		r := w.Must(t, complete(), "report", "-o", "json")
		w.Check(t, r.Summary)
	})
}
