package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"rotator/internal/harness"
)

// withCredentialProcess makes a command get its credentials from a shell script. The script
// first writes its process id to the file that is returned.
func withCredentialProcess(
	t *testing.T, p *harness.Process, script string,
) (pid string) {
	t.Helper()
	dir := t.TempDir()
	pid = filepath.Join(dir, "pid")
	variable := func(name string) string {
		for _, v := range p.Env {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return ""
	}
	output := `{"Version":1,"AccessKeyId":"` + variable("AWS_ACCESS_KEY_ID") +
		`","SecretAccessKey":"` + variable("AWS_SECRET_ACCESS_KEY") +
		`","SessionToken":"` + variable("AWS_SESSION_TOKEN") + `"}`
	files := map[string]string{
		"output": output,
		"script": "echo $$ > " + pid + "\n" + script + "\ncat " + dir + "/output\n",
		"config": "[default]\ncredential_process = sh " + dir + "/script\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.Unset("AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_SESSION_TOKEN=")
	p.Env = append(p.Env, "AWS_CONFIG_FILE="+filepath.Join(dir, "config"))
	return pid
}

// TestCredentialProcess: a slow credential_process returns credentials. One that hangs is ended
// with the command, and so are its children, also if it ignores SIGTERM.
func TestCredentialProcess(t *testing.T) {
	t.Parallel()
	few := harness.Config{
		Items:   map[harness.Kind]int{harness.Ordinary: 3},
		Objects: map[harness.Kind]int{harness.Ordinary: 3},
	}
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, few)
		p := runs(w)
		withCredentialProcess(t, p, "sleep 3")
		r := p.Begin(t).End(t)
		if r.Code != exitDone {
			t.Fatalf("want exit code 0: %s", r)
		}
		w.Check(t, r.Summary)
	})
	for name, script := range map[string]string{
		"hangs":           "sleep 120",
		"ignores SIGTERM": "trap '' TERM; sleep 120",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTrial(t, few)
			p := runs(w)
			file := withCredentialProcess(t, p, script)
			p.Begin(t)
			pid := 0
			until(t, "the credential_process", func() bool {
				text, _ := os.ReadFile(file)
				pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
				return pid > 0 && len(descendants(pid)) > 0
			})
			begun := descendants(p.Process.Pid)
			stopped := time.Now()
			p.Signal(t, syscall.SIGTERM)
			r := p.End(t)
			if took := time.Since(stopped); r.Code != exitInterrupted || took > shutdownGrace {
				t.Errorf("want exit code %d within %s, took %s: %s", exitInterrupted,
					shutdownGrace, took, r)
			}
			if len(begun) < 2 {
				t.Errorf("%d processes, want 2, the shell and sleep", len(begun))
			}
			until(t, "the end of the credential_process", func() bool {
				return len(running(begun)) == 0
			})
		})
	}
}
