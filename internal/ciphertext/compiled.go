package ciphertext

import (
	"bytes"
	"errors"
	"fmt"

	"rotator/internal/scan"
)

// Find implements Format. A body that is not plain text, in a format that reads text,
// is one refused slot; a byte order mark of UTF-8 is skipped.
func (c *Compiled) Find(item scan.Item) []Slot {
	text, mark, refused := c.text(item)
	switch {
	case refused != nil:
		return []Slot{{Refused: refused}}
	case mark > 0:
		return c.Format.Find(text)
	}
	return c.Format.Find(item)
}

// Splice implements Format. A text that does not show its padding gets that of
// the other texts of its rule in the item, if they agree.
func (c *Compiled) Splice(item scan.Item, blobs [][]byte) (scan.Payload, error) {
	text, mark, refused := c.text(item)
	if refused != nil {
		if len(blobs) != 1 {
			return nil, fmt.Errorf("%d blobs for 1 slot", len(blobs))
		}
		return item.Payload, nil
	}
	if mark == 0 {
		return c.splicePadded(item, blobs)
	}
	payload, err := c.splicePadded(text, blobs)
	changed, ok := payload.(*scan.Object)
	if err != nil || !ok {
		return nil, err
	}
	changed.Body = append([]byte(byteOrderMark), changed.Body...)
	return changed, nil
}

func (c *Compiled) splicePadded(item scan.Item, blobs [][]byte) (scan.Payload, error) {
	payload, err := c.Format.Splice(item, blobs)
	var spliceErr *SpliceError
	if !errors.As(err, &spliceErr) {
		return payload, err
	}
	seen := PaddingSeen{}
	for _, s := range c.Format.Find(item) {
		seen.Add(s)
	}
	padded := c.WithPadding(seen)
	if padded == c {
		return payload, err
	}
	return padded.Format.Splice(item, blobs)
}

// text returns the item without a byte order mark, for a format that reads
// text, and the length of the mark. It refuses an item whose body is not
// readable text.
func (c *Compiled) text(item scan.Item) (text scan.Item, mark int, refused *Refused) {
	object, ok := item.Payload.(*scan.Object)
	if !ok || !c.NeedsBody(object.Key, object.Metadata) {
		return item, 0, nil
	}
	if c.binary {
		return item, 0, encodedBody(object)
	}
	if refused := unreadableText(object); refused != nil {
		return item, 0, refused
	}
	if !bytes.HasPrefix(object.Body, []byte(byteOrderMark)) {
		return item, 0, nil
	}
	stripped := *object
	stripped.Body = object.Body[len(byteOrderMark):]
	item.Payload = &stripped
	return item, len(byteOrderMark), nil
}

// PaddingSeen counts, by rule, the base64 texts that show whether their writer
// pads.
type PaddingSeen map[int]PaddingCount

// PaddingCount counts the texts of one rule.
type PaddingCount struct {
	Padded   int64 `json:"padded,omitempty"`
	Unpadded int64 `json:"unpadded,omitempty"`
}

// Add counts a slot.
func (p PaddingSeen) Add(s Slot) {
	n := p[s.Rule]
	switch s.Padding {
	case PaddingAlways:
		n.Padded++
	case PaddingNever:
		n.Unpadded++
	default:
		return
	}
	p[s.Rule] = n
}

// WithPadding returns the format with the padding of seen. Texts that do not
// show their padding are written like the other texts of their rule, if all of
// these agree and the job file does not set the padding. It returns c itself if
// nothing changes.
func (c *Compiled) WithPadding(seen PaddingSeen) *Compiled {
	spec := c.spec
	spec.Slots = append([]SlotSpec(nil), c.spec.Slots...)
	changed := false
	for rule, n := range seen {
		if rule >= len(spec.Slots) || spec.Slots[rule].Padding != "" {
			continue
		}
		switch {
		case n.Padded > 0 && n.Unpadded == 0:
			spec.Slots[rule].Padding, changed = padAlways, true
		case n.Unpadded > 0 && n.Padded == 0:
			spec.Slots[rule].Padding, changed = padNever, true
		}
	}
	if !changed {
		return c
	}
	padded, err := New(spec)
	if err != nil {
		return c // a rule that is not in base64 has shown no padding
	}
	return padded
}
