package checkpoint

import (
	"context"
	"errors"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// history adds passes and read-only passes to a store.
type history struct {
	ctx    context.Context
	passes *Passes
	last   int // number of the last pass
	err    error
}

// pass begins a pass after the last one. A complete pass has counts and a ledger in both
// partitions.
func (h *history) pass(complete, restart bool) {
	if h.err != nil {
		return
	}
	pass := newPass(2)
	pass.Fingerprint, pass.Started = "print", time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	if restart {
		pass, h.err = h.passes.Restart(h.ctx, pass)
	} else {
		pass, h.err = h.passes.Begin(h.ctx, h.last, pass)
	}
	if h.err != nil {
		return
	}
	h.last = pass.Number
	if complete {
		h.complete(pass)
	}
}

// complete completes a pass.
func (h *history) complete(pass Pass) {
	tracker, err := h.passes.Track(h.ctx, pass, TrackOptions{})
	for ok := err == nil; ok && err == nil; {
		var claim Claim
		var ticket *PageTicket
		if claim, ok, err = tracker.Claim(h.ctx); ok && err == nil {
			if ticket, err = tracker.Begin(h.ctx, claim.Index); err == nil {
				page(claim.Index, 0, 1, ticket)
			}
		}
	}
	if err == nil {
		err = tracker.Flush(h.ctx)
	}
	if err == nil {
		_, err = h.passes.Update(h.ctx, pass.Number, func(p *Pass) { p.Status = Finished })
	}
	h.err = err
}

// read stores a read-only pass with some targets.
func (h *history) read(status Status, targets int) {
	if h.err != nil {
		return
	}
	read := someRead(targets)
	read.Status, read.Targets[0].Name = status, "t" // the target of the passes, which are newer
	if read.LastPass, h.err = h.passes.LastPass(h.ctx); h.err == nil {
		_, h.err = h.passes.StoreReadPass(h.ctx, read)
	}
}

// someHistory stores a read-only pass and then four complete passes, each with a read-only pass
// after it, one of them in parts, and an unfinished pass.
func someHistory(t *testing.T, store Store) *Passes {
	t.Helper()
	h := &history{ctx: t.Context(), passes: NewPasses(store, "j")}
	h.read(Finished, 1)
	for i := range 4 {
		h.pass(true, false)
		h.read(Finished, 1+800*(i%2))
	}
	h.pass(false, false)
	if h.err != nil {
		t.Fatal(h.err)
	}
	return h.passes
}

// contents returns all records of a store.
func contents(t *testing.T, store Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	for record, err := range store.(Prunable).List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		e, err := store.Fetch(t.Context(), record.ID)
		if err != nil {
			t.Fatal(err)
		}
		all[record.ID] = string(e.Data)
	}
	return all
}

// prune plans and prunes.
func prune(ctx context.Context, p *Passes, keep int) (Deleted, error) {
	plan, err := p.Retention(ctx, keep)
	if err != nil {
		return Deleted{}, err
	}
	return p.Prune(ctx, plan, "tester")
}

// testPrune prunes a history. The records of the last passes are unchanged, also those that another
// job has in the same store, and the numbers of the deleted passes are not used again.
func testPrune(t *testing.T, p testStore) {
	store := p.open()
	passes := someHistory(t, store)
	other := &history{ctx: t.Context(), passes: NewPasses(store, "j2")}
	other.pass(true, false)
	other.pass(true, false)
	other.pass(true, false)
	if other.err != nil {
		t.Fatal(other.err)
	}
	before := contents(t, store)
	if p.loseDelete != nil {
		p.loseDelete(3)
	}
	deleted, err := prune(t.Context(), passes, 1)
	if err != nil || deleted.Passes != 3 || deleted.ReadOnly != 3 || deleted.Conflicts != 0 {
		t.Fatalf("Prune: %+v, %v, want 3 passes and 3 read-only passes", deleted, err)
	}
	after := contents(t, store)
	checkKept(t, before, after)
	for n := range 3 {
		var pruned *PrunedError
		_, err := passes.Pass(t.Context(), n+1)
		if !errors.As(err, &pruned) || pruned.By != "tester" || !errors.Is(err, ErrNotFound) {
			t.Errorf("Pass(%d) after Prune: %v, want *PrunedError", n+1, err)
		}
	}
	if again, err := prune(t.Context(), passes, 1); err != nil || again != (Deleted{}) {
		t.Errorf("the second Prune: %+v, %v, want nothing", again, err)
	}
	h := &history{ctx: t.Context(), passes: passes, last: 5}
	last, err := passes.Last(t.Context())
	if err != nil || last.Number != 5 {
		t.Fatalf("the last pass is %d, %v, want 5", last.Number, err)
	}
	h.complete(last)
	h.pass(true, false)
	h.read(Finished, 1)
	n, err := passes.LastReadPass(t.Context())
	if h.err != nil || err != nil || h.last != 6 || n != 6 {
		t.Errorf("afterwards: pass %d and read-only pass %d, %v, %v, want 6 and 6", h.last, n,
			h.err, err)
	}
}

