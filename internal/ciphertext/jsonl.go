package ciphertext

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"

	"rotator/internal/plural"
	"rotator/internal/scan"
)

// formatJSONL is the format of a body with one JSON document per line (JSON Lines). Slots
// are found by path in each line. A line that is not a JSON document is a refused slot and
// does not affect other lines. Empty lines are ignored.
const formatJSONL = "jsonl"

// jsonLines processes a body line by line. It is not a bodyFormat because such a body can
// have very many slots: the sites of all of them would need several times the memory of the
// body.
type jsonLines struct {
	slots   []slot
	pattern *regexp.Regexp
}

var _ Format = (*jsonLines)(nil)

func newJSONL(c *compiler) binder {
	pattern := c.where.pattern
	return func(b binding) Format { return &jsonLines{slots: b.slots, pattern: pattern} }
}

// Name implements Format.
func (f *jsonLines) Name() string { return formatJSONL }

// Find implements Format.
func (f *jsonLines) Find(item scan.Item) []Slot {
	object, ok := item.Payload.(*scan.Object)
	if !ok {
		return nil
	}
	var found []Slot
	number := 0
	for line := range bytes.Lines(object.Body) {
		number++
		for _, p := range f.sites(object, line) {
			p.Path = linePath(number, p.Path)
			if len(found) > 0 {
				p.shareContexts(found[len(found)-1])
			}
			found = append(found, p.Slot)
		}
	}
	return found
}

// shareContexts replaces contexts that equal those of another slot by the maps of that slot,
// because a map needs more memory than a ciphertext. Contexts are often equal in all lines,
// and they are immutable.
func (s *Slot) shareContexts(other Slot) {
	if maps.Equal(s.DestinationContext, other.DestinationContext) {
		s.DestinationContext = other.DestinationContext
	}
	if maps.Equal(s.Context, other.Context) {
		s.Context = other.Context
	}
}

// Splice implements Format.
func (f *jsonLines) Splice(item scan.Item, blobs [][]byte) (scan.Payload, error) {
	object, ok := item.Payload.(*scan.Object)
	if !ok {
		return nil, errWrongPayload(item)
	}
	body := make([]byte, 0, len(object.Body)+len(object.Body)/16)
	next, number := 0, 0
	var failures spliceFailures
	for line := range bytes.Lines(object.Body) {
		number++
		sites := f.sites(object, line)
		if len(sites) > len(blobs)-next {
			return nil, fmt.Errorf("got %d blobs for more slots", len(blobs))
		}
		changed, err := spliceBody(line, sites, blobs[next:next+len(sites)])
		if err != nil && !failures.take(err, next, linePath(number, "")) {
			return nil, err
		}
		body = append(body, changed...)
		next += len(sites)
	}
	if next != len(blobs) {
		return nil, fmt.Errorf("got %d blobs for %s", len(blobs), plural.Count(next, "slot"))
	}
	if err := failures.err(); err != nil {
		return nil, err
	}
	changed := *object
	changed.Body = body
	return &changed, nil
}

func linePath(number int, path string) string { return fmt.Sprintf("line %d: %s", number, path) }

// sites returns the slots of one line. Their edits are relative to the line.
func (f *jsonLines) sites(object *scan.Object, line []byte) []editSite {
	// A line may start with a byte order mark if one file was appended to another.
	text := bytes.TrimPrefix(line, []byte(byteOrderMark))
	if len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	find := func(member lookup) lookup { return objectLookup(object, f.pattern, member) }
	return documentSites(text, len(line)-len(text), f.slots, find)
}
