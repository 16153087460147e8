package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func newPass(partitions int) Pass {
	target := PassTarget{Name: "t"}
	for i := range partitions {
		target.Partitions = append(target.Partitions, Partition{
			Name: strconv.Itoa(i),
			Spec: json.RawMessage("{}"),
		})
	}
	return Pass{Number: 1, Status: Running, Targets: []PassTarget{target}}
}

// page completes page n of a partition in the model.
func page(partition, n, pages int, ticket *PageTicket) {
	counts := Counts{Slots: SlotCounts{Seen: 1, Failed: 1}, Items: ItemCounts{Seen: 1}}
	ticket.Complete([]byte(strconv.Itoa(n+1)), n+1 == pages, counts,
		[]LedgerEntry{{Target: "t", Ref: fmt.Sprintf("%d/%d", partition, n), Outcome: "failed"}})
}

// model is the state of a run: the next page of each partition and the open pages.
type model struct {
	tracker *Tracker
	next    []int // page that each partition begins next
	open    []begun
}

type begun struct {
	partition, page int
	ticket          *PageTicket
}

// TestTrackerCountsEveryPageOnce begins and completes pages in any order, saves and
// crashes at any time, and continues from the saved state until all pages are done.
func TestTrackerCountsEveryPageOnce(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		ctx := context.Background()
		const pages = 6
		partitions := rapid.IntRange(1, 3).Draw(r, "partitions")
		passes := NewPasses(NewMemory(), "j")
		pass := newPass(partitions)
		if _, err := passes.Begin(ctx, 0, pass); err != nil {
			r.Fatal(err)
		}
		m := reload(r, passes, pass)
		for crashes := 0; ; {
			switch action := rapid.IntRange(0, 9).Draw(r, "action"); {
			case action < 4:
				m.begin(r, rapid.IntRange(0, partitions-1).Draw(r, "partition"), pages)
			case action < 8:
				m.complete(r, pages)
			case action == 8:
				if err := m.tracker.Flush(ctx); err != nil {
					r.Fatal(err)
				}
			case crashes < 5:
				crashes++
				m = reload(r, passes, pass)
			}
			if m.done(pages) {
				break
			}
		}
		if err := m.tracker.Flush(ctx); err != nil {
			r.Fatal(err)
		}
		checkTotals(r, passes, pass, partitions*pages)
	})
}

// claimAll claims all partitions that are left.
func claimAll(t interface {
	Context() context.Context
	Fatal(...any)
}, tracker *Tracker) {
	for {
		_, ok, err := tracker.Claim(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return
		}
	}
}

// reload returns the model of a new process, which reads the saved state.
func reload(r *rapid.T, passes *Passes, pass Pass) *model {
	tracker, err := passes.Track(context.Background(), pass, TrackOptions{Window: 3})
	if err != nil {
		r.Fatal(err)
	}
	claimAll(r, tracker)
	m := &model{tracker: tracker}
	for i := range pass.Targets[0].Partitions {
		progress, err := passes.Progress(context.Background(), pass.Number, 0, i)
		if err != nil {
			r.Fatal(err)
		}
		n, _ := strconv.Atoi(string(progress.Cursor))
		if int64(n) != progress.Counts.Slots.Seen {
			r.Fatalf("the cursor of partition %d is after page %d, with %d pages counted", i, n,
				progress.Counts.Slots.Seen)
		}
		m.next = append(m.next, n)
	}
	return m
}

func (m *model) begin(r *rapid.T, partition, pages int) {
	if m.next[partition] == pages {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // so that a full window does not block
	ticket, err := m.tracker.Begin(ctx, partition)
	if errors.Is(err, context.Canceled) {
		if err := m.tracker.Flush(context.Background()); err != nil {
			r.Fatal(err)
		}
		return
	}
	m.open = append(m.open, begun{partition, m.next[partition], ticket})
	m.next[partition]++
}

func (m *model) complete(r *rapid.T, pages int) {
	if len(m.open) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.open)-1).Draw(r, "which")
	b := m.open[i]
	m.open = slices.Delete(m.open, i, i+1)
	page(b.partition, b.page, pages, b.ticket)
}

func (m *model) done(pages int) bool {
	return len(m.open) == 0 && !slices.ContainsFunc(m.next, func(n int) bool { return n != pages })
}

func checkTotals(r *rapid.T, passes *Passes, pass Pass, want int) {
	totals, err := passes.Totals(context.Background(), pass)
	if err != nil {
		r.Fatal(err)
	}
	if got := totals["t"].Slots.Seen; got != int64(want) {
		r.Fatalf("%d pages counted, want %d", got, want)
	}
	seen := map[string]int{}
	for chunk, err := range passes.Ledger(context.Background(), pass) {
		if err != nil {
			r.Fatal(err)
		}
		for _, e := range chunk.Entries {
			seen[e.Ref]++
		}
	}
	for ref, n := range seen {
		if n != 1 {
			r.Fatalf("%s is in the ledger %d times", ref, n)
		}
	}
	if len(seen) != want {
		r.Fatalf("%d entries in the ledger, want %d", len(seen), want)
	}
}