// checkKept checks that a Prune with keep 1 has changed only records of passes 1 to 3 and of
// read-only passes 1 to 3 of job j: the fourth one is the last before pass 4.
func checkKept(t *testing.T, before, after map[string]string) {
	t.Helper()
	for id, data := range before {
		now, there := after[id]
		gone := false
		for _, n := range []string{"1", "2", "3"} {
			gone = gone || strings.HasPrefix(id, "jobs/j/pass/"+n) ||
				strings.HasPrefix(id, "jobs/j/read/"+n)
		}
		main := strings.Count(id, "/") == 3
		switch {
		case !gone && now != data:
			t.Errorf("record %s was changed or deleted", id)
		case gone && main && !strings.HasPrefix(now, `{"kind":"pruned"`):
			t.Errorf("record %s is not replaced: %.60s", id, now)
		case gone && !main && there:
			t.Errorf("record %s is still there", id)
		}
	}
}

// A crash after any write or delete leaves passes that are complete or deleted, never a part that
// a reader takes for a pass, and the next Prune completes the work.
func TestCrashWhilePruning(t *testing.T) {
	if testing.Short() {
		t.Skip("it prunes hundreds of times, on one goroutine")
	}
	var want map[string]string
	for writes := 0; ; writes++ {
		store := NewMemory()
		passes := someHistory(t, store)
		before := contents(t, store)
		totals := map[int]map[string]Counts{}
		for n := range 5 {
			totals[n+1] = totalsOf(t, passes, n+1)
			if n < 4 && totals[n+1]["t"].Slots.Seen != 2 {
				t.Fatalf("pass %d has %+v", n+1, totals[n+1])
			}
		}
		_, crashed := prune(t.Context(), NewPasses(&crashing{store, writes}, "j"), 1)
		for n := range 5 {
			if _, err := passes.Pass(t.Context(), n+1); errors.As(err, new(*PrunedError)) {
				continue
			}
			if got := totalsOf(t, passes, n+1); !reflect.DeepEqual(got, totals[n+1]) {
				t.Errorf("after %d writes pass %d has %+v", writes, n+1, got)
			}
		}
		for _, err := range passes.ReadPasses(t.Context()) {
			if err != nil {
				t.Errorf("after %d writes: %v", writes, err)
			}
		}
		if _, err := prune(t.Context(), passes, 1); err != nil {
			t.Errorf("Prune after a crash: %v", err)
		}
		after := contents(t, store)
		checkKept(t, before, after)
		if crashed == nil {
			want = after
			break
		}
		if !errors.Is(crashed, errCrash) {
			t.Fatal(crashed)
		}
	}
	if len(want) == 0 {
		t.Error("nothing is left")
	}
}

func totalsOf(t *testing.T, passes *Passes, number int) map[string]Counts {
	t.Helper()
	pass, err := passes.Pass(t.Context(), number)
	if err != nil {
		t.Fatal(err)
	}
	totals, err := passes.Totals(t.Context(), pass)
	if err != nil {
		t.Fatal(err)
	}
	return totals
}

func (c *crashing) List(ctx context.Context, prefix string) iter.Seq2[Size, error] {
	return c.Store.(Prunable).List(ctx, prefix)
}

func (c *crashing) Delete(ctx context.Context, e Entry) error {
	if c.left--; c.left < 0 {
		return errCrash
	}
	return c.Store.(Prunable).Delete(ctx, e)
}

