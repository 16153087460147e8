package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"rotator/internal/report"
)

// child runs rotator as a process of its own, as a user would.
type child struct {
	binary string
	dir    string
	env    []string
	out    io.Writer
}

func (c child) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.binary, append(args, "-f", "job.yaml")...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stderr = c.out
	return cmd
}

// result runs a command that must end with the given exit code, shows its
// result, and returns it.
func (c child) result(ctx context.Context, code int, name string) (*report.Summary, error) {
	cmd := c.command(ctx, name, "-o", "json")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := expect(cmd, code); err != nil {
		return nil, err
	}
	var summary report.Summary
	if err := json.Unmarshal(out.Bytes(), &summary); err != nil {
		return nil, fmt.Errorf("rotator %s printed no result: %w", name, err)
	}
	return &summary, summary.Text(c.out)
}

// show runs a command that must succeed, and shows what it prints.
func (c child) show(ctx context.Context, args ...string) error {
	cmd := c.command(ctx, args...)
	cmd.Stdout = c.out
	return expect(cmd, 0)
}

// kill starts a run and kills it as soon as when says so.
func (c child) kill(ctx context.Context, when func() bool) error {
	cmd := c.command(ctx, "run")
	if err := cmd.Start(); err != nil {
		return err
	}
	deadline := time.Now().Add(time.Minute)
	for !when() && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if !when() {
		return fmt.Errorf("the run did not get half way in a minute")
	}
	if code := cmd.ProcessState.ExitCode(); code != -1 {
		return fmt.Errorf("the run ended by itself, with exit code %d, before it could be killed", code)
	}
	return nil
}

// ledger returns the addresses ("TARGET REF") of the slots in the ledger.
func (c child) ledger(ctx context.Context) (map[string]bool, error) {
	cmd := c.command(ctx, "report", "--ledger", "-o", "json")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := expect(cmd, 0); err != nil {
		return nil, err
	}
	addresses := map[string]bool{}
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		var line struct{ Target, Ref string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("read the ledger: %w", err)
		}
		addresses[line.Target+" "+line.Ref] = true
	}
	return addresses, nil
}

func expect(cmd *exec.Cmd, code int) error {
	err := cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		return fmt.Errorf("%v ended with exit code %d (%w), not %d", cmd.Args[1:], got, err, code)
	}
	return nil
}
