package ciphertext

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"rotator/internal/scan"
)

// formatText finds slots in any text by regular expressions. The one group of a match is a
// ciphertext in base64, base64url or hex.
const formatText = "text"

func newText(c *compiler) binder {
	name, pattern := c.def.name, c.where.pattern
	return func(b binding) Format {
		slots := b.slots
		return &bodyFormat{name: name, sites: func(object *scan.Object) []editSite {
			find := objectLookup(object, pattern, nil)
			var matches []textMatch
			for i := range slots {
				for n, at := range slots[i].pattern.FindAllSubmatchIndex(object.Body, -1) {
					if at[2] >= 0 {
						path := fmt.Sprintf("slots[%d], match %d", i, n+1)
						matches = append(matches, textMatch{
							slot:  &slots[i],
							path:  path,
							start: at[2],
							end:   at[3],
						})
					}
				}
			}
			slices.SortStableFunc(matches, func(a, b textMatch) int {
				return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end))
			})
			return textSites(object.Body, matches, find)
		}}
	}
}

// textMatch is a match of the group of a pattern. Its path has the number of the match and
// not its position, because a new blob may be longer and shift the following text.
type textMatch struct {
	slot       *slot
	path       string
	start, end int
}

// textSites converts matches, which are in the order of the body, to sites. Matches that share
// bytes become one refused site.
func textSites(body []byte, matches []textMatch, find lookup) []editSite {
	var sites []editSite
	taken := 0
	for i, m := range matches {
		if i > 0 && (m.start < taken || m.start == matches[i-1].start) {
			taken = max(taken, m.end)
			continue
		}
		taken = m.end
		d := decode(m.slot.format, m.slot.padding, body[m.start:m.end])
		if d.refused == nil {
			due := 0
			if d.padding == PaddingNever {
				due = 3 - len(d.blob)%3
			}
			d.refused = partOfText(m.slot.format, body, m.start, m.end, due)
		}
		if i+1 < len(matches) && (matches[i+1].start < m.end || matches[i+1].start == m.start) {
			d.refused = refuse("ambiguous", "more than one pattern matches here; narrow the "+
				"patterns so that each ciphertext is found once")
		}
		if d.refused != nil {
			line := bytes.Count(body[:m.start], []byte("\n")) + 1
			d.refused = refuse(d.refused.Reason, "line %d: %s", line, d.refused.Detail)
			d.padding = PaddingNone
		}
		sites = append(sites, editSite{
			Slot:  m.slot.slotOf(m.path, d, find),
			edits: []edit{{start: m.start, end: m.end, text: d.encode}},
		})
	}
	return sites
}
