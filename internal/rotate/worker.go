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

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/flowcontrol"
	"rotator/internal/scan"
)

// maxConflicts is how often an item that changed under our hands is decided
// again before its slots are left as conflicts.
const maxConflicts = 5

// task is one item on its way through the engine.
type task struct {
	item     scan.Item
	slots    []ciphertext.Slot
	verdicts []verdict
	payload  scan.Payload                // what to write; nil when nothing moves
	known    handful[question, *verdict] // so that a slot is asked about once
	intended handful[string, bool]       // digests of the blobs that the audit log expects
	changes  int                         // how often the item was found changed
	written  bool
	// recovered is true when an earlier process of the pass wrote the item.
	recovered bool
	// own is true when the item is a file of rotator itself.
	own bool
	// noted is true once its slots are counted for an early stop. failed is the number of
	// these slots that failed.
	noted  bool
	failed int64
	// unread is true when the item could not be read, so that its one slot
	// stands for all it may have.
	unread bool
	// busy is true once the store refused to write the item for its place's sake.
	busy   bool
	misses []miss // of the item as it was read last
	// search counts what was and was not searched in the item as last read.
	search checkpoint.SearchCounts
	// named is the number of slots that the format found. Later slots were found
	// by the search and are never written.
	named int
}

// give gives back the room of the item as it was read, and lets go of its content.
func (t *task) give() {
	if t.item.Release != nil {
		t.item.Release()
	}
	t.item, t.payload = scan.Item{Ref: t.item.Ref}, nil
}

// moves says whether the item is still to be written.
func (t *task) moves() bool { return t.payload != nil }

// guards returns the values on which the moved slots depend, other than those
// that they replace.
func (t *task) guards(target *Target) []scan.Guard {
	moves := func(i int) bool { return t.verdicts[i].moves() }
	return target.Format.Guards(t.item, t.slots[:t.named], moves)
}

// worker takes chunks of items from page to outcome.
type worker struct {
	decider  *decider
	headers  *headers
	shared   *shared   // nil: each slot is asked about
	searcher *searcher // nil: nothing is searched
	early    *early
	sweep    *sweep
	retry    *retrier
	recorder Recorder
	pass     int
	identity string             // of the pass
	sides    map[string]*sides  // by target
	proofs   map[string]*proof  // by target
	after    time.Duration      // time to wait that the service requested after the last write
	permit   flowcontrol.Permit // of the job; the zero Permit in a retry
	held     heldError          // of the last write; nil if it was sent
	// hard outlives the run's own context by the grace period, so that writes
	// in flight end and are known.
	hard context.Context
}

// process works on items of one page until each has an outcome. On an error
// none is reported, and the page stays unfinished; what was already decided is
// still written, so that a drain wastes no request. What the items take of the room
// for bodies is given back in the end.
func (w *worker) process(ctx context.Context, target *Target, items []scan.Item) ([]*task, error) {
	var tasks []*task
	var cause error
	for _, item := range items {
		t := &task{item: item}
		defer t.give()
		if cause = w.prepare(ctx, target, t); cause != nil {
			break
		}
		tasks = append(tasks, t)
		if cause = w.early.tried(target.Name, t); cause != nil {
			break
		}
	}
	if target.Writer == nil {
		return tasks, cause
	}
	if cause != nil && Classify(cause) != ClassStopped && !stopsEarly(cause) {
		return nil, cause
	}
	if err := w.write(target, tasks); err != nil {
		return nil, err
	}
	return tasks, cause
}

// prepare loads the item where the page only listed it, and decides its slots.
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