// A run that still works on a deleted pass is fenced off, and what it writes is deleted by the next
// Prune. A record that changes while Prune works is left.
func TestPruneBesideRuns(t *testing.T) {
	store := NewMemory()
	passes := someHistory(t, store)
	stale, err := passes.Pass(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := passes.Retention(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := passes.Update(t.Context(), 2, func(p *Pass) { p.Requests++ }); err != nil {
		t.Fatal(err)
	}
	deleted, err := passes.Prune(t.Context(), plan, "tester")
	if err != nil || deleted.Conflicts != 1 || deleted.Passes != 2 {
		t.Errorf("Prune: %+v, %v, want 1 conflict and 2 passes", deleted, err)
	}
	if totals := totalsOf(t, passes, 2); totals["t"].Slots.Seen != 2 {
		t.Errorf("the pass that changed has %+v", totals)
	}
	_, err = passes.Update(t.Context(), 1, func(p *Pass) { p.Requests++ })
	if !errors.Is(err, ErrFenced) {
		t.Errorf("Update of a deleted pass: %v, want ErrFenced", err)
	}
	(&history{ctx: t.Context(), passes: passes}).complete(stale) // creates records again
	if _, err := prune(t.Context(), passes, 1); err != nil {
		t.Error(err)
	}
	for id := range contents(t, store) {
		if strings.HasPrefix(id, "jobs/j/pass/1/") {
			t.Errorf("record %s of a deleted pass is left", id)
		}
	}
}

// TestPruneKeepsWhatItMust: in random histories with abandoned passes and stopped audits, Prune
// never deletes the last pass, the pass before it, the last complete passes, the read-only passes
// since then, or the last complete read-only pass.
func TestPruneKeepsWhatItMust(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		h := &history{ctx: context.Background(), passes: NewPasses(NewMemory(), "j")}
		for range rapid.IntRange(0, 14).Draw(r, "steps") {
			switch rapid.IntRange(0, 4).Draw(r, "step") {
			case 0, 1:
				h.pass(true, true)
			case 2:
				h.pass(false, true)
			case 3:
				h.read(Finished, 1)
			case 4:
				h.read(Stopped, 1)
			}
		}
		keep := rapid.IntRange(0, 3).Draw(r, "keep")
		before := readable(h)
		if h.err == nil {
			_, h.err = prune(h.ctx, h.passes, keep)
		}
		after := readable(h)
		if h.err != nil {
			r.Fatal(h.err)
		}
		must := before.mustKeep(max(keep, 1))
		for what := range must {
			if !slices.Contains(after.names, what) {
				r.Errorf("%s was deleted; left: %v of %v", what, after.names, before.names)
			}
		}
		if len(before.complete) > 4 && len(after.names) == len(before.names) {
			r.Errorf("nothing was deleted of %v", before.names)
		}
	})
}

// left is what can be read in a store.
type left struct {
	names    []string // "pass 3", "read 4"
	last     int
	complete []int          // numbers of complete passes
	reads    map[string]int // the last pass of each read-only pass
	newest   string         // the last complete read-only pass
}

func readable(h *history) (l left) {
	l.reads = map[string]int{}
	l.last = h.last
	for n := 1; n <= h.last; n++ {
		pass, err := h.passes.Pass(h.ctx, n)
		if err != nil {
			continue
		}
		l.names = append(l.names, nameOf("pass", n))
		if pass.Status == Finished {
			l.complete = append(l.complete, n)
		}
	}
	for read, err := range h.passes.ReadPasses(h.ctx) {
		if err != nil {
			h.err = err
			return l
		}
		name := nameOf("read", read.Number)
		l.names = append(l.names, name)
		l.reads[name] = read.LastPass.Number
		if l.newest == "" && read.Status == Finished {
			l.newest = name
		}
	}
	return l
}

func nameOf(kind string, n int) string { return kind + " " + string(rune('A'+n)) }

// mustKeep returns the names of what Prune must keep.
func (l left) mustKeep(keep int) map[string]bool {
	first := 1
	if len(l.complete) >= keep {
		first = l.complete[len(l.complete)-keep]
	}
	must := map[string]bool{}
	for n := min(first, l.last-1); n <= l.last; n++ {
		if name := nameOf("pass", n); slices.Contains(l.names, name) {
			must[name] = true
		}
	}
	for name, last := range maps.All(l.reads) {
		if last >= first || name == l.newest {
			must[name] = true
		}
	}
	return must
}

// testDelete deletes records of every state.
func testDelete(t *testing.T, p testStore) {
	ctx, s := t.Context(), p.open().(Prunable)
	first, err := s.Create(ctx, "jobs/a/n", []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Replace(ctx, first, []byte("two"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, "jobs/b/n", []byte("three")); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, first); !errors.Is(err, ErrConflict) {
		t.Errorf("Delete of an old version: %v, want ErrConflict", err)
	}
	for record, err := range s.List(ctx, "jobs/a/") {
		if err != nil || record.ID != "jobs/a/n" || record.Bytes < 3 {
			t.Errorf("List: %+v, %v", record, err)
		}
	}
	for range 2 { // the second one finds nothing
		if err := s.Delete(ctx, second); err != nil {
			t.Errorf("Delete: %v", err)
		}
	}
	if _, err := s.Fetch(ctx, "jobs/a/n"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Fetch after Delete: %v, want ErrNotFound", err)
	}
	if got := contents(t, p.open()); !maps.Equal(got, map[string]string{"jobs/b/n": "three"}) {
		t.Errorf("left: %v", got)
	}
	if p.damage == nil {
		return
	}
	p.damage("jobs/b/n")
	broken, err := s.Fetch(ctx, "jobs/b/n")
	if err == nil || s.Delete(ctx, broken) != nil {
		t.Errorf("a damaged record could not be deleted: %v", err)
	}
}
