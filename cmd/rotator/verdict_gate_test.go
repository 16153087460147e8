package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/report"
	"rotator/internal/report/document"
)

// proven returns a bench with a job whose verdict is that the source key can be disabled.
func proven(t *testing.T, checkpointAt string) *crashBench {
	t.Helper()
	b := newCrashBench(t, 5, 1000)
	if checkpointAt != "" {
		b.edit(t, "job: crash", "job: crash\ncheckpoint: "+checkpointAt+"\nlease: 3s")
		cmd, _, log := b.command(t.Context(), "checkpoint", "create-table", "-f", "job.yaml")
		if err := cmd.Run(); err != nil {
			t.Fatalf("create-table: %v\n%s", err, log)
		}
	}
	b.rotator(t, exitDone, "run")
	b.rotator(t, exitDone, "verify")
	b.rotator(t, exitDone, "report", "--verdict")
	return b
}

// TestGateRefusesRecords: report --verdict gives no verdict if a record that matters is damaged,
// was written by another version, or has figures that contradict each other.
func TestGateRefusesRecords(t *testing.T) {
	t.Parallel()
	b := proven(t, "")
	changes := recordChanges(t)
	changes = append(changes, recordChange{"wrong sums", "5 slots were seen, but the outcomes " +
		"have the sum 4", exitStorage, func(data []byte) []byte { return withOneLess(t, data) }})
	for _, c := range changes {
		for _, id := range []string{"jobs/crash/read/1", "jobs/crash/pass/1/partition/0/0"} {
			if c.name == "wrong sums" && !strings.Contains(id, "read") {
				continue
			}
			b.change(t, id, c.change, func() {
				_, out, log := b.rotator(t, c.code, "report", "--verdict")
				if out != "" || !strings.Contains(log, c.text) {
					t.Errorf("%s of %s: %q, %s", c.name, id, out, log)
				}
			})
		}
	}
	b.rotator(t, exitDone, "report", "--verdict")
}

// change changes a record of the file checkpoint while try runs.
func (b *crashBench) change(
	t *testing.T, id string, change func([]byte) []byte, try func(),
) {
	t.Helper()
	store, err := checkpoint.OpenFile(filepath.Join(b.dir, benchState))
	if err != nil {
		t.Fatal(err)
	}
	set := func(data []byte) (before []byte) {
		e, err := store.Fetch(t.Context(), id)
		if err == nil {
			before = slices.Clone(e.Data)
			_, err = store.Replace(t.Context(), e, data)
		}
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		return before
	}
	e, err := store.Fetch(t.Context(), id)
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	before := set(change(slices.Clone(e.Data)))
	try()
	set(before)
}

