package rotate_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/reencrypt"
	"rotator/internal/retry"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// TestRetryOfAnUnreadableItem: an item that could not be read is one exception. After a retry that
// can read it, each of its slots has an outcome, and the counts are correct.
func TestRetryOfAnUnreadableItem(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	target := newMemory()
	target.rows["item"] = map[string]scan.Value{"slot": {Kind: scan.KindBS, ByteSet: [][]byte{
		cloud.encrypt(t, old, "a", nil), cloud.encrypt(t, old, "b", nil), []byte("poison")}}}
	target.unreadable = &scan.RefusedError{Reason: "archived", Detail: "it is archived"}
	b := &testPass{
		cloud:  cloud,
		keys:   cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}}),
		format: format(t, nil, nil),
		target: target,
		store:  checkpoint.NewMemory(),
	}
	counts, err := b.run(t)
	if err != nil || counts.Slots != (checkpoint.SlotCounts{Seen: 1, Failed: 1}) ||
		counts.Reasons["failed/archived"] != 1 {
		t.Fatalf("unreadable: %+v, %v", counts, err)
	}
	for _, readable := range []bool{false, true} {
		if readable {
			target.unreadable = nil
		}
		pass, err := b.passes.Last(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := b.rotator(rotate.Target{
			Name:   "target",
			Lister: target,
			Writer: target,
			Format: b.format,
			Batch:  3,
		}, pass.Number).Retry(t.Context(), b.passes, pass, &checkpoint.Observer{}); err != nil {
			t.Fatal(err)
		}
		totals, err := b.passes.Totals(t.Context(), pass)
		if err != nil {
			t.Fatal(err)
		}
		want := checkpoint.SlotCounts{Seen: 1, Failed: 1}
		if readable {
			want = checkpoint.SlotCounts{Seen: 3, Rotated: 2, Failed: 1}
		}
		if got := totals["target"]; got.Slots != want || !got.Balanced() {
			t.Errorf("readable %v: %+v, want %+v", readable, got.Slots, want)
		}
	}
}

// TestRetryFindsTheSlotInASet: the members of a set can be returned in another order. The entry
// is matched to its slot by the blob.
func TestRetryFindsTheSlotInASet(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	target := newMemory()
	poison := []byte("poison")
	target.rows["item"] = map[string]scan.Value{
		"slot": {Kind: scan.KindBS, ByteSet: [][]byte{cloud.encrypt(t, old, "a", nil), poison}},
	}
	b := &testPass{
		cloud:  cloud,
		keys:   cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}}),
		format: format(t, nil, nil),
		target: target,
		store:  checkpoint.NewMemory(),
	}
	if counts, err := b.run(t); err != nil || counts.Slots != (checkpoint.SlotCounts{
		Seen:    2,
		Rotated: 1,
		Failed:  1,
	}) {
		t.Fatalf("counts %+v, error %v", counts.Slots, err)
	}
	set := target.rows["item"]["slot"].ByteSet
	target.rows["item"] = map[string]scan.Value{
		"slot": {Kind: scan.KindBS, ByteSet: [][]byte{poison, set[0]}},
	}
	pass, err := b.passes.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.rotator(rotate.Target{
		Name:   "target",
		Lister: target,
		Writer: target,
		Format: b.format,
		Batch:  3,
	}, pass.Number).Retry(t.Context(), b.passes, pass, &checkpoint.Observer{}); err != nil {
		t.Fatal(err)
	}
	totals, err := b.passes.Totals(t.Context(), pass)
	if err != nil ||
		totals["target"].Slots != (checkpoint.SlotCounts{Seen: 2, Rotated: 1, Failed: 1}) {
		t.Errorf("after the retry: %+v, %v, want the slot that cannot be decrypted still in the "+
			"ledger",
			totals["target"].Slots, err)
	}
}

// TestRetryIsInterrupted: a retry that is interrupted reports this, and does not change the
// ledger.
func TestRetryIsInterrupted(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	target := newMemory()
	for i := range 40 {
		target.put(fmt.Sprintf("item-%02d", i), []byte("poison"))
	}
	b := &testPass{
		cloud:  cloud,
		keys:   cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}}),
		format: format(t, nil, nil),
		target: target,
		store:  checkpoint.NewMemory(),
	}
	if _, err := b.run(t); err != nil {
		t.Fatal(err)
	}
	pass, err := b.passes.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = b.rotator(rotate.Target{
		Name:   "target",
		Lister: target,
		Writer: target,
		Format: b.format,
		Batch:  3,
	}, pass.Number).Retry(ctx, b.passes, pass, &checkpoint.Observer{})
	if got := stopKind(t, err); got != retry.StopInterrupted {
		t.Errorf("stopped for %q (%v), want %q", got, err, retry.StopInterrupted)
	}
	totals, err := b.passes.Totals(t.Context(), pass)
	if err != nil || totals["target"].Slots.Failed != 40 {
		t.Errorf("after the interruption: %+v, %v", totals["target"].Slots, err)
	}
}

