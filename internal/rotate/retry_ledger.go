package rotate

import (
	"context"
	"errors"
	"slices"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/flowcontrol"
	"rotator/internal/reencrypt"
	"rotator/internal/retry"
	"rotator/internal/scan"
)

// Retry tries every slot in the ledger of a pass once more. A slot with a new outcome leaves
// the ledger, and the counts of the pass change accordingly; each chunk saves both in one
// step. Retry shares the rate with the other processes of the pass, which observer reports. It
// calls observer.Leave before it returns. Every error is a *retry.StopError.
func (r *Rotator) Retry(
	ctx context.Context, passes *checkpoint.Passes, pass checkpoint.Pass,
	observer *checkpoint.Observer,
) error {
	return r.RetryWhere(ctx, passes, pass, observer,
		func(checkpoint.LedgerEntry) bool { return true })
}

// RetryWhere is like Retry, but only for items with a ledger entry for which which returns true.
func (r *Rotator) RetryWhere(
	ctx context.Context, passes *checkpoint.Passes, pass checkpoint.Pass,
	observer *checkpoint.Observer, which func(checkpoint.LedgerEntry) bool,
) error {
	r.early.turnOff()
	r.decisions.DisableHints() // ledger entries require answers of KMS
	observer.OnShare(r.divide)
	life, release := shutdownPhases(ctx)
	defer release()
	var heartbeats errgroup.Group
	done := make(chan struct{})
	defer r.watchThrottling()()
	heartbeats.Go(func() error {
		if err := observer.Run(life.write, done); err != nil {
			life.stop(storeError(err))
		}
		return nil
	})
	err := r.retryLedger(life, passes, pass, observer, which)
	close(done)
	_ = heartbeats.Wait() // errors went to life.stop
	if left := observer.Leave(life.write); left != nil {
		r.logger.Warn("other runs share the rate with this retry until its lease expires",
			zap.Error(left))
	}
	return r.exitReason(ctx, life, err)
}

// retryLedger retries the ledger chunk by chunk until the run must stop. The error is that of
// reading or saving a chunk.
func (r *Rotator) retryLedger(
	life *phases, passes *checkpoint.Passes, pass checkpoint.Pass,
	observer *checkpoint.Observer, which func(checkpoint.LedgerEntry) bool,
) error {
	if err := observer.Ready(life.scan); err != nil {
		if life.scan.Err() == nil {
			life.stop(storeError(err))
		}
		return nil
	}
	for chunk, err := range passes.Ledger(life.write, pass) {
		switch {
		case err != nil:
			return err
		case life.scan.Err() != nil:
			return nil
		}
		if err := r.settleChunk(life, passes, chunk, which); err != nil {
			return err
		}
	}
	return nil
}

// settleChunk retries the entries of a chunk and saves the chunk. If another process changed the
// chunk in the meantime, it reads the chunk again and retries the remaining entries.
func (r *Rotator) settleChunk(
	life *phases, passes *checkpoint.Passes, chunk checkpoint.Chunk,
	which func(checkpoint.LedgerEntry) bool,
) error {
	for r.retryChunk(life, &chunk, which) {
		if err := r.config.Recorder.Sync(); err != nil {
			return &retry.StopError{Kind: retry.StopStorage, What: "sync the audit log", Err: err}
		}
		err := passes.ReplaceChunk(life.write, chunk)
		if !errors.Is(err, checkpoint.ErrFenced) {
			return err
		}
		if chunk, err = passes.Reread(life.write, chunk); err != nil {
			return err
		}
	}
	return nil
}

// retryChunk retries the items of the entries of a chunk and updates the chunk. tried is false if
// there is nothing to save. If the run must stop, entries that are not finished stay unchanged.
func (r *Rotator) retryChunk(
	life *phases, chunk *checkpoint.Chunk, which func(checkpoint.LedgerEntry) bool,
) (tried bool) {
	byItem := map[string][]checkpoint.LedgerEntry{}
	var order []string
	for _, e := range chunk.Entries {
		id := e.Target + "\x00" + e.Ref
		if byItem[id] == nil {
			order = append(order, id)
		}
		byItem[id] = append(byItem[id], e)
	}
	var mu sync.Mutex
	kept := map[string][]checkpoint.LedgerEntry{}
	var pool errgroup.Group
	pool.SetLimit(r.workers())
	for _, id := range order {
		pool.Go(func() error {
			entries := byItem[id]
			var t *task
			if slices.ContainsFunc(entries, which) {
				t = r.retryItem(life, entries[0])
			}
			mu.Lock()
			defer mu.Unlock()
			if kept[id] = entries; t != nil {
				kept[id], tried = r.settleEntries(&chunk.Adjust, entries, t), true
				if err := r.early.countWritten(entries[0].Target, t); err != nil {
					life.stop(err)
				}
			}
			return nil
		})
	}
	_ = pool.Wait() // errors went to life.stop
	chunk.Entries = nil
	for _, id := range order {
		chunk.Entries = append(chunk.Entries, kept[id]...)
	}
	return tried
}