// withOneLess returns a read-only pass with one current slot less, and the right checksum.
func withOneLess(t *testing.T, data []byte) []byte {
	t.Helper()
	var record struct{ Content json.RawMessage }
	if err := json.Unmarshal(data, &record); err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(record.Content, []byte(`"current":5`), []byte(`"current":4`), 1)
	if bytes.Equal(changed, record.Content) {
		t.Fatalf("no target has 5 current slots: %s", record.Content)
	}
	data, err := checkpoint.Encode("read-pass", json.RawMessage(changed))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// withOneMore returns the progress of a partition with one moved slot more, and the right
// checksum.
func withOneMore(t *testing.T, data []byte) []byte {
	t.Helper()
	var record struct{ Content json.RawMessage }
	if err := json.Unmarshal(data, &record); err != nil {
		t.Fatal(err)
	}
	slots := regexp.MustCompile(`"seen":(\d+),"rotated":(\d+)`).FindSubmatch(record.Content)
	if slots == nil {
		t.Fatalf("no moved slots: %s", record.Content)
	}
	seen, _ := strconv.Atoi(string(slots[1]))
	moved, _ := strconv.Atoi(string(slots[2]))
	changed := bytes.Replace(record.Content, slots[0],
		fmt.Appendf(nil, `"seen":%d,"rotated":%d`, seen+1, moved+1), 1)
	data, err := checkpoint.Encode("progress", json.RawMessage(changed))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestCountedMovesAreProven: a count of moved slots that the audit logs do not prove is refused
// with both figures before anything is printed or written.
func TestCountedMovesAreProven(t *testing.T) {
	t.Parallel()
	b := proven(t, "")
	_, out, _ := b.rotator(t, exitDone, "report", "--check")
	const proof = "pass 1 counts 5 slots as moved, and the audit logs prove that: " +
		"they have 5 writes"
	if !strings.Contains(out, proof) {
		t.Errorf("report --check: %s", out)
	}
	b.rotator(t, exitDone, "evidence", "--out", "pack", "--read-pass", "1")
	if text := b.read(t, "pack/report.txt"); !strings.Contains(strings.Join(strings.Fields(text),
		" "), proof) {
		t.Errorf("the pack does not state what its logs prove: %s", text)
	}
	wrong := func(data []byte) []byte { return withOneMore(t, data) }
	b.change(t, "jobs/crash/pass/1/partition/0/0", wrong, func() {
		for _, args := range [][]string{
			{"report", "--check"},
			{"evidence", "--out", "wrong", "--read-pass", "1"},
		} {
			_, out, log := b.rotator(t, exitInternal, args...)
			if out != "" || !strings.Contains(log,
				"pass 1 counts 6 slots as moved, but the audit logs prove 5") {
				t.Errorf("%v: %q, %s", args, out, log)
			}
		}
	})
	if _, err := os.Stat(filepath.Join(b.dir, "wrong")); !os.IsNotExist(err) {
		t.Errorf("a pack was written (%v)", err)
	}
}

// TestGateKnowsLiveRuns: while a run is working that has not saved anything, there is no proof, not
// even by a read-only pass that began after the run.
func TestGateKnowsLiveRuns(t *testing.T) {
	for _, place := range []string{"", "dynamodb://rotator-state"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			b := proven(t, place)
			scans := b.server.Faults().Counts()["dynamodb:Scan"]
			b.server.Faults().Set("dynamodb:Scan", fault.Fault{Delay: time.Minute, Times: 2})
			run, _, log := b.command(t.Context(), "run", "-f", "job.yaml")
			if err := run.Start(); err != nil {
				t.Fatal(err)
			}
			until(t, "a run that reads", func() bool {
				return b.server.Faults().Counts()["dynamodb:Scan"] >= scans+2
			})
			b.rotator(t, exitDone, "verify")
			_, out, _ := b.rotator(t, exitExceptions, "report", "--verdict")
			if !strings.Contains(out, "and a run is working on the job now.") {
				t.Errorf("the verdict is %s", out)
			}
			_ = run.Process.Signal(os.Kill)
			_ = run.Wait()
			if t.Failed() {
				t.Log(log)
			}
			_, out, _ = b.rotator(t, exitDone, "report", "--verdict")
			if strings.Contains(out, "working") {
				t.Errorf("after the run was killed, the verdict is %s", out)
			}
		})
	}
}

// TestWrongSumsAreNotPrinted: a command that has counted wrong prints no result and ends with 1; a
// stored result that is wrong ends with 73.
func TestWrongSumsAreNotPrinted(t *testing.T) {
	t.Parallel()
	wrong := &report.Summary{Command: "verify", Slots: report.Slots{Seen: 3, Current: 2}}
	const text = "figures contradict each other: 3 slots were seen, but the outcomes have the sum 2"
	var out bytes.Buffer
	flags := &jobFlags{streams: streams{out: &out}, output: "json"}
	counted := (&session{jobFlags: flags, summary: wrong}).write()
	if code, _ := exitCode("verify", counted); code != exitInternal ||
		counted.Error() != "bug: "+text {
		t.Errorf("a result that was just counted: %d, %v", code, counted)
	}
	stored := flags.printReport(context.Background(), nil, nil, wrong, document.Input{})
	code, hint := exitCode("report", stored)
	if code != exitStorage || !strings.Contains(stored.Error(), text) ||
		!strings.Contains(hint, "rotator verify") {
		t.Errorf("a stored result: %d, %v, %s", code, stored, hint)
	}
	if out.Len() > 0 {
		t.Errorf("printed: %s", &out)
	}
}
