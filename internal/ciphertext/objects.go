package ciphertext

import (
	"fmt"
	"regexp"

	"rotator/internal/scan"
)

// wholeBody takes the whole body of an object for one slot: the blob itself, or
// its base64 text.
type wholeBody struct {
	name    string
	slot    slot
	pattern *regexp.Regexp
}

var _ Format = (*wholeBody)(nil)

// Name implements Format.
func (f *wholeBody) Name() string { return f.name }

// Find implements Format.
func (f *wholeBody) Find(item scan.Item) []Slot {
	object, ok := item.Payload.(*scan.Object)
	if !ok {
		return nil
	}
	blob, _, refused := decode(f.slot.format, object.Body)
	return []Slot{f.slot.slotOf("", blob, refused, objectLookup(object, f.pattern, nil))}
}

// Splice implements Format.
func (f *wholeBody) Splice(item scan.Item, blobs [][]byte) (scan.Payload, error) {
	object, ok := item.Payload.(*scan.Object)
	if !ok {
		return nil, errNotOurs(item)
	}
	if len(blobs) != 1 {
		return nil, fmt.Errorf("%d blobs for 1 slot", len(blobs))
	}
	changed := *object
	_, form, _ := decode(f.slot.format, object.Body)
	if blobs[0] != nil && form != nil {
		changed.Body = form(blobs[0])
	}
	return &changed, nil
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
