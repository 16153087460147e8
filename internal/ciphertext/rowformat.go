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

// rowFormat is a format whose client stores one ciphertext per row, always in the same
// attribute.
type rowFormat struct {
	name string
	// read returns the slot of a row, or nil if the row does not have the marks of the
	// format.
	read func(item scan.Item, row rowReader) *rowSlot
}

// rowSlot is the slot of a row, with the attributes that change with it.
type rowSlot struct {
	Slot
	// replace returns the attributes to store with a new blob, including siblings. Their
	// types do not change. It is nil if the slot is refused.
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

// Splice implements Format. Siblings change only if the blob changes.
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
		return nil, fmt.Errorf("got %d blobs for a row of format %s, which has at most one slot",
			len(blobs), f.name)
	}
	if blob := blobs[0]; found.Refused == nil && blob != nil && !bytes.Equal(blob, found.Blob) {
		changed.Attributes = maps.Clone(row.Attributes)
		maps.Copy(changed.Attributes, found.replace(blob))
	}
	return changed, nil
}

// Guards implements Format. It returns all values that were read to find the slot.
func (f *rowFormat) Guards(item scan.Item, slots []Slot, moves func(i int) bool) []scan.Guard {
	row, ok := item.Payload.(*scan.Row)
	if !ok || len(slots) == 0 || !moves(0) {
		return nil
	}
	var guards []scan.Guard
	f.slot(item, rowReader{row: row, notes: &guards})
	return guards
}

// slot first checks for items of the AWS Database Encryption SDK: during a migration to it,
// a table holds items of both clients.
func (f *rowFormat) slot(item scan.Item, row rowReader) *rowSlot {
	if found := dbesdkSlot(row); found != nil {
		return found
	}
	return f.read(item, row)
}

// refusedSlot returns a refused slot at the attribute path.
func refusedSlot(row rowReader, path, reason, format string, args ...any) *rowSlot {
	return heldSlot(row, path, refuse(reason, format, args...))
}

// unreadableRow refuses a row that has marks of a format but cannot be read by its client.
func unreadableRow(row rowReader, path, format, marks, help string) *rowSlot {
	return heldSlot(row, path, unreadable(format, marks, help))
}

// heldSlot returns a refused slot with the value of its attribute in Held, because the
// header of the value may identify the key. A text is decoded if possible.
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

// newRowSlot returns the slot of an attribute that holds one value in the given format.
// kind is the type in which the client stores it.
func newRowSlot(
	row rowReader, name string, kind scan.Kind, format string, contexts contextsOf,
) *rowSlot {
	value, _ := row.get(name)
	if value.Kind != kind {
		return refusedSlot(row, name, "wrong-type",
			"attribute %s is of type %s, but its client reads %s", name, value.Kind, kind)
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

// sealed returns the slot of a decoded blob.
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

// checkContext refuses a context that cannot be sent to KMS.
func checkContext(context map[string]string) *Refused {
	for _, name := range slices.Sorted(maps.Keys(context)) {
		if !utf8.ValidString(name) || !utf8.ValidString(context[name]) {
			return refuse("not-utf8",
				"in the encryption context, the name %q or its value is not UTF-8", name)
		}
	}
	return nil
}

// contextValue returns an attribute as a value of an encryption context: a number as
// DynamoDB returns it, binary as base64.
func contextValue(row rowReader, name string, kinds ...scan.Kind) (string, *Refused) {
	value, ok := row.get(name)
	switch {
	case !ok:
		return "", refuse("missing-context",
			"the encryption context needs attribute %q, which the item does not have", name)
	case !slices.Contains(kinds, value.Kind):
		return "", refuse("missing-context",
			"the encryption context needs attribute %q, whose type is %s, not %s", name, value.Kind,
			oneOf(kinds))
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
