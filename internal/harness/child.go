package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"rotator/internal/report"
)

// commandTimeout is the maximum duration of one command.
const commandTimeout = 3 * time.Minute

// Process is a running command of rotator.
type Process struct {
	*exec.Cmd
	env      *Env
	out, log bytes.Buffer
	started  time.Time
	cancel   context.CancelFunc
	began    chan struct{} // closed when the process has been started
	done     chan struct{} // closed when the process has ended
	took     time.Duration // set before done is closed
	// peak receives the peak memory in bytes when the process has ended. nil without
	// Config.Memory.
	peak chan int64
}

// Result is the result of a command.
type Result struct {
	Args     []string
	Code     int // exit code; -1 if a signal ended the process
	Out, Log string
	// Summary is the JSON result on stdout. It is nil if there is none.
	Summary *report.Summary
	Took    time.Duration
	peak    int64 // peak memory in bytes; notMeasured without Config.Memory
}

// notMeasured is the peak memory of a command that was not measured.
const notMeasured = -1

// MaxRSS returns the peak memory of the process in bytes. The Config of its Env must have set
// Memory.
func (r Result) MaxRSS(t testing.TB) int64 {
	t.Helper()
	if r.peak == notMeasured {
		t.Fatal("the memory was not measured; set Memory in the Config")
	}
	return r.peak
}

func (r Result) String() string {
	return fmt.Sprintf("rotator %s ended with exit code %d after %s\n%s%s",
		strings.Join(r.Args, " "), r.Code, r.Took.Round(time.Millisecond), clip(r.Out), tail(r.Log))
}

func tail(text string) string {
	if len(text) > 3000 {
		return "..." + text[len(text)-3000:]
	}
	return text
}

// Command returns a command of rotator that is not started yet, with args, the job file and the
// credentials of rotator.
func (w *Env) Command(args ...string) *Process {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	command := slices.Concat(w.config.Command, args, []string{"-f", "job.yaml"})
	p := &Process{
		Cmd:    exec.CommandContext(ctx, command[0], command[1:]...),
		env:    w,
		cancel: cancel,
		began:  make(chan struct{}),
	}
	p.Dir = w.Dir
	p.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "AWS_")
	}),
		"AWS_ENDPOINT_URL="+w.Server.Endpoint(), "AWS_REGION="+region,
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=/nowhere", "AWS_SHARED_CREDENTIALS_FILE=/nowhere")
	p.Env = append(p.Env, "AWS_ACCESS_KEY_ID="+workerKey, "AWS_SECRET_ACCESS_KEY="+w.secret,
		"AWS_SESSION_TOKEN="+w.token)
	p.Env = append(p.Env, w.config.Env...)
	p.Stdout, p.Stderr = &p.out, &p.log
	return p
}

// Unset removes variables from the environment of a command.
func (p *Process) Unset(prefixes ...string) {
	p.Env = slices.DeleteFunc(p.Env, func(v string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool {
			return strings.HasPrefix(v, prefix)
		})
	})
}

// Begin starts the command. It also starts to wait for the end of the command, so that
// Result.Took does not depend on when End is called.
func (p *Process) Begin(t testing.TB) *Process {
	t.Helper()
	p.started = time.Now()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	close(p.began)
	t.Cleanup(p.Kill)
	p.done = make(chan struct{})
	go func() {
		_ = p.Wait() // End reads the exit code
		p.took = time.Since(p.started)
		close(p.done)
	}()
	if p.env.config.Memory {
		p.peak = make(chan int64, 1)
		go func() { p.peak <- peak(p.Process.Pid) }()
	}
	return p
}

// Age returns the time since the command was started.
func (p *Process) Age() time.Duration { return time.Since(p.started) }

// Ended reports whether the command has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// peak polls the peak memory of a process until the process ends. The value that wait4(2)
// returns cannot be used: it includes the memory of the parent before the exec.
func peak(pid int) (bytes int64) {
	for path := fmt.Sprintf("/proc/%d/status", pid); ; time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(path)
		_, after, found := strings.Cut(string(text), "VmHWM:")
		if err != nil || !found {
			return bytes // the process has ended or is a zombie
		}
		var kib int64
		if _, err := fmt.Sscan(after, &kib); err == nil {
			bytes = kib << 10
		}
	}
}

// Kill ends the command with SIGKILL. It may be called concurrently and more than once, also by
// a request of the command that is served before Begin returns.
func (p *Process) Kill() {
	<-p.began
	_ = p.Process.Kill() // the process may have ended already
	p.cancel()
}

// Signal sends a signal to the process. Like Kill, it may be called before Begin returns.
func (p *Process) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	<-p.began
	if err := p.Process.Signal(s); err != nil {
		t.Errorf("signal the worker: %v", err)
	}
}

// End waits for the command. Secrets checks its output later.
func (p *Process) End(t testing.TB) Result {
	t.Helper()
	<-p.done
	p.cancel()
	r := Result{
		Args: p.Args[1:],
		Code: p.ProcessState.ExitCode(),
		Out:  p.out.String(),
		Log:  p.log.String(),
		Took: p.took,
		peak: notMeasured,
	}
	if p.peak != nil {
		r.peak = <-p.peak
	}
	var summary report.Summary
	if json.Unmarshal([]byte(r.Out), &summary) == nil && summary.Command != "" {
		r.Summary = &summary
	}
	p.env.guard.Printed(r.Out, r.Log)
	if r.Took >= commandTimeout {
		t.Errorf("the worker did not exit in time: %s", r)
	}
	if strings.Contains(r.Log, "panic: ") || strings.Contains(r.Log, "DATA RACE") {
		t.Errorf("the worker panicked or has a data race: %s", r)
	}
	return r
}

// Run runs a command and returns its result.
func (w *Env) Run(t testing.TB, args ...string) Result {
	t.Helper()
	return w.Command(args...).Begin(t).End(t)
}

// Must runs a command. It fails the test unless the exit code is one of codes.
func (w *Env) Must(t testing.TB, codes []int, args ...string) Result {
	t.Helper()
	r := w.Run(t, args...)
	if !slices.Contains(codes, r.Code) {
		t.Fatalf("want exit code %v: %s", codes, r)
	}
	return r
}
