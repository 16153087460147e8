package ciphertext

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"rotator/internal/plural"
	"rotator/internal/scan"
)

// bodyFormat is a format whose slots are byte ranges of the body of an object or file. It
// changes a body only by the edits of its sites.
type bodyFormat struct {
	name string
	// sites returns the slots of a body, in an order that depends only on the object. It
	// must not panic on any input.
	sites func(object *scan.Object) []editSite
	// miss explains why a rule found no slot; nil if the rules are not paths.
	miss func(object *scan.Object, rule int, near bool) Miss
}

var _ Format = (*bodyFormat)(nil)

// editSite is one slot in a body, with the edits that replace its blob.
type editSite struct {
	Slot
	// edits has the edit of the blob, followed by those of its siblings. It is empty if the
	// slot is refused.
	edits []edit
	// cannotEncode is the reason why the edit of the blob may return nil. If it is nil, the
	// padding of the slot determines the reason.
	cannotEncode *Refused
}

// edit replaces body[start:end] by text(blob). text returns nil if the blob cannot be
// encoded.
type edit struct {
	start, end int
	text       func(blob []byte) []byte
}

// constantly returns the text of an edit that does not depend on the blob.
func constantly(text []byte) func([]byte) []byte {
	return func([]byte) []byte { return text }
}

// refusedSitef returns the site of a refused slot, with a formatted detail.
func refusedSitef(path, reason, detail string, args ...any) editSite {
	return refusedSite(path, refuse(reason, detail, args...))
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

// Splice implements Format. Siblings change only if their blob changes, so splicing the
// present blobs changes nothing even if the destination key is a different one.
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

// spliceBody writes blobs[i] to the i-th site of a body.
func spliceBody(body []byte, sites []editSite, blobs [][]byte) ([]byte, error) {
	if len(sites) != len(blobs) {
		return nil, fmt.Errorf("got %d blobs for %s", len(blobs), plural.Count(len(sites), "slot"))
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
				failures.add(i, p.Slot, p.cannotEncode)
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

// replace returns the body with the replacements. Slots may share a sibling, so equal
// replacements are allowed. Other replacements must not overlap.
func replace(body []byte, changes []replacement) ([]byte, error) {
	slices.SortStableFunc(changes, func(a, b replacement) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end))
	})
	changes = slices.CompactFunc(changes, func(a, b replacement) bool {
		return a.start == b.start && a.end == b.end && bytes.Equal(a.text, b.text)
	})
	if len(changes) == 0 {
		return body, nil // a nil body, which was not read, stays nil
	}
	out := make([]byte, 0, len(body)+len(changes)*64)
	at := 0
	for i, c := range changes {
		twice := i > 0 && c.start == changes[i-1].start && c.end == changes[i-1].end
		if twice || c.start < at || c.end < c.start || c.end > len(body) {
			return nil, errors.New("two slots overlap in the body")
		}
		out = append(out, body[at:c.start]...)
		out = append(out, c.text...)
		at = c.end
	}
	return append(out, body[at:]...), nil
}

// newWholeBody builds a format whose one slot is the whole body.
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

// objectLookup returns the lookup of references to an object. member looks up members of
// the body; it is nil if the body is not a document.
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
				return "", refuse("key-pattern", "the encryption context needs ${%s}, but the key "+
					"of the object does not match key_pattern", p.reference)
			}
			if text := match[pattern.SubexpIndex(p.name)]; text != "" {
				return text, nil
			}
			return "", missing(p, "the group is empty in the key of the object")
		case metadata:
			if text, ok := object.Metadata[p.name]; ok {
				return text, nil
			}
			return "", missing(p, fmt.Sprintf("the object has no metadata entry %s", p.name))
		}
		return member(p)
	}
}
