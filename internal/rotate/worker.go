package rotate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"rotator/internal/awserr"
	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/contentdigest"
	"rotator/internal/flowcontrol"
	"rotator/internal/reencrypt"
	"rotator/internal/retry"
	"rotator/internal/scan"
)

// maxConflicts is the maximum number of times that an item is decided again because another
// writer changed it. After that, its slots have the outcome Conflict.
const maxConflicts = 5

// task is the work on one item, from the page to the outcomes of its slots.
type task struct {
	item     scan.Item
	slots    []ciphertext.Slot
	verdicts []reencrypt.Verdict // of the slots, by index
	payload  scan.Payload        // the new content; nil if there is nothing to write
	audits   []auditMarks        // of the slots that the format found
	// known holds the verdicts so far, so that each slot is decided once.
	known smallMap[reencrypt.SlotID, *reencrypt.Verdict]
	// intended holds the digests of the new blobs in the intents of the audit log.
	intended smallMap[string, bool]
	changes  int // number of times that another writer had changed the item
	written  bool
	// recovered is true if an earlier process of the pass wrote the item.
	recovered bool
	// own is true if the item is a file of rotator itself.
	own bool
	// noted is true once its slots are counted for an early stop. failed is the number of
	// these slots that failed.
	noted  bool
	failed int64
	// unread is true if the item could not be read. Its only slot then stands for all slots
	// that the item may have.
	unread bool
	// busy is true if the store refused the last write because of contention at this item.
	busy   bool
	misses []miss // of the item as last read
	// search counts what was and was not searched in the item as last read.
	search checkpoint.SearchCounts
	// named is the number of slots that the format found. Later slots were found
	// by the search and are never written.
	named int
	// content is the content digest of the item; nil if there is none.
	content *contentdigest.Entry
}

// release returns the memory budget of the item and drops its content.
func (t *task) release() {
	if t.item.Release != nil {
		t.item.Release()
	}
	t.item, t.payload = scan.Item{Ref: t.item.Ref}, nil
}

// moves reports whether the item must still be written.
func (t *task) moves() bool { return t.payload != nil }

// guards returns the values of the item on which the moved slots depend, except those that the
// write replaces. The condition of the write includes them.
func (t *task) guards(target *Target) []scan.Guard {
	moves := func(i int) bool { return t.verdicts[i].Moves() }
	return target.Format.Guards(t.item, t.slots[:t.named], moves)
}

// auditMarks are the computed values for the audit log of one slot. Empty values are not
// computed yet.
type auditMarks struct {
	before, after string // digests of the blob of the slot and of its new blob
	binding       string // Record.Binding
}

// worker processes one chunk of items. It is used by one goroutine.
type worker struct {
	decisions *reencrypt.Stack
	keys      reencrypt.Keys
	searcher  *reencrypt.Searcher // nil: nothing is searched
	early     *early
	sweep     *sweep
	digests   bool // compute content digests
	retry     *retry.Retrier
	recorder  Recorder
	pass      int
	identity  string                  // of the pass
	targets   map[string]*targetState // by target
	proofs    map[string]*proof       // by target
	after     time.Duration           // longest Retry-After of the last write
	permit    flowcontrol.Permit      // of the job; the zero Permit in a retry
	held      retry.HeldError         // of the last write; nil if it was sent
	// writeCtx ends graceTime after the run was asked to stop. Until then, writes in flight
	// can finish, so that their results are known.
	writeCtx context.Context
}

// process works on items of one page until every slot has an outcome. If it returns an error,
// the page stays unfinished and is read again. If the error is a shutdown or an early stop,
// process first writes the items that are already decided, so that no answer of KMS is lost.
// It returns the memory budget of all items.
func (w *worker) process(ctx context.Context, target *Target, items []scan.Item) ([]*task, error) {
	var tasks []*task
	var cause error
	for _, item := range items {
		t := &task{item: item}
		defer t.release()
		if cause = w.prepare(ctx, target, t); cause != nil {
			break
		}
		if cause = w.digestContent(ctx, target, t); cause != nil {
			break
		}
		tasks = append(tasks, t)
		if cause = w.early.countTried(target.Name, t); cause != nil {
			break
		}
	}
	if target.Writer == nil {
		return tasks, cause
	}
	if cause != nil && retry.Classify(cause) != retry.KindStopped && !stopsEarly(cause) {
		return nil, cause
	}
	if err := w.write(target, tasks); err != nil {
		return nil, err
	}
	return tasks, cause
}