func (w *worker) load(ctx context.Context, target *Target, ref scan.Ref) (item scan.Item, err error) {
	refused := false
	err = w.retry.do(ctx, w.permit, Reading, target.Name, func(ctx context.Context) error {
		if refused {
			w.checkAccess(ctx, target)
		}
		failed := w.sides[target.Name].reading.read(ctx, w.permit, func() error {
			item, err = target.Lister.Load(ctx, ref)
			return err
		})
		refused = code(failed) == codeSignature
		return failed
	})
	if class := Classify(err); class == ClassNone || class == ClassGone || class == ClassRefused {
		w.sides[target.Name].reading.denials.reset()
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
	err := w.sides[target.Name].reading.read(ctx, w.permit, func() error {
		return lister.CheckAccess(ctx)
	})
	if err == nil {
		w.retry.accept(target.Name, time.Now())
	}
}

// unloadable gives the slots of an item that cannot be read their outcome. An
// item whose slots nobody knows counts as one slot.
func (w *worker) unloadable(t *task, target *Target, err error) error {
	if len(t.slots) == 0 {
		t.slots, t.verdicts, t.unread = []ciphertext.Slot{{}}, []verdict{{}}, true
	}
	t.payload = nil
	if stopped(err) {
		return err
	}
	// It has been tried for as long as there was hope.
	d := w.conclude(target, Event{Doing: Reading, Class: Classify(err), Failures: attemptsTransient})
	switch d.Do {
	case LetGo:
		w.every(t, verdict{outcome: Gone})
		return nil
	case Stop:
		return stopFor(target, "read", err, d)
	}
	reason, detail := reasonOf(err)
	for i, v := range t.verdicts {
		if v.moves() {
			t.verdicts[i] = verdict{outcome: Failed, key: v.key, reason: reason, detail: detail}
		}
	}
	return nil
}

// conclude calls Decide and counts denials. An item that the store has encrypted under a key
// that cannot be used counts as a denial.
func (w *worker) conclude(target *Target, e Event) Decision {
	switch {
	case e.Class != ClassDenied && e.Class != ClassKeyState:
		return Decide(e)
	case e.Doing == Writing:
		return w.sides[target.Name].writing.denials.add(Writing)
	}
	return w.sides[target.Name].reading.denials.add(e.Doing)
}

// stopFor is the error of a source's trouble that ends the run.
func stopFor(target *Target, doing string, err error, d Decision) error {
	if d.Stop == StopInterrupted || stopped(err) {
		return err
	}
	return &StopError{Kind: d.Stop, What: fmt.Sprintf("%s target %s", doing, target.Name), Err: err}
}

func (w *worker) every(t *task, v verdict) {
	for i := range t.verdicts {
		t.verdicts[i] = v
	}
}

// decide finds the slots of the item and decides each of them. It also decides
// ciphertexts that no slot names.
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
	t.verdicts = make([]verdict, len(t.slots))
	blobs := make([][]byte, len(t.slots))
	moving := false
	for i, slot := range t.slots {
		v, err := w.decideFirst(ctx, target, t, slot)
		if err != nil {
			return err
		}
		t.verdicts[i] = v
		if v.moves() {
			blobs[i], moving = v.blob, true
		}
	}
	t.payload, t.noted = nil, true
	if !moving {
		return nil
	}
	if err := w.splice(target, t, blobs); err != nil {
		w.moving(t, verdict{outcome: Failed, reason: "cannot-splice", detail: err.Error()})
	}
	return nil
}

// splice makes the payload to write. A slot whose new blob cannot be written where
// the old one stands fails alone; those beside it still move.
func (w *worker) splice(target *Target, t *task, blobs [][]byte) error {
	payload, err := target.Format.Splice(t.item, blobs)
	var spliceErr *ciphertext.SpliceError
	if errors.As(err, &spliceErr) {
		for _, s := range spliceErr.Failures {
			t.verdicts[s.Index] = verdict{outcome: Failed, key: t.verdicts[s.Index].key, reason: s.Refused.Reason, detail: s.Refused.Detail}
			blobs[s.Index] = nil
		}
		if !slices.ContainsFunc(t.verdicts, verdict.moves) {
			return nil
		}
		payload, err = target.Format.Splice(t.item, blobs)
	}
	if err == nil {
		t.payload = payload
	}
	return err
}

// decideOnce remembers verdicts, so that a slot which did not change is neither
// asked about nor re-encrypted twice.
func (w *worker) decideOnce(ctx context.Context, target *Target, t *task, slot ciphertext.Slot) (verdict, error) {
	q := questionOf(slot)
	if v, ok := t.known.get(q); ok && slot.Refused == nil {
		return *v, nil
	}
	before := digest(slot.Blob)
	v, ok, err := w.recover(ctx, target, t, slot, before)
	if !ok && err == nil {
		v, err = w.find(ctx, newSubject(target, t.item.Ref, slot, q))
	}
	if err == nil {
		v.before = before
		t.known.set(q, &v)
	}
	return v, err
}

