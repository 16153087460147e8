package rotate

import (
	"context"
	"crypto/sha256"

	"rotator/internal/ciphertext"
	"rotator/internal/reencrypt"
	"rotator/internal/scan"
)

// Trace is a change that an earlier process of a pass recorded in the audit
// log.
type Trace struct {
	Record Record
	// Written reports whether the change was recorded as written, not only as
	// intended.
	Written bool
	// Kept reports whether the checkpoint of the pass confirms the line: it holds
	// the hash of the line, or of a later line in the same chain. Other lines are
	// hints.
	Kept bool
}

// recover recognizes a slot that an earlier process of this pass wrote, although the checkpoint
// does not contain the write: the audit log has the digest of the blob that KMS returned for
// it. The log decides only whether the slot counts as rotated or as current. The checkpoint
// must confirm the line; otherwise KMS is asked whether the slot has moved. If the earlier
// process did not record the slot as written, recover does.
func (w *worker) recover(
	ctx context.Context, target *Target, t *task, slot ciphertext.Slot, found string,
) (v reencrypt.Verdict, ok bool, err error) {
	if slot.Refused != nil {
		return reencrypt.Verdict{}, false, nil
	}
	trace, ok := w.recorder.Find(target.Name, t.item.Ref, found)
	if !ok || trace.Record.After != found ||
		!w.isOwnRecord(target, t.item.Ref, slot, trace.Record) {
		return reencrypt.Verdict{}, false, nil
	}
	if !trace.Kept {
		if ok, err = w.decisions.Confirm(ctx, slot); err != nil || !ok {
			return reencrypt.Verdict{}, false, err
		}
	}
	t.recovered = true
	record := trace.Record
	if !trace.Written {
		// The path can differ from that of the intent: several slots can have the same blob.
		record.Path = reencrypt.Clip(slot.Path)
		err = w.recordAll([]Record{record})
	}
	return reencrypt.Verdict{Outcome: reencrypt.Rotated, Key: record.From}, true, err
}

// isOwnRecord reports whether a record of the audit log belongs to this pass and this item, and to
// a blob with the encryption context that the slot must have.
func (w *worker) isOwnRecord(target *Target, ref scan.Ref, slot ciphertext.Slot, r Record) bool {
	return r.Binding != "" && r.Binding == w.bind(r, slot) &&
		r.Target == target.Name && r.Ref == ref &&
		r.Pass == w.pass && r.To == w.keys.Destination.ARN && w.keys.IsSource(r.From)
}

// bind returns the digest that binds a line of the audit log to this pass. It
// covers the identity of the pass, the item, the keys, the blobs and the
// encryption context of the new blob. Only the checkpoint holds the id of the
// pass. Without the checkpoint, it is impossible to forge a valid line or
// guess the values of a context from the digest. It is empty if the pass has no
// identity.
func (w *worker) bind(r Record, slot ciphertext.Slot) string {
	if w.identity == "" {
		return ""
	}
	var buffer [1024]byte // mostly enough, so that nothing is allocated
	text := reencrypt.AppendPart(buffer[:0], w.identity)
	for _, part := range [...]string{r.Target, string(r.Ref), r.From, r.To, r.Before, r.After} {
		text = reencrypt.AppendPart(text, part)
	}
	sum := sha256.Sum256(reencrypt.AppendContext(text, w.keys.DestinationContext(slot)))
	return hexOf(sum)
}