// prepare loads the item if the page does not contain its content, and decides its slots.
func (w *worker) prepare(ctx context.Context, target *Target, t *task) error {
	if t.item.Payload == nil {
		item, err := w.load(ctx, target, t.item.Ref)
		if err != nil {
			return w.unloadable(t, target, err)
		}
		t.item = item
	}
	return w.decide(ctx, target, t)
}

func (w *worker) load(
	ctx context.Context, target *Target, ref scan.Ref,
) (item scan.Item, err error) {
	refused := false
	err = w.retry.Do(ctx, w.permit, retry.Reading, target.Name, func(ctx context.Context) error {
		if refused {
			w.checkAccess(ctx, target)
		}
		failed := w.targets[target.Name].reading.read(ctx, w.permit, func() error {
			item, err = target.Lister.Load(ctx, ref)
			return err
		})
		refused = awserr.Code(failed) == retry.CodeSignature
		return failed
	})
	if class := retry.Classify(err); class == retry.KindNone || class == retry.KindGone ||
		class == retry.KindRefused {
		w.targets[target.Name].reading.denials.Reset()
	}
	return item, err
}

// checkAccess sends a request that names no item, if the lister has one, after the signature of
// a request for an item was refused. If it succeeds, the credentials are valid. A single worker
// has no other request that would show this.
func (w *worker) checkAccess(ctx context.Context, target *Target) {
	lister, ok := target.Lister.(interface{ CheckAccess(context.Context) error })
	if !ok {
		return
	}
	err := w.targets[target.Name].reading.read(ctx, w.permit, func() error {
		return lister.CheckAccess(ctx)
	})
	if err == nil {
		w.retry.Accept(target.Name, time.Now())
	}
}

// unloadable sets the outcome of the slots of an item that cannot be read. If the slots of the
// item are not known, the item counts as one slot.
func (w *worker) unloadable(t *task, target *Target, err error) error {
	if len(t.slots) == 0 {
		t.slots, t.verdicts, t.unread = []ciphertext.Slot{{}}, []reencrypt.Verdict{{}}, true
	}
	t.payload = nil
	if retry.Stopped(err) {
		return err
	}
	d := w.decideError(target, retry.Event{
		Operation: retry.Reading,
		Kind:      retry.Classify(err),
		Failures:  retry.MaxAttempts, // load has made all attempts
	})
	switch d.Do {
	case retry.ItemGone:
		w.setAll(t, reencrypt.Verdict{Outcome: reencrypt.Gone})
		return nil
	case retry.Stop:
		return stopFor(target, "read", err, d)
	}
	reason, detail := retry.ReasonOf(err)
	for i, v := range t.verdicts {
		if v.Moves() {
			t.verdicts[i] = reencrypt.Verdict{
				Outcome: reencrypt.Failed,
				Key:     v.Key,
				Reason:  reason,
				Detail:  detail,
			}
		}
	}
	return nil
}

// decideError calls Decide and counts denials. An item that the store has encrypted under a key
// that cannot be used counts as a denial.
func (w *worker) decideError(target *Target, e retry.Event) retry.Decision {
	switch {
	case e.Kind != retry.KindDenied && e.Kind != retry.KindKeyState:
		return retry.Decide(e)
	case e.Operation == retry.Writing:
		return w.targets[target.Name].writing.denials.Add(retry.Writing)
	}
	return w.targets[target.Name].reading.denials.Add(e.Operation)
}

// stopFor returns the error that ends the run after an error of a target. doing is the
// operation, for the message.
func stopFor(target *Target, doing string, err error, d retry.Decision) error {
	if d.Stop == retry.StopInterrupted || retry.Stopped(err) {
		return err
	}
	return &retry.StopError{
		Kind: d.Stop,
		What: fmt.Sprintf("%s target %s", doing, target.Name),
		Err:  err,
	}
}

func (w *worker) setAll(t *task, v reencrypt.Verdict) {
	for i := range t.verdicts {
		t.verdicts[i] = v
	}
}

// decide finds the slots of the item and decides each of them. Then it searches the item for
// ciphertexts outside all slots.
func (w *worker) decide(ctx context.Context, target *Target, t *task) error {
	if t.own = target.Own != nil && target.Own(t.item); t.own {
		t.slots, t.verdicts, t.misses, t.payload = nil, nil, nil, nil
		t.search = checkpoint.SearchCounts{}
		return nil
	}
	if err := w.decideSlots(ctx, target, t); err != nil {
		return err
	}
	return w.search(ctx, target, t)
}

