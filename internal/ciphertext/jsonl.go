package ciphertext

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"

	"rotator/internal/scan"
)

// formatJSONL reads a body of one JSON document for each line (JSON Lines), with
// slots by path in each. A line that is no JSON document is a refused slot, and
// the others are read all the same; empty lines are nothing.
const formatJSONL = "jsonl"

// lines goes through a body line by line. Beside the body, what is in memory is
// what Find returns, or the new body: such a body can have very many slots, and
// places would be several times as large as both.
type lines struct {
	slots   []slot
	pattern *regexp.Regexp
}

var _ Format = (*lines)(nil)

func newJSONL(c *compiler) Format { return &lines{slots: c.slots, pattern: c.where.pattern} }

// Name implements Format.
func (f *lines) Name() string { return formatJSONL }

// Find implements Format.
func (f *lines) Find(item scan.Item) []Slot {
	object, ok := item.Payload.(*scan.Object)
	if !ok {
		return nil
	}
	var found []Slot
	number := 0
	for line := range bytes.Lines(object.Body) {
		number++
		for _, p := range f.places(object, line) {
			p.Path = linePath(number, p.Path)
			if len(found) > 0 {
				p.shareContexts(found[len(found)-1])
			}
			found = append(found, p.Slot)
		}
	}
	return found
}

// shareContexts takes the contexts of another slot where they are equal, as they mostly
// are from line to line: a map takes more memory than a ciphertext. Nobody changes one.
func (s *Slot) shareContexts(other Slot) {
	if maps.Equal(s.DestinationContext, other.DestinationContext) {
		s.DestinationContext = other.DestinationContext
	}
	if maps.Equal(s.Context, other.Context) {
		s.Context = other.Context
	}
}

// Splice implements Format.
func (f *lines) Splice(item scan.Item, blobs [][]byte) (scan.Payload, error) {
	object, ok := item.Payload.(*scan.Object)
	if !ok {
		return nil, errNotOurs(item)
	}
	body := make([]byte, 0, len(object.Body)+len(object.Body)/16)
	next, number := 0, 0
	var unfit unfitSlots
	for line := range bytes.Lines(object.Body) {
		number++
		places := f.places(object, line)
		if len(places) > len(blobs)-next {
			return nil, fmt.Errorf("%d blobs for more slots", len(blobs))
		}
		changed, err := spliceBody(line, places, blobs[next:next+len(places)])
		if err != nil && !unfit.take(err, next, linePath(number, "")) {
			return nil, err
		}
		body = append(body, changed...)
		next += len(places)
	}
	if next != len(blobs) {
		return nil, fmt.Errorf("%d blobs for %d slots", len(blobs), next)
	}
	if err := unfit.err(); err != nil {
		return nil, err
	}
	changed := *object
	changed.Body = body
	return &changed, nil
}

func linePath(number int, path string) string { return fmt.Sprintf("line %d: %s", number, path) }

// places finds the slots of one line, as places in this line.
func (f *lines) places(object *scan.Object, line []byte) []place {
	// A line may begin with a byte order mark if one file was appended to another.
	text := bytes.TrimPrefix(line, []byte(byteOrderMark))
	if len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	find := func(member lookup) lookup { return objectLookup(object, f.pattern, member) }
	return documentPlaces(text, len(line)-len(text), f.slots, find)
}
