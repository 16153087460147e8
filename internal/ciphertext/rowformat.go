package ciphertext

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"rotator/internal/scan"
)

// rowFormat is a format whose client keeps one ciphertext in a row, always in the
// same place.
type rowFormat struct {
	name string
	// read finds the slot of a row; nil when the row has not the marks of the
	// format, and so no slot.
	read func(item scan.Item, row rowReader) *rowSlot
}

// rowSlot is the slot of a row, and what has to change with it.
type rowSlot struct {
	Slot
	// replace gives the attributes that change when blob comes to stand in the
	// slot, siblings too, each of the type that it had. Nil when refused.
	replace func(blob []byte) map[string]scan.Value
}

var _ Format = (*rowFormat)(nil)

// Name implements Format.
func (f *rowFormat) Name() string { return f.name }

// Find implements Format.
func (f *rowFormat) Find(item scan.Item) []Slot {
	row, ok := item.Payload.(*scan.Row)
	if !ok {
		return nil
	}
	if found := f.slot(item, rowReader{row: row}); found != nil {
		return []Slot{found.Slot}
	}
	return nil
}

// Splice implements Format. Siblings change only along with the blob.
func (f *rowFormat) Splice(item scan.Item, blobs [][]byte) (scan.Payload, error) {
	row, ok := item.Payload.(*scan.Row)
	if !ok {
		return nil, errWrongPayload(item)
	}
	changed := &scan.Row{Attributes: row.Attributes}
	found := f.slot(item, rowReader{row: row})
	switch {
	case found == nil && len(blobs) == 0:
		return changed, nil
	case found == nil || len(blobs) != 1:
		return nil, fmt.Errorf("%d blobs for a row of format %s, which has one slot at most", len(blobs), f.name)
	}
	if blob := blobs[0]; found.Refused == nil && blob != nil && !bytes.Equal(blob, found.Blob) {
		changed.Attributes = maps.Clone(row.Attributes)
		maps.Copy(changed.Attributes, found.replace(blob))
	}
	return changed, nil
}

// Guards implements Format. It returns everything that was read to find the
// slot.
func (f *rowFormat) Guards(item scan.Item, slots []Slot, moves func(i int) bool) []scan.Guard {
	row, ok := item.Payload.(*scan.Row)
	if !ok || len(slots) == 0 || !moves(0) {
		return nil
	}
	var guards []scan.Guard
	f.slot(item, rowReader{row: row, notes: &guards})
	return guards
}

// slot looks for the mark of the AWS Database Encryption SDK first: a table that is
// on its way to it holds rows of both.
func (f *rowFormat) slot(item scan.Item, row rowReader) *rowSlot {
	if found := dbesdkSlot(row); found != nil {
		return found
	}
	return f.read(item, row)
}

// refusedSlot is a slot that cannot be moved, at the attribute path.
func refusedSlot(row rowReader, path, reason, format string, args ...any) *rowSlot {
	return heldSlot(row, path, &Refused{Reason: reason, Detail: fmt.Sprintf(format, args...)})
}

// unreadRow refuses a row that has marks of a format and that its client cannot read.
func unreadRow(row rowReader, path, format, marks, help string) *rowSlot {
	return heldSlot(row, path, unread(format, marks, help))
}

// heldSlot is a refused slot. What its attribute has is kept, since its header may name
// the key: the bytes, those that a text encodes, or the text itself.
func heldSlot(row rowReader, path string, refused *Refused) *rowSlot {
	value, _ := row.get(path)
	held := value.Bytes
	if value.Kind == scan.KindS {
		held = []byte(value.Text)
		if d := decode(formatBase64, PaddingUnknown, held); d.refused == nil {
			held = d.blob
		}
	}
	return &rowSlot{Slot: Slot{Path: path, Refused: refused, Held: held}}
}

// newRowSlot reads the blob of one attribute in a format of a single value, which
// the client keeps as the given kind, and gives it its contexts.
func newRowSlot(
	row rowReader, name string, kind scan.Kind, format string, contexts contextsOf,
) *rowSlot {
	value, _ := row.get(name)
	if value.Kind != kind {
		return refusedSlot(row, name, "wrong-type",
			"attribute %s is of type %s, and its client reads %s", name, value.Kind, kind)
	}
	text := value.Bytes
	if kind == scan.KindS {
		text = []byte(value.Text)
	}
	d := decode(format, PaddingAlways, text) // its client pads
	found := sealed(name, d.blob, d.refused, contexts)
	if found.Refused == nil {
		found.replace = func(blob []byte) map[string]scan.Value {
			if kind == scan.KindS {
				return map[string]scan.Value{name: {Kind: kind, Text: string(d.encode(blob))}}
			}
			return map[string]scan.Value{name: {Kind: kind, Bytes: d.encode(blob)}}
		}
	}
	return found
}

// contextsOf returns the encryption contexts of a slot.
type contextsOf func() (context, destination map[string]string, refused *Refused)

// sealed makes the slot of a blob that has been read.
func sealed(path string, blob []byte, refused *Refused, contexts contextsOf) *rowSlot {
	found := &rowSlot{Slot: Slot{Path: path, Refused: refused}}
	if refused == nil {
		found.Context, found.DestinationContext, found.Refused = contexts()
	}
	for _, context := range []map[string]string{found.Context, found.DestinationContext} {
		if found.Refused == nil {
			found.Refused = checkContext(context)
		}
	}
	if found.Refused != nil {
		found.Context, found.DestinationContext, found.Held = nil, nil, blob
		return found
	}
	found.Blob = blob
	return found
}

// checkContext refuses what cannot be sent to KMS as it is.
func checkContext(context map[string]string) *Refused {
	for _, name := range slices.Sorted(maps.Keys(context)) {
		if !utf8.ValidString(name) || !utf8.ValidString(context[name]) {
			return &Refused{Reason: "not-utf8", Detail: fmt.Sprintf("its context has %q, which is not UTF-8 or has a value that is not", name)}
		}
	}
	return nil
}

// contextValue is an attribute as a value of an encryption context: a number as
// DynamoDB prints it, binary as base64.
func contextValue(row rowReader, name string, kinds ...scan.Kind) (string, *Refused) {
	value, ok := row.get(name)
	switch {
	case !ok:
		return "", &Refused{Reason: "missing-context", Detail: fmt.Sprintf("its context needs attribute %q, and the item has none", name)}
	case !slices.Contains(kinds, value.Kind):
		return "", &Refused{Reason: "missing-context", Detail: fmt.Sprintf("its context needs attribute %q, which is of type %s, not %s", name, value.Kind, oneOf(kinds))}
	case value.Kind == scan.KindB:
		return base64.StdEncoding.EncodeToString(value.Bytes), nil
	}
	return value.Text, nil
}

func oneOf(kinds []scan.Kind) string {
	var words []string
	for _, kind := range kinds {
		words = append(words, kind.String())
	}
	return strings.Join(words, " or ")
}