func (w *worker) decideSlots(ctx context.Context, target *Target, t *task) error {
	t.slots = target.Format.Find(t.item)
	t.misses = w.proofs[target.Name].misses(t.item, t.slots)
	t.named = len(t.slots)
	t.verdicts = make([]reencrypt.Verdict, len(t.slots))
	blobs := make([][]byte, len(t.slots))
	moving := false
	t.audits = make([]auditMarks, len(t.slots))
	for i := range t.slots {
		v, err := w.decideFirst(ctx, target, t, i)
		if err != nil {
			return err
		}
		t.verdicts[i] = v
		if v.Moves() {
			blobs[i], moving = v.Blob, true
		}
	}
	t.payload, t.noted = nil, true
	if !moving {
		return nil
	}
	if err := w.splice(target, t, blobs); err != nil {
		w.failMoves(t, reencrypt.Verdict{
			Outcome: reencrypt.Failed,
			Reason:  "cannot-splice",
			Detail:  err.Error(),
		})
	}
	return nil
}

// splice sets the payload of the task to the content with the new blobs. blobs[i] is the new
// blob of slot i, or nil. If the new blob of a slot cannot replace the old one, only this slot
// fails.
func (w *worker) splice(target *Target, t *task, blobs [][]byte) error {
	payload, err := target.Format.Splice(t.item, blobs)
	var spliceErr *ciphertext.SpliceError
	if errors.As(err, &spliceErr) {
		for _, s := range spliceErr.Failures {
			t.verdicts[s.Index] = reencrypt.Verdict{
				Outcome: reencrypt.Failed,
				Key:     t.verdicts[s.Index].Key,
				Reason:  s.Refused.Reason,
				Detail:  s.Refused.Detail,
			}
			blobs[s.Index] = nil
		}
		if !slices.ContainsFunc(t.verdicts, reencrypt.Verdict.Moves) {
			return nil
		}
		payload, err = target.Format.Splice(t.item, blobs)
	}
	if err == nil {
		t.payload = payload
	}
	return err
}

// decideOnce decides slot i of an item. It stores verdicts, so a slot that has not changed is
// decided and re-encrypted once.
func (w *worker) decideOnce(
	ctx context.Context, target *Target, t *task, i int,
) (reencrypt.Verdict, error) {
	slot := t.slots[i]
	id := reencrypt.IDOf(slot)
	if v, ok := t.known.get(id); ok && slot.Refused == nil {
		return *v, nil
	}
	before := digest(slot.Blob)
	t.audits[i].before = before
	v, ok, err := w.recover(ctx, target, t, slot, before)
	if !ok && err == nil {
		subject := reencrypt.NewSubject(target.Name, target.Writer == nil, t.item.Ref, slot, id)
		v, err = w.decisions.Decide(ctx, subject)
	}
	if err == nil {
		t.known.set(id, &v)
	}
	return v, err
}

// failMoves replaces the verdicts of all slots that would move with v. The item is not written.
func (w *worker) failMoves(t *task, v reencrypt.Verdict) {
	for i := range t.verdicts {
		if t.verdicts[i].Moves() {
			v.Key = t.verdicts[i].Key
			t.verdicts[i] = v
		}
	}
	t.payload = nil
}

// write writes the items that have a slot to move. It repeats this until each of them is written
// or its slots have another outcome.
func (w *worker) write(target *Target, tasks []*task) error {
	pending := onlyMoving(tasks)
	began := time.Now()
	for n := 0; len(pending) > 0; n++ {
		if stop := w.decisions.Broken(); stop != nil {
			return stop
		}
		if err := w.intend(target, pending); err != nil {
			return err
		}
		slow, err := w.replace(target, pending, time.Since(began))
		if err != nil {
			return err
		}
		before := len(pending)
		pending = onlyMoving(pending)
		if len(pending) == 0 || slow == retry.KindNone {
			continue
		}
		if len(pending) < before {
			began = time.Now()
		}
		if err := w.waitToRetry(pending, slow, n, w.retry.MaxOutage-time.Since(began)); err != nil {
			return err
		}
	}
	return nil
}

// waitToRetry waits before the next attempt to write. During an outage it waits for the end of the
// outage, but at most for limit. Otherwise the delay grows with n.
func (w *worker) waitToRetry(
	pending []*task, slow retry.ErrorKind, n int, limit time.Duration,
) error {
	held := w.held
	if held == nil {
		return w.pause(w.writeCtx, pending, slow, w.after+w.retry.PauseFor(n, slow))
	}
	return w.permit.ReleaseWhile(func() error {
		return held.Await(w.writeCtx, limit+time.Millisecond)
	})
}

