package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
)

// twoRuns: only one run can use a checkpoint in a file. Two runs with separate checkpoints move
// every slot once.
func twoRuns(t *testing.T) {
	t.Run("one checkpoint", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{Rate: 50})
		first := runs(w).Begin(t)
		until(t, "the first requests", requestsSent(w, 40))
		for _, command := range []string{"run", "retry"} {
			if r := w.Run(t, command, "-o", "json"); r.Code != exitBusy {
				t.Errorf("during another run: want exit code %d: %s", exitBusy, r)
			}
		}
		r := first.End(t)
		if r.Code != exitExceptions {
			t.Fatalf("want exit code 3: %s", r)
		}
		w.Check(t, r.Summary)
	})
	t.Run("separate checkpoints", separateCheckpoints)
	// One run reads 8 partitions at a time, and leaves the others to the second.
	for _, place := range []string{harness.InTable, harness.InBucket} {
		t.Run("a shared checkpoint "+place, func(t *testing.T) {
			t.Parallel()
			w := newTrial(t, harness.Config{
				Segments:   16,
				Rate:       60,
				Checkpoint: place,
				Extra:      "lease: 3s",
			})
			first, second := runs(w).Begin(t), runs(w).Begin(t)
			until(t, "both runs to own partitions", func() bool {
				return len(distinct(owners(t, w.Store(t), "trial"))) == 2
			})
			first.Kill() // the other run takes over its partitions after the lease
			first.End(t)
			w.CountsVary() // slots that the first run wrote but did not save
			r := second.End(t)
			if r.Code != exitExceptions {
				t.Fatalf("want exit code %d: %s", exitExceptions, r)
			}
			w.Check(t, r.Summary)
		})
	}
}

func separateCheckpoints(t *testing.T) {
	t.Parallel()
	w := newTrial(t, harness.Config{Rate: 400})
	replaceInJob(t, w, ".rotator/state.db", "second/state.db")
	if err := os.Rename(filepath.Join(w.Dir, "job.yaml"),
		filepath.Join(w.Dir, "second.yaml")); err != nil {
		t.Fatal(err)
	}
	w.WriteJob(t, w.Job())
	second := runs(w)
	second.Args[len(second.Args)-1] = "second.yaml"
	// The first run is paused with open pages, on which the second works too.
	first := runs(w).Begin(t)
	until(t, "the first requests", requestsSent(w, 30))
	first.Signal(t, syscall.SIGSTOP)
	second.Begin(t)
	until(t, "requests of the second", requestsSent(w, 60))
	first.Signal(t, syscall.SIGCONT)
	a, b := first.End(t), second.End(t)
	if a.Code != exitExceptions || b.Code != exitExceptions {
		t.Fatalf("want exit code 3 of both runs: %s\n%s", a, b)
	}
	want := sum(w.Expected())
	w.CountsVary()
	w.Check(t, a.Summary)
	w.Check(t, b.Summary)
	if n := a.Summary.Slots.Rotated + b.Summary.Slots.Rotated; n != want.Rotated ||
		b.Summary.Slots.Rotated == 0 {
		t.Errorf("want %d moved slots, but the two runs count %d", want.Rotated,
			n)
	}
	t.Logf("%d slots moved by the first, %d by the second", a.Summary.Slots.Rotated,
		b.Summary.Slots.Rotated)
}

// pausedRun: a run that is paused while applications write keeps its lock and loses no write of
// them.
func pausedRun(t *testing.T) {
	t.Run("one checkpoint", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{Rate: 300})
		p := runs(w).Begin(t)
		until(t, "the first requests", requestsSent(w, 60))
		p.Signal(t, syscall.SIGSTOP)
		if r := w.Run(t, "run"); r.Code != exitBusy {
			t.Errorf("during a paused run: want exit code %d: %s", exitBusy, r)
		}
		for i, e := range w.Entries(nil) {
			if i%3 == 0 && e.Kind == harness.Ordinary {
				if err := w.Replace(context.Background(), e,
					[]string{w.Old, w.New}[i%2]); err != nil {
					t.Fatal(err)
				}
			}
		}
		p.Signal(t, syscall.SIGCONT)
		r := p.End(t)
		if r.Code != exitExceptions {
			t.Fatalf("want exit code 3: %s", r)
		}
		w.CheckPartial(t, r.Summary)
		toConvergence(t, w)
	})
	t.Run("a shared checkpoint", func(t *testing.T) {
		t.Parallel()
		items, objects := harness.Mix(4)
		w := newTrial(t, harness.Config{
			Items:      items,
			Objects:    objects,
			Segments:   16,
			Rate:       100,
			Checkpoint: harness.InTable,
			Extra:      "lease: 3s",
		})
		first, second := runs(w).Begin(t), runs(w).Begin(t)
		store := w.Store(t)
		until(t, "both runs to own partitions", func() bool {
			return len(distinct(owners(t, store, "trial"))) == 2
		})
		first.Signal(t, syscall.SIGSTOP)
		if had := owners(t, store, "trial"); len(distinct(had)) != 2 {
			t.Fatalf("one run had ended before it was paused: %v", had)
		}
		r := second.End(t)
		if r.Code != exitExceptions {
			t.Fatalf("the other run: want exit code %d: %s", exitExceptions, r)
		}
		w.CountsVary() // slots that the first run wrote but did not save
		w.Check(t, r.Summary)
		first.Signal(t, syscall.SIGCONT)
		if late := first.End(t); late.Code != exitBusy {
			t.Errorf("the paused run, after its lease: want exit code %d: %s", exitBusy, late)
		}
		w.Check(t, r.Summary)
		toTheEnd(t, w) // a pass that finds all slots moved
	})
}

