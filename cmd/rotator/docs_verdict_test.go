package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// docBlock returns the only code block of a language in a page of docs/.
func docBlock(t *testing.T, page, language string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(
		string(text), -1)
	if len(blocks) != 1 {
		t.Fatalf("%s has %d blocks of %s, want 1", page, len(blocks), language)
	}
	return blocks[0][1]
}

// shell runs a command as a step of a pipeline does, in the directory of the bench. The commands
// that exist are this program, as rotator, and those of the system.
func (b *crashBench) shell(t *testing.T, script string) (code int, out, log string) {
	t.Helper()
	b.put(t, "bin/rotator", fmt.Sprintf("#!/bin/sh\nexec '%s' \"$@\"\n", os.Args[0]))
	bin := filepath.Join(b.dir, "bin")
	if err := os.Chmod(filepath.Join(bin, "rotator"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd, stdout, stderr := b.command(t.Context())
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-e", "-c", script}
	cmd.Env = append(cmd.Env, "PATH="+bin+":"+os.Getenv("PATH"))
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// workflow is the part of a workflow of GitHub Actions that the documentation uses.
type workflow struct {
	Jobs map[string]struct {
		Needs       string
		Environment string
		Steps       []struct {
			Uses, Run       string
			ContinueOnError bool `yaml:"continue-on-error"`
		}
	}
}

// prove runs the commands of the job proof of a workflow. It returns the exit code of the job.
func (w workflow) prove(t *testing.T, b *crashBench) (code int, log string) {
	t.Helper()
	n := 0
	for _, step := range w.Jobs["proof"].Steps {
		if step.Run == "" {
			continue
		}
		n++
		code, out, errs := b.shell(t, step.Run)
		if log += out + errs; code != 0 && !step.ContinueOnError {
			return code, log
		}
	}
	if n != 2 {
		t.Errorf("%d commands, want verify and the gate", n)
	}
	return 0, log
}

// TestDocumentedWorkflow runs the commands of the workflow in docs/verdict.md, with the waivers
// from there: its proof fails until the ciphertexts are moved.
func TestDocumentedWorkflow(t *testing.T) {
	t.Parallel()
	var w workflow
	if err := yaml.Unmarshal([]byte(docBlock(t, "verdict.md", "yml")), &w); err != nil {
		t.Fatal(err)
	}
	if d := w.Jobs["disable"]; d.Needs != "proof" || d.Environment == "" ||
		!strings.HasPrefix(d.Steps[len(d.Steps)-1].Run, "aws kms disable-key --key-id ") {
		t.Errorf("the key is disabled by %+v", d)
	}
	b := newCrashBench(t, 5, 1000)
	b.put(t, "waivers.csv", docBlock(t, "verdict.md", "csv"))
	if code, log := w.prove(t, b); code != exitRemaining {
		t.Errorf("before the move, the proof ends with %d, want %d\n%s", code, exitRemaining, log)
	}
	b.rotator(t, exitDone, "run")
	if code, log := w.prove(t, b); code != exitDone ||
		!strings.Contains(log, "the waiver on line 2 has no effect") {
		t.Errorf("after the move, the proof ends with %d\n%s", code, log)
	}
}

// TestDocumentedDataSource runs the program of the Terraform data source in docs/verdict.md. It
// needs jq. Terraform accepts only an object of strings.
func TestDocumentedDataSource(t *testing.T) {
	t.Parallel()
	block := docBlock(t, "verdict.md", "hcl")
	if terraform, err := exec.LookPath("terraform"); err == nil {
		cmd := exec.CommandContext(t.Context(), terraform, "fmt", "-")
		cmd.Stdin = strings.NewReader(block)
		cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1", "TF_CLI_CONFIG_FILE=")
		if out, err := cmd.Output(); err != nil || string(out) != block {
			t.Errorf("terraform fmt: %v\n%s", err, out)
		}
	}
	if _, err := exec.LookPath("jq"); err != nil {
		t.Skip("SKIPPED: the program of the data source needs jq, which is not installed")
	}
	_, script, _ := strings.Cut(block, "<<-EOT\n")
	script, _, found := strings.Cut(script, "  EOT\n")
	if !found || strings.Contains(script, "${") {
		t.Fatalf("the program is not a plain here-document: %s", block)
	}
	b := newCrashBench(t, 5, 1000)
	b.rotator(t, exitDone, "audit")
	if code, out, log := b.shell(t, script); code != exitRemaining || out != "" {
		t.Errorf("before the move: %d, %q\n%s", code, out, log)
	}
	b.rotator(t, exitDone, "run")
	b.rotator(t, exitDone, "verify")
	code, out, log := b.shell(t, script)
	got := map[string]string{}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitDone ||
		got["worst"] != "0" || got["keys"] != b.old || got["codes"] != "can-be-disabled" {
		t.Errorf("after the move: %d, %v, %v\n%s", code, err, got, log)
	}
}
