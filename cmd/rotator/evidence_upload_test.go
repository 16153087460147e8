package main

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/checkpoint"
	"rotator/internal/evidence"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/report"
	"rotator/internal/report/auditlog"
)

// uploadBench is a crashBench whose runs have their own directories, as pods have, and upload
// their audit logs.
type uploadBench struct {
	*crashBench
	store *evidence.Store
}

// newUploadBench returns a bench whose audit logs are uploaded to evidence, or below the
// checkpoint if evidence is "".
func newUploadBench(t *testing.T, slots, rate int, place, where string) *uploadBench {
	t.Helper()
	b := &uploadBench{crashBench: newCrashBenchOf(t, slots, rate, 32)}
	b.share(t, place)
	b.edit(t, "lease: 3s\n", "lease: 2s\naudit_log_segment: 64KiB\n")
	client := s3.NewFromConfig(b.aws, func(o *s3.Options) { o.UsePathStyle = true })
	bucket, prefix := "state", "rotator/evidence/"
	if where != "" {
		b.put(t, "job.yaml", b.read(t, "job.yaml")+"evidence: "+where+"\n")
		bucket, prefix = "log", "runs/"
		if _, err := client.CreateBucket(t.Context(),
			&s3.CreateBucketInput{Bucket: &bucket}); err != nil {
			t.Fatal(err)
		}
	}
	b.store = evidence.New(client, bucket, prefix, "crash", time.Minute)
	return b
}

// in returns the same bench with another directory, which has only the job file.
func (b *uploadBench) in(t *testing.T) *uploadBench {
	t.Helper()
	other := *b.crashBench
	other.dir = t.TempDir()
	other.put(t, "job.yaml", b.read(t, "job.yaml"))
	return &uploadBench{&other, b.store}
}

// uploaded returns the number of uploaded lines of a log.
func (b *uploadBench) uploaded(t *testing.T, id string) int64 {
	t.Helper()
	logs, err := b.store.Logs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range logs {
		if log.ID != id {
			continue
		}
		extent, err := auditlog.MeasureSegments(b.store.Segments(t.Context(), log))
		if err != nil || len(extent.Gaps) > 0 {
			t.Fatalf("%+v, %v", extent, err)
		}
		return extent.Lines
	}
	return 0
}

