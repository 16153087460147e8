package rotate

import (
	"context"

	"rotator/internal/ciphertext"
	"rotator/internal/contentdigest"
	"rotator/internal/reencrypt"
	"rotator/internal/retry"
	"rotator/internal/scan"
)

// Contents receives the digests of items (Config.Contents). It is called once for each complete
// page of a target, concurrently for several pages. An error stops the pass.
type Contents interface {
	Add(target string, items []contentdigest.Entry) error
}

// propertyReader is a Lister whose items have properties outside of their payloads.
type propertyReader interface {
	// Properties returns the properties that a write of this item keeps, by name. It may send
	// requests. It returns scan.ErrGone if the item does not exist anymore, and a
	// *scan.RefusedError if not all properties can be read.
	Properties(ctx context.Context, item scan.Item) (map[string]string, error)
}

// The reasons why an item is not covered by the content digest, besides those of slots.
const (
	reasonPartlyRead = "partly-read" // some attributes, or the body, were not read
	reasonUnread     = "unread"
)

// digestContent computes the content digest of an item whose slots are decided. It must be called
// while the payload of the item is in memory.
func (w *worker) digestContent(ctx context.Context, target *Target, t *task) error {
	if !w.digests || t.own {
		return nil
	}
	t.content = &contentdigest.Entry{Ref: t.item.Ref}
	switch {
	case t.gone():
		t.content = nil
		return nil
	case t.unread:
		t.content.NotCovered = reasonUnread
		if reason := t.verdicts[0].Reason; reason != "" {
			t.content.NotCovered = reason
		}
		return nil
	case isPartial(target, t.item.Payload):
		t.content.NotCovered = reasonPartlyRead
		return nil
	}
	properties, err := w.properties(ctx, target, t)
	if err != nil || t.content == nil || t.content.NotCovered != "" {
		return err
	}
	masked := ciphertext.Mask(target.Format, t.item, t.slots[:t.named])
	t.content.Digest = contentdigest.Item(t.item.Ref, masked, properties)
	return nil
}

// gone reports whether the item was deleted after it was listed.
func (t *task) gone() bool {
	return t.unread && t.verdicts[0].Outcome == reencrypt.Gone
}

// isPartial reports whether a part of an item was not read.
func isPartial(target *Target, payload scan.Payload) bool {
	switch p := payload.(type) {
	case *scan.Object:
		return p.Body == nil && p.Size > 0
	case *scan.Row:
		return target.Partial
	}
	return true
}

// properties reads the properties of an item. If they cannot be read, it sets the reason in
// t.content. If the item does not exist anymore, it sets t.content to nil.
func (w *worker) properties(
	ctx context.Context, target *Target, t *task,
) (properties map[string]string, err error) {
	lister, ok := target.Lister.(propertyReader)
	if !ok {
		return nil, nil
	}
	err = w.retry.Do(ctx, w.permit, retry.Reading, target.Name, func(ctx context.Context) error {
		return w.targets[target.Name].reading.read(ctx, w.permit, func() (err error) {
			properties, err = lister.Properties(ctx, t.item)
			return err
		})
	})
	if err == nil || retry.Stopped(err) {
		return properties, err
	}
	d := w.decideError(target, retry.Event{
		Operation: retry.Reading,
		Kind:      retry.Classify(err),
		Failures:  retry.MaxAttempts, // Do has made all attempts
	})
	switch d.Do {
	case retry.ItemGone:
		t.content = nil
		return nil, nil
	case retry.Stop:
		return nil, stopFor(target, "read the properties of an item of", err, d)
	}
	t.content.NotCovered, _ = retry.ReasonOf(err)
	return nil, nil
}

// contents passes the digests of a complete page to Config.Contents.
func (r *Rotator) contents(target string, items []contentdigest.Entry) error {
	if r.config.Contents == nil || len(items) == 0 {
		return nil
	}
	if err := r.config.Contents.Add(target, items); err != nil {
		return &retry.StopError{
			Kind: retry.StopStorage,
			What: "write the content digests",
			Err:  err,
		}
	}
	return nil
}