// terminated: SIGTERM at any point ends a run soon and in an orderly way.
func terminated(t *testing.T) {
	items, _ := harness.Mix(4)
	// the last run needs work that the others cannot complete before they end
	_, objects := harness.Mix(8)
	t.Run("in a file", func(t *testing.T) {
		t.Parallel()
		terminate(t, harness.Config{Items: items, Objects: objects, Rate: 600}, 1, 3, 20, 60, 90)
	})
	each(t, sharedHomes(), func(t *testing.T, c harness.Config) {
		c.Items, c.Objects, c.Rate = items, objects, 200
		terminate(t, c, 1, 3, 20, 30)
	})
	t.Run("while the checkpoint is away", func(t *testing.T) {
		each(t, sharedHomes(), terminatedInOutage)
	})
}

// terminate ends the runs of one pass with SIGTERM, each after a number of requests to KMS.
func terminate(t *testing.T, c harness.Config, after ...int) {
	w := newTrial(t, c)
	ends := map[int]int{}
	for _, requests := range after {
		p := runs(w).Begin(t)
		until(t, "some requests", requestsSent(w, requests))
		began := time.Now()
		p.Signal(t, syscall.SIGTERM)
		r := p.End(t)
		ends[r.Code]++
		if took := time.Since(began); took > 8*time.Second+slack() {
			t.Errorf("SIGTERM took %s", took)
		}
		if r.Code == exitExceptions {
			break // the run had completed
		}
		if r.Summary != nil || requests > 3 { // there is no result before the pass is open
			stopped(t, w, r, exitInterrupted)
		}
	}
	if ends[exitInterrupted] < 3 {
		t.Errorf("exit codes %v, want %d for most", ends, exitInterrupted)
	}
	toTheEnd(t, w)
}

// moment is a request to an operation: the one after the first skip requests for which of returns
// true. If of is nil, all requests count.
type moment struct {
	operation string
	skip      int
	of        func(requestOf) bool
}

// killed: SIGKILL at any request, before or after the server has applied it, loses nothing and
// counts nothing twice.
func killed(t *testing.T) {
	items, _ := harness.Mix(4)
	// the last run needs work that the others cannot complete before they end
	_, objects := harness.Mix(8)
	t.Run("in a file", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{Items: items, Objects: objects})
		kill(t, w, moment{"dynamodb:DescribeTable", 0, nil}, moment{"dynamodb:Scan", 0, nil},
			moment{"kms:ReEncrypt", 30, nil},
			moment{"dynamodb:BatchExecuteStatement", 1, nil}, moment{
				"dynamodb:BatchExecuteStatement",
				2,
				nil,
			},
			moment{"s3:GetObject", 3, nil}, moment{"s3:PutObject", 4, nil}, moment{
				"s3:PutObject",
				5,
				nil,
			}, moment{"kms:ReEncrypt", 3, nil})
	})
	each(t, sharedHomes(), func(t *testing.T, c harness.Config) {
		c.Rate = 80
		w := newTrial(t, c)
		_, operation := w.StateOperations()
		// The record of the pass, its head, the roster, a claim; later the ledger, cursors, and a
		// roster with dead runs.
		state := func(skip int) moment {
			return moment{operation, skip, func(r requestOf) bool {
				return operation == "dynamodb:PutItem" ||
					ofBucket("state")(r) && !strings.Contains(r.URL.Path, "/.rotator-probe-")
			}}
		}
		kill(t, w, state(0), state(1), state(2), moment{"dynamodb:BatchExecuteStatement", 0, nil},
			state(4), state(7))
	})
}

// kill kills a run of one pass twice at each moment, and then completes the pass.
func kill(t *testing.T, w *harness.Env, moments ...moment) {
	killed := 0
	for _, at := range moments {
		for _, applied := range []bool{true, false} {
			p := runs(w)
			f := fault.Fault{
				Skip:   at.skip,
				Times:  1,
				Of:     at.of,
				Before: func(requestOf, []byte) { p.Kill() },
			}
			if !applied {
				f.Kind = fault.Reset
			}
			w.Fault(at.operation, f)
			r := p.Begin(t).End(t)
			w.Server.Faults().Clear("")
			if r.Code != -1 {
				t.Fatalf("the run after %d killed ones ended before %s: %s",
					killed, at.operation, r)
			}
			killed++
			w.CheckPartial(t, nil)
		}
	}
	r := toTheEnd(t, w)
	if r.Summary.Pass != 1 {
		t.Errorf("pass %d ended, want pass 1", r.Summary.Pass)
	}
	if r := w.Run(t, "report", "--check"); r.Code != exitDone {
		t.Errorf("the audit log is not intact: %s", r)
	}
	t.Logf("%d runs were killed", killed)
}