// recorded returns the last line of a log that pass 1 has recorded.
func (b *uploadBench) recorded(t *testing.T, id string) (last int64) {
	t.Helper()
	store := checkpoint.NewDynamoDB(b.client, "state", time.Minute)
	passes := checkpoint.NewPasses(store, "crash")
	pass, err := passes.Pass(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	logs, err := passes.Logs(t.Context(), pass)
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range logs {
		if log.ID == id {
			last = max(last, log.Lines)
		}
	}
	return last
}

// idOf returns the id of the log of a run, or "" if it has no lines yet.
func (b *uploadBench) idOf() string { return auditlog.IDOf(filepath.Join(b.dir, benchLog)) }

// budget is the number of requests to KMS that are served. More requests wait.
type budget struct{ limit, sent atomic.Int64 }

func (b *uploadBench) budget(t *testing.T) *budget {
	n, ctx := &budget{}, t.Context()
	b.server.Faults().Set("kms:ReEncrypt", fault.Fault{Before: func(*http.Request, []byte) {
		for now := n.sent.Add(1); now > n.limit.Load() && ctx.Err() == nil; {
			time.Sleep(time.Millisecond)
		}
	}})
	return n
}

// raise lets more requests through, if some wait.
func (n *budget) raise(by int64) {
	if n.sent.Load() > n.limit.Load() {
		n.limit.Add(by)
	}
}

// killTwo kills two of several runs, in directories of their own, whose logs have uploaded
// segments, when the checkpoint has recorded lines of their open segments. It returns their
// indices. The runs may send a few more requests at a time, until two are in this state.
func (b *uploadBench) killTwo(
	t *testing.T, dirs []*uploadBench, start func(*uploadBench) process,
) (runs []process, killed []int) {
	t.Helper()
	requests := b.budget(t)
	defer requests.limit.Store(math.MaxInt64)
	for _, dir := range dirs {
		runs = append(runs, start(dir))
	}
	until(t, "two logs with recorded lines that are not uploaded", func() bool {
		requests.raise(20)
		time.Sleep(300 * time.Millisecond) // what is under way is recorded and uploaded
		killed = nil
		for i, dir := range dirs {
			uploaded := b.uploaded(t, dir.idOf())
			if uploaded > 0 && b.recorded(t, dir.idOf()) > uploaded {
				killed = append(killed, i)
			}
		}
		return len(killed) >= 2
	})
	for _, i := range killed[:2] {
		_ = runs[i].cmd.Process.Kill()
		_ = runs[i].cmd.Wait()
	}
	return runs, killed[:2]
}

// TestReportNamesMissingSegments: of four runs in directories of their own, two are killed. From
// another directory, report --check names the two logs and the lines that are missing, and nothing
// else. When runs in the directories of the killed ones have uploaded the rest, nothing is missing.
func TestReportNamesMissingSegments(t *testing.T) {
	t.Parallel()
	b := newUploadBench(t, 800, 500, "dynamodb://state", "s3://log/runs")
	var dirs []*uploadBench
	for range 4 {
		dirs = append(dirs, b.in(t))
	}
	runs, killed := b.killTwo(t, dirs, func(dir *uploadBench) process {
		return dir.start(t, "run", "-f", "job.yaml")
	})
	for i, run := range runs {
		if slices.Contains(killed, i) {
			continue
		}
		if err := run.cmd.Wait(); err != nil {
			t.Fatalf("run %d: %v\n%s", i, err, run.log)
		}
	}
	missing := map[string]string{}
	for _, i := range killed {
		id := dirs[i].idOf()
		missing[id] = fmt.Sprintf("at %s (%s) ends at line %d in s3://log/runs/crash/%s, but the "+
			"checkpoint has recorded line %d", filepath.Join(dirs[i].dir, benchLog), id,
			b.uploaded(t, id), id, b.recorded(t, id))
	}
	_, _, text := b.in(t).rotator(t, exitInternal, "report", "--check", "--pass", "1")
	for id, want := range missing {
		if !strings.Contains(text, want) {
			t.Errorf("report --check does not name log %s with %q:\n%s", id, want, text)
		}
	}
	if n := strings.Count(text, "the log of the run on"); n != 2 || strings.Count(text, ";") != 1 {
		t.Errorf("report --check names %d logs:\n%s", n, text)
	}
	for _, i := range killed {
		dirs[i].rotator(t, exitDone, "retry")
	}
	elsewhere := b.in(t)
	_, out, _ := elsewhere.rotator(t, exitDone, "report", "--check", "--pass", "1")
	for i, dir := range dirs {
		want := "s3://log/runs/crash/" + dir.idOf() + ": "
		once := strings.Count(unwrapped(out), want) == 1
		if dir.idOf() != "" && !once { // "" under load: it had no work
			t.Errorf("report --check does not verify the log of run %d:\n%s", i, out)
		}
	}
	elsewhere.exportsAll(t)
}

// exportsAll checks that log export prints lines about all slots.
func (b *uploadBench) exportsAll(t *testing.T) {
	t.Helper()
	cmd, out, log := b.command(t.Context(), "log", "export", "-f", "job.yaml")
	if err := cmd.Run(); err != nil {
		t.Fatalf("log export: %v\n%s", err, log)
	}
	for i := range b.slots {
		if !bytes.Contains(out.Bytes(), []byte(crashID(i))) {
			t.Errorf("log export has no line about %s", crashID(i))
		}
	}
}

// TestWatchKnowsUploadedRequests: watch knows the requests of a run from its uploaded log.
func TestWatchKnowsUploadedRequests(t *testing.T) {
	t.Parallel()
	const n = 50
	b := newUploadBench(t, n, 1000, "dynamodb://state", "s3://log/runs")
	b.rotator(t, exitDone, "run")
	cmd, out, log := b.in(t).command(t.Context(), "watch", "-f", "job.yaml", "-o", "json",
		"--since", "1h")
	err := cmd.Run()
	if err != nil || !strings.Contains(out.String(), fmt.Sprintf(`"own": %d,`, n)) {
		t.Errorf("watch: %v, want %d requests of its own\n%s%s", err, n, out, log)
	}
}

// TestUploadsBelowTheCheckpoint: with a checkpoint in S3, the audit log is uploaded below its
// prefix, and what was uploaded is enough for the check. A segment that is missing there is named.
func TestUploadsBelowTheCheckpoint(t *testing.T) {
	t.Parallel()
	b := newUploadBench(t, 150, 1000, "s3://state/rotator", "")
	b.rotator(t, exitDone, "run")
	elsewhere := b.in(t)
	elsewhere.rotator(t, exitDone, "report", "--check")
	elsewhere.exportsAll(t)
	logs, err := b.store.Logs(t.Context())
	if err != nil || len(logs) != 1 || len(logs[0].Objects) < 3 {
		t.Fatalf("%+v, %v", logs, err)
	}
	key := strings.TrimPrefix(b.store.URL(logs[0].Objects[1]), "s3://state/")
	client := s3.NewFromConfig(b.aws, func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := client.DeleteObject(t.Context(),
		&s3.DeleteObjectInput{Bucket: aws.String("state"), Key: &key}); err != nil {
		t.Fatal(err)
	}
	_, _, text := elsewhere.rotator(t, exitInternal, "report", "--check")
	if !strings.Contains(text, "the first missing segment is 2") {
		t.Errorf("report --check: %s", text)
	}
	b.rotator(t, exitDone, "report", "--check") // the files are here
	b.server.Faults().Set("s3:ListObjectsV2", fault.Fault{Kind: fault.Refusal,
		Answer: fault.Answer{Status: http.StatusForbidden, Code: "AccessDenied"}})
	_, out, _ := b.rotator(t, exitDone, "report", "--check")
	_, _, refused := elsewhere.rotator(t, exitAccess, "report", "--check")
	b.server.Faults().Clear("s3:ListObjectsV2")
	const denied = "s3:ListBucket"
	if !strings.Contains(out, denied) || !strings.Contains(refused, denied) {
		t.Errorf("report --check without permission: %s%s", out, refused)
	}
	cmd, list, log := elsewhere.command(t.Context(), "checkpoint", "list", "-f", "job.yaml")
	err = cmd.Run()
	if err != nil || !strings.Contains(list.String(), "yes: uploaded audit logs") {
		t.Errorf("checkpoint list: %v\n%s%s", err, list, log)
	}
}

// TestRefusedUploadsDoNotStopARun: a run whose uploads are refused succeeds and has a note. The
// next run uploads the segments, and those of a log that no run uses any more.
func TestRefusedUploadsDoNotStopARun(t *testing.T) {
	t.Parallel()
	b := newUploadBench(t, 100, 1000, "dynamodb://state", "s3://log/runs")
	b.server.Faults().Set("s3:PutObject", fault.Fault{Kind: fault.Refusal,
		Answer: fault.Answer{Status: http.StatusForbidden, Code: "AccessDenied"}})
	s, _, log := b.rotator(t, exitDone, "run")
	if want := (report.Slots{Seen: 100, Rotated: 100}); s.Slots != want ||
		!strings.Contains(strings.Join(s.Notes, "\n"), "could not be uploaded") {
		t.Errorf("%+v, notes %q\n%s", s.Slots, s.Notes, log)
	}
	elsewhere := b.in(t)
	_, _, text := elsewhere.rotator(t, exitInternal, "report", "--check")
	if !strings.Contains(text, "is not in s3://log/runs/crash/, but the checkpoint has recorded") {
		t.Errorf("report --check: %s", text)
	}
	b.server.Faults().Clear("s3:PutObject")
	b.put(t, ".rotator/crash.audit.2.jsonl", b.read(t, benchLog))
	for _, name := range []string{benchLog, benchLog + ".000001.zst", benchLog + ".000002.zst",
		benchLog + ".000003.zst", benchLog + ".000004.zst", benchLog + ".000005.zst",
		benchLog + ".000006.zst"} {
		path := filepath.Join(b.dir, name)
		_ = os.Rename(path, strings.Replace(path, "crash.audit.jsonl", "crash.audit.2.jsonl", 1))
	}
	b.rotator(t, exitDone, "retry")
	elsewhere.rotator(t, exitDone, "report", "--check")
}

// TestLogThatStaysIsReported: a run whose checkpoint is in a table and which uploads nothing states
// this once, unless the job file confirms it.
func TestLogThatStaysIsReported(t *testing.T) {
	t.Parallel()
	b := newCrashBench(t, 3, 1000)
	b.share(t, "dynamodb://state")
	const want = "the audit log stays on this machine"
	if _, _, log := b.rotator(t, exitDone, "run"); strings.Count(log, want) != 1 {
		t.Errorf("stderr: %s", log)
	}
	b.put(t, "job.yaml", b.read(t, "job.yaml")+"evidence: local\n")
	if _, _, log := b.rotator(t, exitDone, "run"); strings.Contains(log, want) {
		t.Errorf("stderr: %s", log)
	}
}