// pause waits before the next attempt. A job that holds memory budget must not wait for a
// permit, because jobs with a permit may be waiting for memory.
func (w *worker) pause(
	ctx context.Context, pending []*task, slow retry.ErrorKind, d time.Duration,
) error {
	hasBudget := slices.ContainsFunc(pending, func(t *task) bool { return t.item.Release != nil })
	if slow == retry.KindBusy && !hasBudget {
		return w.permit.BackOff(ctx, d)
	}
	return w.permit.ReleaseWhile(func() error { return flowcontrol.Sleep(ctx, d) })
}

// replace writes each item once, through the limiter, and processes the results. slow is the
// kind of an error after which the caller must wait before the next attempt, or KindNone.
// since is the time for which no item of pending could be finished.
func (w *worker) replace(
	target *Target, pending []*task, since time.Duration,
) (slow retry.ErrorKind, err error) {
	limiter := w.targets[target.Name].writing.limiter
	if err := w.permit.WaitN(w.writeCtx, limiter, len(pending)); err != nil {
		return retry.KindNone, err
	}
	changes := make([]scan.Change, len(pending))
	for i, t := range pending {
		changes[i] = scan.Change{
			Item:      t.item,
			New:       t.payload,
			Guards:    t.guards(target),
			Unbatched: t.busy,
		}
	}
	results := target.Writer.Replace(w.writeCtx, changes)
	w.after = 0
	w.held = nil
	if err := w.recordWritten(target, pending, results); err != nil {
		return retry.KindNone, err
	}
	for i, result := range results {
		limiter.Observe(retry.ResponseTo(result.Err), awserr.RetryAfter(result.Err))
		w.after = max(w.after, awserr.RetryAfter(result.Err))
		if held := retry.HeldOf(result.Err); held != nil {
			w.held = held
		}
		class, err := w.settle(target, pending[i], result, since)
		if err != nil {
			return class, err
		}
		if class != retry.KindNone && class != retry.KindChanged {
			slow = class
		}
		pending[i].busy = class == retry.KindBusy
	}
	return slow, nil
}

func onlyMoving(tasks []*task) []*task {
	var moving []*task
	for _, t := range tasks {
		if t.moves() {
			moving = append(moving, t)
		}
	}
	return moving
}

// settle processes the result of one write and returns the kind of its error. since is the time
// for which no item of the chunk could be finished. If the item must be written again, t.moves
// is still true afterwards.
func (w *worker) settle(
	target *Target, t *task, result scan.Result, since time.Duration,
) (retry.ErrorKind, error) {
	class := retry.Classify(result.Err)
	if class == retry.KindNone {
		return class, nil // recordWritten has set the verdicts
	}
	d := w.decideError(target, retry.Event{
		Operation:   retry.Writing,
		Kind:        class,
		Unanswered:  since,
		MaxOutage:   w.retry.MaxOutage,
		UnusableFor: since,
		Settle:      w.retry.Settle,
	})
	switch d.Do {
	case retry.Again, retry.Slower:
		return class, nil
	case retry.ItemGone:
		w.setAll(t, reencrypt.Verdict{Outcome: reencrypt.Gone})
		t.payload = nil
		return class, nil
	case retry.ReadAgain: // the write was refused, or its result is unknown
		if class == retry.KindChanged {
			t.changes++
		}
		return class, w.reconcile(target, t, result.Current)
	case retry.Stop:
		if d.Stop == retry.StopUnavailable {
			return class, retry.Unavailable(target.Name, w.retry.MaxOutage, result.Err)
		}
		return class, stopFor(target, "write to", result.Err, d)
	}
	reason, detail := retry.ReasonOf(result.Err)
	w.failMoves(t, reencrypt.Verdict{Outcome: reencrypt.Failed, Reason: reason, Detail: detail})
	return class, nil
}

// reconcile compares the current item with the write, after the write was refused or its
// result is unknown. If the item contains the new blobs, the write was applied. Other slots are
// decided again.
func (w *worker) reconcile(target *Target, t *task, now *scan.Item) error {
	if now == nil {
		t.release() // a job must not wait for memory budget while it holds some
		item, err := w.load(w.writeCtx, target, t.item.Ref)
		if err != nil {
			return w.unloadable(t, target, err)
		}
		now = &item
	}
	err := w.adoptLostWrites(target, t, *now)
	t.item = *now
	if err != nil {
		return err
	}
	if err := w.decide(w.writeCtx, target, t); err != nil || t.changes <= maxConflicts {
		return err
	}
	if t.moves() {
		w.failMoves(t, reencrypt.Verdict{
			Outcome: reencrypt.Conflict,
			Reason:  reencrypt.ReasonKept,
			Detail: fmt.Sprintf("other writers changed the item %d times while it was being "+
				"moved; the last value of another writer was kept", t.changes),
		})
	}
	return nil
}