// TestRetrySharesTheRate: retries and a run that work on the same pass at the same time share the
// rate. From the first
// request of the second process on, the requests of each second stay within the rate. Together
// the processes leave no slot undone and process no slot twice.
func TestRetrySharesTheRate(t *testing.T) {
	// latencies is the number of requests that can be late by the latency of a response.
	const rate, latencies = 50, 6
	synctest.Test(t, func(t *testing.T) {
		u := newUniverse(sweepExact)
		u.addItems(1500)
		h := newHistory(t, u, true)
		denied, ctx := h.process(t.Context(), "denied")
		denied.denied = true
		time.AfterFunc(12*time.Second, denied.cancel)
		if pass, err := h.run(ctx, denied); pass.Status != checkpoint.Running {
			t.Fatalf("the run that fills a part of the ledger: pass %s, %v",
				pass.Status, err)
		}
		h.rate = rate
		began := time.Since(u.began)
		var group sync.WaitGroup
		for i, work := range []func(context.Context, *simProcess) (checkpoint.Pass, error){h.run,
			h.retry, h.retry} {
			group.Go(func() {
				time.Sleep(time.Duration(i) * 4 * time.Second)
				p, ctx := h.process(t.Context(), fmt.Sprint("worker-", i))
				p.machine = i
				defer p.cancel()
				if _, err := work(ctx, p); err != nil {
					t.Errorf("worker %d: %v", i, err)
				}
			})
		}
		group.Wait()
		times, by := u.requestTimes(began)
		for i, at := range times {
			n, _ := slices.BinarySearch(times, at+time.Second)
			if n-i > rate+latencies {
				t.Fatalf("%d requests in the second from %s on at a rate of %d", n-i, at, rate)
			}
		}
		if min(by["worker-0"], by["worker-1"], by["worker-2"]) < 100 {
			t.Errorf("the processes sent %v requests: not all of them had work", by)
		}
		counts := h.checkCounts(t, h.retryLedger(t, "heir"))
		got, want := counts.Slots, u.outcomes()
		// a slot that one retry moved is current for the other
		got.Rotated, got.Current = got.Rotated+got.Current, 0
		want.Rotated, want.Current = want.Rotated+want.Current, 0
		if got != want {
			t.Errorf("counts %+v, want %+v", counts.Slots, want)
		}
		for _, broken := range u.check(true) {
			t.Error(broken)
		}
	})
}

// addItems adds n items under the old key.
func (u *universe) addItems(n int) {
	for i := range n {
		more := &simItem{
			name:  fmt.Sprintf("more-%04d", i),
			owner: fmt.Sprintf("more-%04d", i),
			part:  i % simPartitions,
		}
		u.store(more, oldKey, fmt.Sprintf("plaintext %d more", i))
		u.items = append(u.items, more)
	}
}

// TestRetrySavesHalfAChunk: a retry that receives a stop signal in the middle of a chunk saves
// the finished slots and does not change the other entries of the chunk.
func TestRetrySavesHalfAChunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUniverse(sweepExact)
		u.addItems(200)
		h := newHistory(t, u, false)
		denied, ctx := h.process(t.Context(), "denied")
		denied.denied = true
		if pass, err := h.run(ctx, denied); err != nil || pass.Status != checkpoint.Finished {
			t.Fatalf("the run that fills the ledger: pass %s, %v", pass.Status, err)
		}
		for i := range 3 {
			h.rate = 10
			p, ctx := h.process(t.Context(), fmt.Sprint("stopped-", i))
			time.AfterFunc(2*time.Second, p.cancel)
			pass, err := h.retry(ctx, p)
			if got := stopKind(t, err); got != retry.StopInterrupted {
				t.Errorf("stopped for %q (%v)", got, err)
			}
			moved := int64(0)
			for _, item := range u.items {
				if c, ok := open(item.slot); ok && c.Key == newKey && item.key == oldKey {
					moved++
				}
			}
			if counts := h.checkCounts(t, pass); counts.Slots.Rotated != moved || moved < 10 ||
				moved > 100 {
				t.Errorf("%d slots were moved, but the saved counts are %+v", moved, counts.Slots)
			}
		}
		h.rate = 1e5
		if counts := h.checkCounts(t, h.retryLedger(t, "heir")); counts.Slots != u.outcomes() {
			t.Errorf("counts %+v, want %+v", counts.Slots, u.outcomes())
		}
	})
}

// requestTimes returns the times of the requests to KMS after since, and the number of requests by
// process.
func (u *universe) requestTimes(since time.Duration) (times []time.Duration, by map[string]int) {
	by = map[string]int{}
	for _, line := range u.trace {
		var at time.Duration
		var who, what string
		if _, err := fmt.Sscan(line, &at, &who, &what); err == nil && what == "reencrypt" &&
			at > since {
			times = append(times, at)
			by[who]++
		}
	}
	slices.Sort(times)
	return times, by
}