// TestTrackerSaveInterval: the tracker saves at most once in an interval, and at once if a scanner
// waits. It calls BeforeSave first.
func TestTrackerSaveInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes := NewPasses(NewMemory(), "j")
		pass := newPass(1)
		if _, err := passes.Begin(t.Context(), 0, pass); err != nil {
			t.Fatal(err)
		}
		var saves []time.Time
		tracker, err := passes.Track(t.Context(), pass, TrackOptions{
			Window:   4,
			Interval: time.Second,
			BeforeSave: func(context.Context) (AuditLog, error) {
				saves = append(saves, time.Now())
				return AuditLog{}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		claimAll(t, tracker)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- tracker.Run(t.Context(), ctx.Done()) }()
		for n := range 4 {
			ticket, err := tracker.Begin(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			page(0, n, 100, ticket)
			synctest.Wait()
			time.Sleep(100 * time.Millisecond)
		}
		if len(saves) != 1 {
			t.Errorf("%d saves within 400 ms, want only the first", len(saves))
		}
		began := time.Now()
		if _, err := tracker.Begin(ctx, 0); err != nil { // three are unsaved, so this fits
			t.Fatal(err)
		}
		ticket, err := tracker.Begin(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited != 0 || len(saves) != 2 {
			t.Errorf("a waiting scanner waited %s, with %d saves; want a save at once", waited,
				len(saves))
		}
		page(0, 5, 100, ticket) // after an open page, so there is nothing to save
		time.Sleep(3 * time.Second)
		if len(saves) != 2 {
			t.Errorf("%d saves, want none for a page after an open one", len(saves))
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// TestLogsOfEarlierRuns: a pass knows the last recorded line of the log of each run that saved a
// partition, also if another run has saved the partition later.
func TestLogsOfEarlierRuns(t *testing.T) {
	passes := NewPasses(NewMemory(), "j")
	pass := newPass(1)
	if _, err := passes.Begin(t.Context(), 0, pass); err != nil {
		t.Fatal(err)
	}
	host := AuditLog{Host: "h", Dir: "/d", Name: "n"}
	line := func(id string, lines int64) AuditLog {
		log := host
		log.ID, log.Lines = id, lines
		return log
	}
	saves := []AuditLog{line("", 0), line("a", 5), line("a", 9), line("b", 3), line("a", 12),
		line("c", 1)}
	for n, log := range saves {
		tracker, err := passes.Track(t.Context(), pass, TrackOptions{
			BeforeSave: func(context.Context) (AuditLog, error) { return log, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		claimAll(t, tracker)
		ticket, err := tracker.Begin(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		page(0, n, 100, ticket)
		if err := tracker.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := passes.Logs(t.Context(), pass)
	want := []AuditLog{line("b", 3), line("a", 12), line("c", 1)}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Logs: %+v, %v, want %+v", got, err, want)
	}
}

// TestTrackerIsFencedOff: if two processes save the same partition, the second save
// fails.
func TestTrackerIsFencedOff(t *testing.T) {
	passes := NewPasses(NewMemory(), "j")
	pass := newPass(1)
	if _, err := passes.Begin(t.Context(), 0, pass); err != nil {
		t.Fatal(err)
	}
	var trackers []*Tracker
	for range 2 {
		tracker, err := passes.Track(t.Context(), pass, TrackOptions{})
		if err != nil {
			t.Fatal(err)
		}
		claimAll(t, tracker)
		ticket, err := tracker.Begin(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		page(0, 0, 1, ticket)
		trackers = append(trackers, tracker)
	}
	if err := trackers[0].Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := trackers[1].Flush(t.Context()); !errors.Is(err, ErrFenced) {
		t.Errorf("the second save: %v, want ErrFenced", err)
	}
	if _, err := passes.Begin(t.Context(), 0, pass); !errors.Is(err, ErrFenced) {
		t.Errorf("Begin after another pass began: %v, want ErrFenced", err)
	}
}

// TestChunkFitsIntoARecord divides a ledger that is larger than a record.
func TestChunkFitsIntoARecord(t *testing.T) {
	var entries []LedgerEntry
	for i := range 5000 {
		entries = append(entries, LedgerEntry{
			Target:  "t",
			Ref:     fmt.Sprintf("%0500d", i),
			Outcome: "failed",
			Detail:  "d",
		})
	}
	n := 0
	for _, chunk := range chunks(entries) {
		data, err := Encode("ledger", LedgerChunk{Entries: chunk})
		if err != nil || len(data) > MaxRecord {
			t.Errorf("a chunk has %d bytes, %v, more than the %d of a record", len(data), err,
				MaxRecord)
		}
		n += len(chunk)
	}
	if n != len(entries) {
		t.Errorf("%d entries in chunks, want %d", n, len(entries))
	}
}