// find decides a slot by the header of its blob, or by asking KMS. A check is a request
// of its own.
func (w *worker) find(ctx context.Context, s subject) (verdict, error) {
	told, err := w.headers.hint(ctx, s)
	if err != nil || told.known && !told.check {
		return told.verdict, err
	}
	var said verdict
	if told.check || w.shared == nil {
		said, err = w.decider.decide(ctx, s.slot)
	} else {
		said, err = w.shared.decide(ctx, s.question, s.slot)
	}
	if err != nil {
		return verdict{}, err
	}
	said = said.seenBy(s.look)
	if told.check {
		return said, w.headers.compare(s, told.verdict, said)
	}
	return said, w.headers.learn(s, said)
}

// moving gives the slots that were to move another verdict.
func (w *worker) moving(t *task, v verdict) {
	for i := range t.verdicts {
		if t.verdicts[i].moves() {
			v.key = t.verdicts[i].key
			t.verdicts[i] = v
		}
	}
	t.payload = nil
}

// write replaces the items that have something to move, batch by batch, until
// each is written or has another outcome.
func (w *worker) write(target *Target, tasks []*task) error {
	pending := onlyMoving(tasks)
	began := time.Now()
	for n := 0; len(pending) > 0; n++ {
		if stop := w.decider.broken.Load(); stop != nil {
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
		if len(pending) == 0 || slow == ClassNone {
			continue
		}
		if len(pending) < before {
			began = time.Now()
		}
		if err := w.await(pending, slow, n, w.retry.maxOutage-time.Since(began)); err != nil {
			return err
		}
	}
	return nil
}

// await waits before the next attempt to write. During an outage it waits for the end of the
// outage, but at most for limit. Otherwise the delay grows with n.
func (w *worker) await(pending []*task, slow Class, n int, limit time.Duration) error {
	held := w.held
	if held == nil {
		return w.pause(w.hard, pending, slow, w.after+w.retry.pauseFor(n, slow))
	}
	return w.permit.ReleaseWhile(func() error { return held.Await(w.hard, limit+time.Millisecond) })
}

// pause waits before the next attempt. A job that holds memory budget must not wait for a
// permit, because jobs with a permit may be waiting for memory.
func (w *worker) pause(ctx context.Context, pending []*task, slow Class, d time.Duration) error {
	roomy := slices.ContainsFunc(pending, func(t *task) bool { return t.item.Release != nil })
	if slow == ClassBusy && !roomy {
		return w.permit.BackOff(ctx, d)
	}
	return w.permit.ReleaseWhile(func() error { return flowcontrol.Sleep(ctx, d) })
}

// replace writes items once, through the limiter, and settles what became of each.
// The class is that of an error after which to wait, ClassNone without.
func (w *worker) replace(target *Target, pending []*task, since time.Duration) (slow Class, err error) {
	limiter := w.sides[target.Name].writing.limiter
	if err := w.permit.WaitN(w.hard, limiter, len(pending)); err != nil {
		return ClassNone, err
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
	results := target.Writer.Replace(w.hard, changes)
	w.after = 0
	w.held = nil
	if err := w.landed(target, pending, results); err != nil {
		return ClassNone, err
	}
	for i, result := range results {
		limiter.Observe(responseTo(result.Err), retryAfter(result.Err))
		w.after = max(w.after, retryAfter(result.Err))
		if held := heldOf(result.Err); held != nil {
			w.held = held
		}
		class, err := w.settle(target, pending[i], result, since)
		if err != nil {
			return class, err
		}
		if class != ClassNone && class != ClassChanged {
			slow = class
		}
		pending[i].busy = class == ClassBusy
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

// settle draws the conclusion from one write; since is how long no write of the
// batch has succeeded. The task still moves afterwards when it has to be written
// again.
func (w *worker) settle(target *Target, t *task, result scan.Result, since time.Duration) (Class, error) {
	class := Classify(result.Err)
	if class == ClassNone {
		return class, nil // landed has dealt with it
	}
	d := w.conclude(target, Event{Doing: Writing, Class: class, Silence: since,
		MaxOutage: w.retry.maxOutage, Trouble: since, Settle: w.retry.settle})
	switch d.Do {
	case Again, Slower:
		return class, nil
	case LetGo:
		w.every(t, verdict{outcome: Gone})
		t.payload = nil
		return class, nil
	case ReadAgain: // refused, or nobody knows
		if class == ClassChanged {
			t.changes++
		}
		return class, w.reconcile(target, t, result.Current)
	case Stop:
		if d.Stop == StopUnavailable {
			return class, unavailable(target.Name, w.retry.maxOutage, result.Err)
		}
		return class, stopFor(target, "write to", result.Err, d)
	}
	reason, detail := reasonOf(result.Err)
	w.moving(t, verdict{outcome: Failed, reason: reason, detail: detail})
	return class, nil
}

// reconcile looks at the item as it stands now, after a refused write or one of
// unknown outcome: our own blobs there mean that the write had landed, anything
// else is decided again.
func (w *worker) reconcile(target *Target, t *task, now *scan.Item) error {
	if now == nil {
		t.give() // who waits for room must hold none
		item, err := w.load(w.hard, target, t.item.Ref)
		if err != nil {
			return w.unloadable(t, target, err)
		}
		now = &item
	}
	err := w.claim(target, t, *now)
	t.item = *now
	if err != nil {
		return err
	}
	if err := w.decide(w.hard, target, t); err != nil || t.changes <= maxConflicts {
		return err
	}
	if t.moves() {
		w.moving(t, verdict{outcome: Conflict, reason: reasonKept,
			detail: fmt.Sprintf("the item changed %d times while it was being moved; the last foreign value was kept", t.changes)})
	}
	return nil
}

// intend tells the audit log what is about to be written, once for each blob.
func (w *worker) intend(target *Target, tasks []*task) error {
	var records []Record
	for _, t := range tasks {
		for i, v := range t.verdicts {
			if !v.moves() {
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
	return auditError(w.recorder.Intend(records))
}

// claim finds our own blobs in the item as it stands now. They landed, though
// the answer was lost: they are recorded, and not asked about again.
func (w *worker) claim(target *Target, t *task, now scan.Item) error {
	var written, there []mark
	var moving []int // slots that were to move, in the order of written
	for i, v := range t.verdicts {
		if v.moves() {
			written, moving = append(written, mark{string(v.blob), t.slots[i].Path}), append(moving, i)
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
		// If the item now states another context, KMS must be asked again.
		if maps.Equal(slots[at].DestinationContext, t.slots[i].DestinationContext) {
			t.known.set(questionOf(slots[at]), &verdict{outcome: Rotated, key: t.verdicts[i].key})
		}
	}
	return w.recordAll(records)
}

// landed turns the slots of the items that were written into rotated ones, with a
// line for each in the audit log.
func (w *worker) landed(target *Target, tasks []*task, results []scan.Result) error {
	var records []Record
	for n, t := range tasks {
		if Classify(results[n].Err) != ClassNone {
			continue
		}
		w.sides[target.Name].writing.denials.reset()
		for i, v := range t.verdicts {
			if v.moves() {
				records = append(records, w.record(target, t, i))
				t.verdicts[i] = verdict{outcome: Rotated, key: v.key}
			}
		}
		t.payload, t.written = nil, true
	}
	return w.recordAll(records)
}

func (w *worker) record(target *Target, t *task, i int) Record {
	slot, v := t.slots[i], &t.verdicts[i]
	if v.before == "" {
		v.before = digest(slot.Blob)
	}
	if v.after == "" {
		v.after = digest(v.blob)
	}
	r := Record{
		At:      time.Now().UTC(),
		Pass:    w.pass,
		Target:  target.Name,
		Ref:     t.item.Ref,
		Path:    clip(slot.Path),
		From:    v.key,
		To:      w.decider.keys.Destination.ARN,
		Before:  v.before,
		After:   v.after,
		Binding: v.binding,
	}
	if r.Binding == "" {
		r.Binding = w.bind(r, slot)
		v.binding = r.Binding
	}
	return r
}

func (w *worker) recordAll(records []Record) error {
	if len(records) == 0 {
		return nil
	}
	return auditError(w.recorder.Record(records))
}

func auditError(err error) error {
	if err != nil {
		return &StopError{Kind: StopStorage, What: "write the audit log", Err: err}
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
