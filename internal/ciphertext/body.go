package ciphertext

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"rotator/internal/scan"
)

// bodyFormat is a format whose slots are stretches of the body of an object or a
// file. What it changes is what the edits of its places say, and nothing else.
type bodyFormat struct {
	name string
	// places finds the slots of a body, in an order that depends on the object
	// alone. It never panics, whatever the bytes.
	sites func(object *scan.Object) []editSite
	// miss explains why a rule found no slot; nil if the rules are not paths.
	miss func(object *scan.Object, rule int, near bool) Miss
}

var _ Format = (*bodyFormat)(nil)

// place is one slot in a body, and what has to change along with it.
type editSite struct {
	Slot
	// edits begin with the blob's own; those of its siblings follow. A refused
	// place has none.
	edits []edit
	// unfit is the reason why the edit of the blob may have no text; nil for that
	// of the slot.
	unfit *Refused
}

// edit puts text(blob) in the place of body[start:end]; a nil text says that there
// is no room for this blob.
type edit struct {
	start, end int
	text       func(blob []byte) []byte
}

// constantly is the text of a sibling that does not depend on the blob.
func constantly(text []byte) func([]byte) []byte {
	return func([]byte) []byte { return text }
}

// refusedPlace is a place that cannot be moved.
func refusedSitef(path, reason, detail string, args ...any) editSite {
	return editSite{Slot: Slot{Path: path, Refused: &Refused{Reason: reason, Detail: fmt.Sprintf(detail, args...)}}}
}

// Name implements Format.
func (f *bodyFormat) Name() string { return f.name }

// Find implements Format.
func (f *bodyFormat) Find(item scan.Item) []Slot {
	object, ok := item.Payload.(*scan.Object)
	if !ok || isFolderMarker(object) {
		return nil
	}
	var found []Slot
	for _, p := range f.sites(object) {
		found = append(found, p.Slot)
	}
	return found
}

// Splice implements Format. Siblings change only where their blob does, so that
// the same blobs give the same bytes even under another destination key.
func (f *bodyFormat) Splice(item scan.Item, blobs [][]byte) (scan.Payload, error) {
	object, ok := item.Payload.(*scan.Object)
	if !ok {
		return nil, errWrongPayload(item)
	}
	body, err := spliceBody(object.Body, f.sites(object), blobs)
	if err != nil {
		return nil, err
	}
	changed := *object
	changed.Body = body
	return &changed, nil
}

// spliceBody puts blobs[i] into the i-th place of a body.
func spliceBody(body []byte, sites []editSite, blobs [][]byte) ([]byte, error) {
	if len(sites) != len(blobs) {
		return nil, fmt.Errorf("%d blobs for %d slots", len(blobs), len(sites))
	}
	var changes []replacement
	var failures spliceFailures
	for i, p := range sites {
		if blobs[i] == nil || p.Refused != nil || bytes.Equal(blobs[i], p.Blob) {
			continue
		}
		for _, e := range p.edits {
			text := e.text(blobs[i])
			if text == nil {
				failures.add(i, p.Slot, p.unfit)
				break
			}
			changes = append(changes, replacement{start: e.start, end: e.end, text: text})
		}
	}
	if err := failures.err(); err != nil {
		return nil, err
	}
	return replace(body, changes)
}

// replacement is an edit whose text is known.
type replacement struct {
	start, end int
	text       []byte
}

// replace makes the new body. Two slots may share a sibling: the same text in the
// same place is written once. Anything else that overlaps is an error.
func replace(body []byte, changes []replacement) ([]byte, error) {
	slices.SortStableFunc(changes, func(a, b replacement) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end))
	})
	changes = slices.CompactFunc(changes, func(a, b replacement) bool {
		return a.start == b.start && a.end == b.end && bytes.Equal(a.text, b.text)
	})
	if len(changes) == 0 {
		return body, nil // nil stays nil: it says that the body was not read
	}
	out := make([]byte, 0, len(body)+len(changes)*64)
	at := 0
	for i, c := range changes {
		twice := i > 0 && c.start == changes[i-1].start && c.end == changes[i-1].end
		if twice || c.start < at || c.end < c.start || c.end > len(body) {
			return nil, errors.New("two slots are one place of the document")
		}
		out = append(out, body[at:c.start]...)
		out = append(out, c.text...)
		at = c.end
	}
	return append(out, body[at:]...), nil
}

// newWholeBody takes the whole body for one slot: the blob itself, or its text.
func newWholeBody(c *compiler) binder {
	name, pattern := c.def.name, c.where.pattern
	return func(b binding) Format {
		s := b.slots[0]
		return &bodyFormat{name: name, sites: func(object *scan.Object) []editSite {
			d := decode(s.format, s.padding, object.Body)
			return []editSite{{
				Slot:  s.slotOf("", d, objectLookup(object, pattern, nil)),
				edits: []edit{{start: 0, end: len(object.Body), text: d.encode}},
			}}
		}}
	}
}

// objectLookup reads references from an object; member reads its document, and
// is nil where the body is none.
func objectLookup(object *scan.Object, pattern *regexp.Regexp, member lookup) lookup {
	return func(p part) (string, *Refused) {
		switch p.kind {
		case objectKey:
			return object.Key, nil
		case objectBucket:
			return object.Bucket, nil
		case keyGroup:
			match := pattern.FindStringSubmatch(object.Key)
			if match == nil {
				return "", &Refused{Reason: "key-pattern", Detail: fmt.Sprintf("its context needs ${%s}, and the key of the object does not match key_pattern", p.reference)}
			}
			if text := match[pattern.SubexpIndex(p.name)]; text != "" {
				return text, nil
			}
			return "", missing(p, "the group is empty in the key of the object")
		case metadata:
			if text, ok := object.Metadata[p.name]; ok {
				return text, nil
			}
			return "", missing(p, fmt.Sprintf("the object has no metadata %s", p.name))
		}
		return member(p)
	}
}
