//go:build torture

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rotator/internal/harness"
	"rotator/internal/report"
)

// torture is the state of the test of one kind of checkpoint.
type torture struct {
	world *harness.Env
	// runs is the number of processes that run concurrently.
	runs           int
	kills, checked int
	passes         map[int]bool
	problems       []string
	// probes has the probe objects that killed processes did not delete.
	probes map[string]bool
}

// cycle is the number of kills between two checks of all items.
const cycle = 10

// TestTorture kills the binary at random times, ROUNDS times (50 by default) for each kind of
// checkpoint. Meanwhile one application writes items, and another edits only the attributes from
// which encryption contexts are made. After every 10 kills the applications stop, the pass is
// completed, and every item is compared with its expected state.
func TestTorture(t *testing.T) {
	rounds := 50
	if text := os.Getenv("ROUNDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("ROUNDS=%s is not a number of kills", text)
		}
		rounds = n
	}
	binary := filepath.Join(t.TempDir(), "rotator")
	build := exec.Command("go", "build", "-o", binary, "rotator/cmd/rotator")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, store := range []struct {
		name, place string
		runs        int
	}{
		{"file", "file:.rotator/state.db", 1},
		{"DynamoDB", harness.InTable, 2},
		{"S3", harness.InBucket, 2},
	} {
		t.Run(store.name, func(t *testing.T) {
			t.Parallel()
			items, objects := harness.Mix(8)
			items[harness.Bound] = 80
			w := harness.Start(t, harness.Config{
				Items:      items,
				Objects:    objects,
				Rate:       1200,
				Segments:   4,
				Checkpoint: store.place,
				Extra:      "lease: 1s",
				Command:    []string{binary},
			})
			tt := &torture{
				world:  w,
				runs:   store.runs,
				passes: map[int]bool{},
				probes: map[string]bool{},
			}
			began := time.Now()
			for tt.kills < rounds && !t.Failed() {
				tt.cycle(t, min(cycle, rounds-tt.kills))
			}
			w.Guards(t)
			w.Secrets(t)
			tt.printFigures(store.name, time.Since(began))
		})
	}
}

// cycle starts the applications and the processes, kills processes, stops the applications, and
// waits until the processes have completed the pass.
func (tt *torture) cycle(t *testing.T, kills int) {
	writing, rest := context.WithCancel(t.Context())
	defer rest()
	var writer sync.WaitGroup
	writer.Go(func() { tt.write(writing, t) })
	writer.Go(func() { tt.relocate(writing, t) })
	running := make([]*harness.Process, tt.runs)
	for i := range running {
		running[i] = tt.world.Command("run", "-o", "json").Begin(t)
	}
	for killed := 0; killed < kills; {
		time.Sleep(time.Duration(50+rand.IntN(500)) * time.Millisecond)
		i := rand.IntN(len(running))
		running[i].Kill()
		if result := running[i].End(t); result.Code == -1 {
			killed++
		} else {
			tt.ended(t, result)
		}
		running[i] = tt.world.Command("run", "-o", "json").Begin(t)
	}
	tt.kills += kills
	rest()
	writer.Wait()
	for _, p := range running {
		tt.ended(t, p.End(t))
	}
	tt.check(t)
}

// write changes random items until ctx is done, with ciphertexts under the old and the new key.
func (tt *torture) write(ctx context.Context, t *testing.T) {
	w := tt.world
	entries := w.Entries(func(e *harness.Entry) bool {
		return e.Kind == harness.Ordinary || e.Kind == harness.Nested ||
			e.Kind == harness.Document || e.Kind == harness.Current
	})
	ticker := time.NewTicker(4 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		e, err := entries[rand.IntN(len(entries))], error(nil)
		switch rand.IntN(5) {
		case 0:
			err = w.Replace(context.WithoutCancel(ctx), e, w.New)
		case 1, 2:
			err = w.Touch(context.WithoutCancel(ctx), e)
		default:
			err = w.Replace(context.WithoutCancel(ctx), e, w.Old)
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// relocate edits, until ctx is done, the attributes from which the contexts of items are made.
// After one edit in eight it stores a ciphertext under the old key, so that there are slots to
// move.
func (tt *torture) relocate(ctx context.Context, t *testing.T) {
	w := tt.world
	entries := w.Entries(harness.Of(harness.Table, harness.Bound))
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		e, whole := entries[rand.IntN(len(entries))], context.WithoutCancel(ctx)
		err := w.Relocate(whole, e)
		if err == nil && rand.IntN(8) == 0 {
			err = w.Replace(whole, e, w.Old)
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// ended checks a process that was not killed. It must have completed the pass, with the poison
// and foreign slots in the ledger, or, if several processes run, it may have lost its lease.
func (tt *torture) ended(t *testing.T, r harness.Result) {
	switch {
	case r.Code == 76 && tt.runs > 1:
	case r.Code == 3 && r.Summary != nil && r.Summary.Status == report.Complete:
		tt.passes[r.Summary.Pass] = true
	default:
		t.Errorf("a run that was not killed: %s", r)
	}
}

// check runs a pass, which moves what the applications wrote after the scan, and compares every
// item with its expected state. The applications must not write meanwhile.
func (tt *torture) check(t *testing.T) {
	last := tt.world.Must(t, []int{3}, "run", "-o", "json")
	tt.ended(t, last)
	verify := tt.world.Must(t, []int{3}, "verify", "-o", "json")
	if s := verify.Summary.Slots; s.Remaining+s.Rotated != 0 || s.Foreign+s.Failed == 0 {
		tt.problems = append(tt.problems, fmt.Sprintf("verify counts %+v", s))
	}
	for _, p := range tt.world.Stored(true) {
		if id, _, _ := strings.Cut(p, " "); strings.Contains(id, "/.rotator-probe-") {
			tt.probes[id] = true
			continue
		}
		tt.problems = append(tt.problems, p)
	}
	tt.problems = append(tt.problems, tt.world.Figures(last.Summary)...)
	tt.checked += len(tt.world.Entries(nil))
	for _, p := range tt.problems {
		t.Error(p)
	}
}

// printFigures prints the figures of the test.
func (tt *torture) printFigures(store string, took time.Duration) {
	count := func(words string) (n int) {
		for _, p := range tt.problems {
			if strings.Contains(p, words) {
				n++
			}
		}
		return n
	}
	moves, again := tt.world.Moves()
	lost, unreadable := count("another plaintext"), count("cannot be read")
	unmoved := count("not under the new key")
	fmt.Printf("%s: %d kills survived, %d items checked, %d lost updates, %d unreadable, "+
		"%d not moved, %d other problems; %d passes finished, %d slots re-encrypted, "+
		"%d repeatedly; %d probes left by kills; %s\n",
		store, tt.kills, tt.checked, lost, unreadable,
		unmoved, len(tt.problems)-lost-unreadable-unmoved, len(tt.passes), moves,
		again, len(tt.probes), took.Round(time.Second))
}