// retryItem processes one item of the ledger like an item of a page. It returns nil if the run
// must stop.
func (r *Rotator) retryItem(life *phases, e checkpoint.LedgerEntry) *task {
	if life.scan.Err() != nil {
		return nil
	}
	i := slices.IndexFunc(r.config.Targets, func(t Target) bool { return t.Name == e.Target })
	if i < 0 {
		life.stop(&retry.StopError{
			Kind: retry.StopJob,
			What: "the ledger contains target " + e.Target + ", which is not in the job file",
		})
		return nil
	}
	tasks, err := r.worker(life, flowcontrol.Permit{}).process(
		life.work, &r.config.Targets[i], []scan.Item{{Ref: scan.Ref(e.Ref)}})
	if err != nil {
		life.stop(err)
		return nil
	}
	return tasks[0]
}

// settleEntries compares the entries of one item with the new outcomes of its slots. It adds the
// change of the counts to adjust and returns the entries that stay in the ledger.
func (r *Rotator) settleEntries(
	adjust *checkpoint.Counts, entries []checkpoint.LedgerEntry, t *task,
) (kept []checkpoint.LedgerEntry) {
	slotIndexes, written := t.slotIndexes(entries), t.written
	for i, old := range entries {
		var before, after checkpoint.Counts
		was := reencrypt.Verdict{
			Outcome: reencrypt.Outcome(old.Outcome),
			Key:     old.Key,
			Reason:  old.Reason,
			Header:  old.ByHeader,
		}
		countAs(&before, was, old.Origin)
		if old.Unread && !t.unread { // its rules were not counted while it was unreadable
			rules := newRuleCounts(r.proofs[old.Target])
			rules.add(t)
			rules.into(&after)
		}
		slots, verdicts := t.replacements(old, slotIndexes[i])
		for i, now := range verdicts {
			origin := r.count(&after, slots[i], now)
			countStaleKey(&after, old.Target, scan.Ref(old.Ref), slots[i], now)
			r.countGood(&after, old.Target, slots[i], now)
			// An earlier process can have written the item without saving this.
			written = written || now.Outcome == reencrypt.Rotated
			if now.Excepted() {
				e := entry(old.Target, scan.Ref(old.Ref), slots[i], now)
				e.Attempts, e.Origin, e.Unread = old.Attempts+1, origin, old.Unread && t.unread
				e.HeaderKey = r.headerKeyOf(slots[i], now)
				kept = append(kept, e)
			}
		}
		adjust.Subtract(before)
		adjust.Add(after)
	}
	if written {
		adjust.Items.Written++
	}
	return kept
}

// countGood counts a slot that a retry moved or found current as a success of its rule.
func (r *Rotator) countGood(
	counts *checkpoint.Counts, target string, slot ciphertext.Slot, v reencrypt.Verdict,
) {
	p := r.proofs[target]
	if p == nil || !v.Fits() || slot.Rule < 0 || slot.Rule >= len(p.rules) {
		return
	}
	if rule := p.rules[slot.Rule]; !rule.Optional {
		counts.AddRule(rule.Name, checkpoint.RuleCounts{Good: 1})
	}
}

// slotIndexes returns the index of the slot of each entry, or -1 if the item no longer has the
// slot.
func (t *task) slotIndexes(entries []checkpoint.LedgerEntry) []int {
	var wanted, there []mark
	for _, old := range entries {
		wanted = append(wanted, mark{old.Blob, old.Path})
	}
	for _, s := range t.slots {
		m := mark{path: reencrypt.Clip(s.Path)}
		if len(s.Blob) > 0 {
			m.blob = digest(s.Blob)
		}
		there = append(there, m)
	}
	return match(wanted, there, byBoth, byBlob, byPath)
}

// replacements returns the slots and verdicts that replace a ledger entry. slotIndex is the index
// of the slot of the entry. If the item could not be read before but can be read now, all its slots
// replace the entry. If the slot was removed in the meantime, the verdict is Gone.
func (t *task) replacements(
	old checkpoint.LedgerEntry, slotIndex int,
) ([]ciphertext.Slot, []reencrypt.Verdict) {
	switch {
	case t.unread:
		return []ciphertext.Slot{{Path: old.Path}}, t.verdicts[:1]
	case old.Path == "" && old.Blob == "" && len(t.slots) > 0:
		return t.slots, t.verdicts
	case slotIndex >= 0:
		return t.slots[slotIndex : slotIndex+1], t.verdicts[slotIndex : slotIndex+1]
	}
	return []ciphertext.Slot{{Path: old.Path}}, []reencrypt.Verdict{{Outcome: reencrypt.Gone}}
}
