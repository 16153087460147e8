package rotate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"rotator/internal/ciphertext"
	"rotator/internal/scan"
)

// Trace is a change that an earlier process of a pass noted in the audit log.
type Trace struct {
	Record Record
	// Written reports whether it was noted as written, and not as intended only.
	Written bool
	// Kept reports whether the checkpoint of the pass vouches for the line: it holds the
	// hash of the line, or of one behind it in the same chain. Other lines are hints.
	Kept bool
}

// recover recognises a slot that an earlier process of this pass wrote before it died,
// and before the page was saved: the audit log has the digest of the very blob that KMS
// returned for it. The log decides only that the slot counts as rotated, and not as
// current. That the slot is where the job wants it rests on the checkpoint, which
// vouches for the line, or else on KMS, which is asked. The slot gets its line in the log
// unless that process wrote it.
func (w *worker) recover(
	ctx context.Context, target *Target, t *task, slot ciphertext.Slot, found string,
) (v verdict, ok bool, err error) {
	if slot.Refused != nil {
		return verdict{}, false, nil
	}
	trace, ok := w.recorder.Find(target.Name, t.item.Ref, found)
	if !ok || trace.Record.After != found || !w.ours(target, t.item.Ref, slot, trace.Record) {
		return verdict{}, false, nil
	}
	if !trace.Kept {
		if ok, err = w.decider.confirm(ctx, slot); err != nil || !ok {
			return verdict{}, false, err
		}
	}
	t.recovered = true
	record := trace.Record
	if !trace.Written {
		record.At, record.Path = time.Now().UTC(), clip(slot.Path) // several slots may share a blob
		err = w.recordAll([]Record{record})
	}
	return verdict{outcome: Rotated, key: record.From}, true, err
}

// ours reports whether a line of the audit log is about this pass, about this item, and
// about a blob with the encryption context that the slot must have.
func (w *worker) ours(target *Target, ref scan.Ref, slot ciphertext.Slot, r Record) bool {
	keys := w.decider.keys
	return r.Binding != "" && r.Binding == w.bind(r, slot) && r.Target == target.Name && r.Ref == ref &&
		r.Pass == w.pass && r.To == keys.Destination.ARN && keys.isSource(r.From)
}

// bind returns what ties a line of the audit log to this pass: a digest of the identity of
// the pass, of the item, of the keys and blobs, and of the encryption context that the new
// blob was made with. The id of the pass is in the checkpoint alone, so without that no
// line can be made that passes, and no value of a context can be guessed from one. It is
// empty where the pass has no identity.
func (w *worker) bind(r Record, slot ciphertext.Slot) string {
	if w.identity == "" {
		return ""
	}
	var buffer [1024]byte // mostly enough, so that nothing is allocated
	text := appendPart(buffer[:0], w.identity)
	for _, part := range [...]string{r.Target, string(r.Ref), r.From, r.To, r.Before, r.After} {
		text = appendPart(text, part)
	}
	sum := sha256.Sum256(appendContext(text, w.decider.destinationContext(slot)))
	return hex.EncodeToString(sum[:])
}

// confirm asks KMS whether a slot is where the job wants it, by one request that pins the
// destination key. It reports false when KMS does not say so, whatever the reason.
func (d *decider) confirm(ctx context.Context, slot ciphertext.Slot) (bool, error) {
	to := d.destinationContext(slot)
	answer, err := d.ask(ctx, Question{
		Blob:               slot.Blob,
		Source:             d.keys.Destination,
		Context:            to,
		DestinationContext: to,
	})
	if err != nil {
		if fatal(err) {
			return false, err
		}
		return false, nil
	}
	if answer.Source != d.keys.Destination.ARN {
		return false, nil
	}
	v, err := d.underDestination(ctx, slot, answer)
	return v.outcome == Current, err
}
