package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"rotator/internal/report"
)

// killTimeout is the maximum time for a run to get to the point where it is killed.
const killTimeout = time.Minute

// rotator runs commands of the rotator binary as child processes.
type rotator struct {
	binary string
	dir    string   // working directory, with the job file
	env    []string // added to the environment of this process
	out    io.Writer
}

// command returns a command of rotator that is not yet started. Its stderr goes to out.
func (r rotator) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, r.binary, append(args, "-f", jobName)...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), r.env...)
	cmd.Stderr = r.out
	return cmd
}

// summary runs a command, prints its result, and returns it. It returns an error if the exit
// code is not code.
func (r rotator) summary(ctx context.Context, code int, name string) (*report.Summary, error) {
	var summary report.Summary
	if err := r.result(ctx, code, &summary, name); err != nil {
		return nil, err
	}
	return &summary, summary.Text(r.out)
}

// result runs a command and decodes its result. It returns an error if the exit code is not code.
func (r rotator) result(ctx context.Context, code int, result any, args ...string) error {
	cmd := r.command(ctx, append(args, "-o", "json")...)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := expect(cmd, code); err != nil {
		return err
	}
	if err := json.Unmarshal(out.Bytes(), result); err != nil {
		return fmt.Errorf("decode the result of rotator %s: %w", args[0], err)
	}
	return nil
}

// show runs a command and prints its output. It returns an error if the command fails.
func (r rotator) show(ctx context.Context, args ...string) error {
	cmd := r.command(ctx, args...)
	cmd.Stdout = r.out
	return expect(cmd, rotatorDone)
}

// kill starts rotator run and kills it as soon as when returns true.
func (r rotator) kill(ctx context.Context, when func() bool) error {
	cmd := r.command(ctx, "run")
	if err := cmd.Start(); err != nil {
		return err
	}
	deadline := time.Now().Add(killTimeout)
	for !when() && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if !when() {
		return fmt.Errorf("the run did not get half way in %s", killTimeout)
	}
	if code := cmd.ProcessState.ExitCode(); code != -1 {
		return fmt.Errorf("the run ended with exit code %d before it was killed", code)
	}
	return nil
}

// ledger returns the addresses of the slots in the ledger, as "TARGET REF".
func (r rotator) ledger(ctx context.Context) (map[string]bool, error) {
	cmd := r.command(ctx, "report", "--ledger", "-o", "json")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := expect(cmd, rotatorDone); err != nil {
		return nil, err
	}
	addresses := map[string]bool{}
	lines := bufio.NewScanner(&out)
	for lines.Scan() {
		var line struct{ Target, Ref string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("decode the ledger: %w", err)
		}
		addresses[line.Target+" "+line.Ref] = true
	}
	return addresses, lines.Err()
}

// expect runs a command and returns an error if its exit code is not code.
func expect(cmd *exec.Cmd, code int) error {
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return err
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		return fmt.Errorf("rotator %v ended with exit code %d, want %d", cmd.Args[1:], got, code)
	}
	return nil
}
