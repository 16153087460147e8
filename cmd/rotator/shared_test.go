package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/checkpoint"
	"rotator/internal/report"
)

// share moves the checkpoint of the bench to a location that several runs can use.
func (b *crashBench) share(t *testing.T, place string) {
	t.Helper()
	path := filepath.Join(b.dir, "job.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path,
		append(text, fmt.Sprintf("checkpoint: %s\nlease: 3s\n", place)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(place, "dynamodb:") {
		cmd, _, log := b.command(t.Context(), "checkpoint", "create-table", "-f", "job.yaml")
		if err := cmd.Run(); err != nil {
			t.Fatalf("create-table: %v\n%s", err, log)
		}
		return
	}
	if _, err := s3.NewFromConfig(b.aws, func(o *s3.Options) {
		o.UsePathStyle = true
	}).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("state")}); err != nil {
		t.Fatal(err)
	}
}

// process is a run in progress.
type process struct {
	cmd      *exec.Cmd
	out, log *bytes.Buffer
}

func (b *crashBench) start(t *testing.T, args ...string) process {
	t.Helper()
	cmd, out, log := b.command(t.Context(), args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return process{cmd, out, log}
}

// summary waits for the process and reads its result.
func (p process) summary(t *testing.T, code int) (s report.Summary) {
	t.Helper()
	err := p.cmd.Wait()
	if p.cmd.ProcessState.ExitCode() != code {
		t.Fatalf("%v: %v, want exit code %d\n%s", p.cmd.Args[1:], err, code, p.log)
	}
	if p.out.Len() > 0 {
		if err := json.Unmarshal(p.out.Bytes(), &s); err != nil {
			t.Fatalf("%v in %q", err, p.out)
		}
	}
	return s
}

// TestRunsShareThePass starts several runs of one job together. They share the work, and all report
// the same result.
func TestRunsShareThePass(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		place string
		runs  int
	}{{"dynamodb://state", 2}, {"s3://state/rotator", 2}, {"dynamodb://state", 5}} {
		t.Run(fmt.Sprintf("%s, %d runs", test.place, test.runs), func(t *testing.T) {
			t.Parallel()
			b := newCrashBenchOf(t, 1500, 1000, 8)
			b.share(t, test.place)
			writing, stop := context.WithCancel(t.Context())
			defer stop()
			visits := make(chan map[int]int, 1)
			go func() { visits <- b.writer(writing) }()
			var runs []process
			for range test.runs {
				runs = append(runs, b.start(t, "run", "-f", "job.yaml", "-o", "json"))
			}
			for i, run := range runs {
				summary := run.summary(t, exitDone)
				if want := (report.Slots{Seen: 1500, Rotated: 1500}); summary.Pass == 1 &&
					summary.Slots != want {
					t.Errorf("run %d counted %+v, want %+v", i, summary.Slots, want)
				}
				if summary.Pass > 1 { // it joined after the first pass had ended
					t.Logf("run %d began pass %d", i, summary.Pass)
				}
			}
			stop()
			b.check(t, <-visits)
			logs, err := filepath.Glob(filepath.Join(b.dir, ".rotator", "crash.audit*.jsonl"))
			if err != nil || len(logs) != test.runs {
				t.Errorf("audit logs: %v, %v, want %d", logs, err, test.runs)
			}
			if cmd, _, log := b.command(t.Context(), "report", "-f", "job.yaml",
				"--check"); cmd.Run() != nil {
				t.Errorf("the audit logs are not intact: %s", log)
			}
			if summary := b.start(t, "verify", "-f", "job.yaml", "-o", "json").summary(t,
				exitDone); !summary.Converged {
				t.Errorf("verify: %+v", summary)
			}
		})
	}
}

// TestStoppedRunIsFencedOff pauses one of two runs for longer than its lease. The other run takes
// over its partitions. The paused run notices this when it continues, and exits with 76.
func TestStoppedRunIsFencedOff(t *testing.T) {
	t.Parallel()
	b := newCrashBenchOf(t, 3000, 600, 16) // one run reads 8 at a time
	b.share(t, "dynamodb://state")
	writing, stop := context.WithCancel(t.Context())
	defer stop()
	visits := make(chan map[int]int, 1)
	go func() { visits <- b.writer(writing) }()
	stopped, other := b.start(t, "run", "-f", "job.yaml", "-o", "json"),
		b.start(t, "run", "-f", "job.yaml", "-o", "json")
	store := checkpoint.NewDynamoDB(b.client, "state", time.Minute)
	until(t, "both runs to own partitions", func() bool {
		return len(distinct(owners(t, store, "crash"))) == 2
	})
	if err := stopped.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	before := owners(t, store, "crash")
	if len(distinct(before)) != 2 {
		t.Fatalf("one run had ended before it was paused: %v", before)
	}
	until(t, "another owner of what the stopped run has", func() bool {
		return takenOver(before, owners(t, store, "crash"))
	})
	if err := stopped.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	stopped.summary(t, exitBusy)
	if want := "another run took over this pass"; !strings.Contains(stopped.log.String(), want) {
		t.Errorf("the log does not contain %q:\n%s", want, stopped.log)
	}
	summary := other.summary(t, exitDone)
	stop()
	b.check(t, <-visits)
	if s := summary.Slots; s.Seen != int64(b.slots) || s.Rotated+s.Current != s.Seen ||
		s.Rotated == 0 {
		t.Errorf("counted %+v, want %d slots, each rotated, or current if the paused run wrote it",
			s, b.slots)
	}
}

// owners returns the ids of the runs that hold the partitions of the last pass, by partition; ""
// for none.
func owners(t *testing.T, store checkpoint.Store, job string) (list []string) {
	t.Helper()
	passes := checkpoint.NewPasses(store, job)
	pass, err := passes.Last(t.Context())
	if errors.Is(err, checkpoint.ErrNotFound) {
		return nil // not begun yet
	}
	if err != nil {
		t.Fatal(err)
	}
	for n, target := range pass.Targets {
		for i := range target.Partitions {
			progress, err := passes.Progress(t.Context(), pass.Number, n, i)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, progress.Owner)
		}
	}
	return list
}

func distinct(owners []string) []string {
	list := slices.Compact(slices.Sorted(slices.Values(owners)))
	return slices.DeleteFunc(list, func(owner string) bool { return owner == "" })
}

// takenOver reports whether a run has a partition that belonged to another run before, which has
// none left. Only a running process takes over a partition.
func takenOver(before, now []string) bool {
	for i, owner := range before {
		if owner != "" && now[i] != "" && now[i] != owner && !slices.Contains(now, owner) {
			return true
		}
	}
	return false
}