// intend records in the audit log that the new blobs are about to be written. Each blob is
// recorded once.
func (w *worker) intend(target *Target, tasks []*task) error {
	var records []Record
	for _, t := range tasks {
		for i, v := range t.verdicts {
			if !v.Moves() {
				continue
			}
			record := w.record(target, t, i)
			if _, ok := t.intended.get(record.After); !ok {
				t.intended.set(record.After, true)
				records = append(records, record)
			}
		}
	}
	if len(records) == 0 {
		return nil
	}
	stamp(records)
	return auditError(w.recorder.Intend(records))
}

// adoptLostWrites looks for the new blobs of the task in now, the current item. A slot with its
// new blob was written, although the response to the write was lost. It is recorded as rotated,
// and KMS is not asked about it again.
func (w *worker) adoptLostWrites(target *Target, t *task, now scan.Item) error {
	var written, there []mark
	var moving []int // index of the slot of each element of written
	for i, v := range t.verdicts {
		if v.Moves() {
			written = append(written, mark{string(v.Blob), t.slots[i].Path})
			moving = append(moving, i)
		}
	}
	slots := target.Format.Find(now)
	for _, s := range slots {
		there = append(there, mark{string(s.Blob), s.Path})
	}
	var records []Record
	for n, at := range match(written, there, byBoth, byBlob) {
		if at < 0 {
			continue
		}
		i := moving[n]
		records = append(records, w.record(target, t, i))
		t.written = true
		// If the slot now has another context, KMS must be asked again.
		if maps.Equal(slots[at].DestinationContext, t.slots[i].DestinationContext) {
			t.known.set(reencrypt.IDOf(slots[at]), &reencrypt.Verdict{
				Outcome: reencrypt.Rotated,
				Key:     t.verdicts[i].Key,
			})
		}
	}
	return w.recordAll(records)
}

// recordWritten sets the outcome of the moved slots of all written items to Rotated, and
// records each of these slots in the audit log.
func (w *worker) recordWritten(target *Target, tasks []*task, results []scan.Result) error {
	var records []Record
	for n, t := range tasks {
		if retry.Classify(results[n].Err) != retry.KindNone {
			continue
		}
		w.targets[target.Name].writing.denials.Reset()
		for i, v := range t.verdicts {
			if v.Moves() {
				records = append(records, w.record(target, t, i))
				t.verdicts[i] = reencrypt.Verdict{Outcome: reencrypt.Rotated, Key: v.Key}
			}
		}
		t.payload, t.written = nil, true
	}
	return w.recordAll(records)
}

// record returns the record of a slot, without the time.
func (w *worker) record(target *Target, t *task, i int) Record {
	slot, v, marks := t.slots[i], t.verdicts[i], &t.audits[i]
	if marks.before == "" {
		marks.before = digest(slot.Blob)
	}
	if marks.after == "" {
		marks.after = digest(v.Blob)
	}
	r := Record{
		Pass:    w.pass,
		Target:  target.Name,
		Ref:     t.item.Ref,
		Path:    reencrypt.Clip(slot.Path),
		From:    v.Key,
		To:      w.keys.Destination.ARN,
		Before:  marks.before,
		After:   marks.after,
		Binding: marks.binding,
		Origin:  v.Origin,
	}
	if r.Binding == "" {
		r.Binding = w.bind(r, slot)
		marks.binding = r.Binding
	}
	return r
}

func (w *worker) recordAll(records []Record) error {
	if len(records) == 0 {
		return nil
	}
	stamp(records)
	return auditError(w.recorder.Record(records))
}

// stamp sets the time of all records of one call to the same value, so that the audit log can
// store it once.
func stamp(records []Record) {
	now := time.Now().UTC()
	for i := range records {
		records[i].At = now
	}
}

func auditError(err error) error {
	if err != nil {
		return &retry.StopError{Kind: retry.StopStorage, What: "write the audit log", Err: err}
	}
	return nil
}

func digest(blob []byte) string {
	sum := sha256.Sum256(blob)
	return hexOf(sum)
}

// hexOf is hex.EncodeToString with one allocation instead of two.
func hexOf(sum [sha256.Size]byte) string {
	var text [2 * sha256.Size]byte
	hex.Encode(text[:], sum[:])
	return string(text[:])
}
