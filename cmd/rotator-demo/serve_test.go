package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rotator/internal/report"
)

// TestMain lets the test binary run as rotator-demo.
func TestMain(m *testing.M) {
	if os.Getenv("ROTATOR_DEMO_TEST_RUN") == "1" {
		main()
	}
	os.Exit(m.Run())
}

// TestServe does what the help of serve describes: a shell evaluates the output of a child
// process, and the real rotator works with the resulting environment.
func TestServe(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "rotator")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../rotator")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build rotator: %v\n%s", err, out)
	}
	dir := t.TempDir()
	env, stop := startServe(t, "--listen", "127.0.0.1:0", "--seed", "small", "--dir", dir)
	for _, name := range []string{table, bucket, oldAlias, newAlias, thirdAlias,
		signingAlias} {
		if !strings.Contains(env, name) {
			t.Errorf("the output does not name %s:\n%s", name, env)
		}
	}
	n := small()
	exceptions := int64(n.poison + n.foreign)
	movable := int64(n.items+n.objects) - exceptions - int64(n.moved)

	audit := inShell(t, env, binary, rotatorDone, "audit")
	if audit.Slots.Remaining != movable {
		t.Errorf("the audit found %d slots under the old key, want %d",
			audit.Slots.Remaining, movable)
	}
	run := inShell(t, env, binary, rotatorExceptions, "run")
	if run.Slots.Rotated != movable || run.Slots.Exceptions() != exceptions {
		t.Errorf("the run counted %+v, want %d rotated and %d exceptions",
			run.Slots, movable, exceptions)
	}
	verify := inShell(t, env, binary, rotatorExceptions, "verify")
	if len(verify.SourceKeys) != 1 || verify.SourceKeys[0].Answer != report.Yes {
		t.Errorf("verify reports %+v, want that the old key can be disabled", verify.SourceKeys)
	}
	if code := stop(); code != exitDone {
		t.Errorf("serve ended with exit code %d, want %d", code, exitDone)
	}
}

// startServe starts serve as a child process and returns its output up to the line "# ready".
// stop ends the process with SIGTERM and returns its exit code.
func startServe(t *testing.T, args ...string) (output string, stop func() int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, append([]string{"serve"}, args...)...)
	cmd.Env = append(os.Environ(), "ROTATOR_DEMO_TEST_RUN=1")
	cmd.Stderr = t.Output()
	stdout, err := os.Create(filepath.Join(t.TempDir(), "fake.env"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdout.Close() }()
	cmd.Stdout = stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the exit code is checked
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(time.Minute); !strings.Contains(output, "# ready"); {
		if time.Now().After(deadline) {
			t.Fatalf("serve printed no ready line:\n%s", output)
		}
		select {
		case <-ended:
			t.Fatalf("serve ended:\n%s", output)
		case <-time.After(10 * time.Millisecond):
		}
		text, err := os.ReadFile(stdout.Name())
		if err != nil {
			t.Fatal(err)
		}
		output = string(text)
	}
	return output, func() int {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		return cmd.ProcessState.ExitCode()
	}
}

// inShell runs a command of rotator in a shell that has evaluated env, checks the exit code,
// and returns the result.
func inShell(t *testing.T, env, binary string, code int, command string) *report.Summary {
	t.Helper()
	const script = `eval "$1"; exec "$2" "$3" -f "$ROTATOR_DEMO_JOB" -o json`
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script, "sh", env, binary, command)
	// The commands that serve prints must override these.
	cmd.Env = append(os.Environ(),
		"AWS_PROFILE=absent",
		"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true",
		"AWS_ENDPOINT_URL_KMS=http://127.0.0.1:1",
	)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // the exit code is checked
	var summary report.Summary
	err := json.Unmarshal(stdout.Bytes(), &summary)
	if got := cmd.ProcessState.ExitCode(); got != code || err != nil {
		t.Fatalf("rotator %s ended with exit code %d, want %d; result: %v\n%s",
			command, got, code, err, stderr.String())
	}
	return &summary
}

// TestServeWithoutSeed: the environment can be evaluated, and names no job file.
func TestServeWithoutSeed(t *testing.T) {
	var out lineBuffer
	ctx, cancel := context.WithCancel(t.Context())
	out.onReady = cancel
	err := serve(ctx, serveConfig{listen: "127.0.0.1:0", out: &out})
	if err != nil {
		t.Fatal(err)
	}
	text := out.buffer.String()
	if !strings.Contains(text, "export AWS_ENDPOINT_URL='http://127.0.0.1:") ||
		strings.Contains(text, "ROTATOR_DEMO_JOB") {
		t.Errorf("the output is\n%s", text)
	}
}

// lineBuffer calls onReady when the line "# ready" is written.
type lineBuffer struct {
	buffer  bytes.Buffer
	onReady func()
}

func (b *lineBuffer) Write(text []byte) (int, error) {
	if bytes.Contains(text, []byte("# ready")) {
		defer b.onReady()
	}
	return b.buffer.Write(text)
}

func TestUsageErrors(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"all addresses":       {[]string{"serve", "--listen", ":4566"}, "loopback"},
		"another address":     {[]string{"serve", "--listen", "0.0.0.0:4566"}, "loopback"},
		"a host":              {[]string{"serve", "--listen", "example.com:4566"}, "loopback"},
		"no port":             {[]string{"serve", "--listen", "127.0.0.1"}, "HOST:PORT"},
		"another amount":      {[]string{"serve", "--seed", "large"}, "small"},
		"an unknown command":  {[]string{"server"}, `"server"`},
		"an unknown flag":     {[]string{"--seeds"}, "--help"},
		"no rotator anywhere": {[]string{}, "--rotator"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", "")
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), test.args, &stdout, &stderr)
			if code != exitUsage || !strings.Contains(stderr.String(), test.want) {
				t.Errorf("exit code %d, stderr %q; want %d and %s",
					code, stderr.String(), exitUsage, test.want)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"version"}, &stdout, &stderr)
	if code != exitDone || !strings.HasPrefix(stdout.String(), "rotator-demo ") {
		t.Errorf("exit code %d, stdout %q", code, stdout.String())
	}
}
