package ciphertext

import (
	"bytes"
	"fmt"

	"rotator/internal/scan"
)

// formatJSONL reads a body of one JSON document for each line (JSON Lines), with
// slots by path in each. A line that is no JSON document is a refused slot, and
// the others are read all the same; empty lines are nothing.
const formatJSONL = "jsonl"

func newJSONL(c *compiler) Format {
	slots, pattern := c.slots, c.where.pattern
	return &bodyFormat{name: c.form.name, places: func(object *scan.Object) []place {
		find := func(member lookup) lookup { return objectLookup(object, pattern, member) }
		var places []place
		at, number := 0, 0
		for line := range bytes.Lines(object.Body) {
			number++
			if len(bytes.TrimSpace(line)) > 0 {
				for _, p := range documentPlaces(line, at, slots, find) {
					p.Path = fmt.Sprintf("line %d: %s", number, p.Path)
					places = append(places, p)
				}
			}
			at += len(line)
		}
		return places
	}}
}
