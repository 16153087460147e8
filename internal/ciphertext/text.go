package ciphertext

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"rotator/internal/scan"
)

// formatText finds slots in any text by regular expressions: what the one group of
// a match took is a ciphertext in base64, base64url or hex.
const formatText = "text"

func newText(c *compiler) Format {
	slots, pattern := c.slots, c.where.pattern
	return &bodyFormat{name: c.form.name, places: func(object *scan.Object) []place {
		find := objectLookup(object, pattern, nil)
		var matches []textMatch
		for i := range slots {
			for _, at := range slots[i].pattern.FindAllSubmatchIndex(object.Body, -1) {
				if at[2] >= 0 {
					matches = append(matches, textMatch{slot: &slots[i], start: at[2], end: at[3]})
				}
			}
		}
		slices.SortStableFunc(matches, func(a, b textMatch) int {
			return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end))
		})
		return textPlaces(object.Body, matches, find)
	}}
}

// textMatch is what the group of a pattern took.
type textMatch struct {
	slot       *slot
	start, end int
}

// textPlaces makes places of matches, which are in the order of the body. Where
// two of them share bytes, neither is more right than the other.
func textPlaces(body []byte, matches []textMatch, find lookup) []place {
	var places []place
	line, counted, taken := 1, 0, 0
	for i, m := range matches {
		line += bytes.Count(body[counted:m.start], []byte("\n"))
		counted = m.start
		column := m.start - (bytes.LastIndexByte(body[:m.start], '\n') + 1) + 1
		path := fmt.Sprintf("line %d, byte %d", line, column)
		shared := i > 0 && m.start < taken || i+1 < len(matches) && matches[i+1].start < m.end
		same := i > 0 && m.start == matches[i-1].start || i+1 < len(matches) && m.start == matches[i+1].start
		taken = max(taken, m.end)
		if shared || same {
			places = append(places, refusedPlace(path, "ambiguous", "more than one pattern matches here; narrow the patterns, so that each ciphertext is found once"))
			continue
		}
		blob, form, refused := decode(m.slot.format, body[m.start:m.end])
		places = append(places, place{Slot: m.slot.slotOf(path, blob, refused, find), edits: []edit{{start: m.start, end: m.end, text: form}}})
	}
	return places
}
