package ciphertext

import "rotator/internal/scan"

// Guards implements Format. For an object it also returns the metadata entries on which
// its slots depend.
func (c *Compiled) Guards(item scan.Item, slots []Slot, moves func(i int) bool) []scan.Guard {
	guards := c.Format.Guards(item, slots, moves)
	object, ok := item.Payload.(*scan.Object)
	if !ok {
		return guards
	}
	for _, name := range c.template.metadata {
		g := scan.Guard{Path: []scan.Step{{Name: name}}, State: scan.Absent}
		if text, ok := object.Metadata[name]; ok {
			g.State, g.Value = scan.Equal, scan.Value{Kind: scan.KindS, Text: text}
		}
		guards = append(guards, g)
	}
	return guards
}

// Dependencies of body formats outside of the body are recorded when they are
// compiled, and returned by Compiled.Guards.

// Guards implements Format.
func (*bodyFormat) Guards(scan.Item, []Slot, func(int) bool) []scan.Guard { return nil }

// Guards implements Format.
func (*jsonLines) Guards(scan.Item, []Slot, func(int) bool) []scan.Guard { return nil }

// Guards implements Format.
func (*s3ec) Guards(scan.Item, []Slot, func(int) bool) []scan.Guard { return nil }

// Guards implements Format.
func (*auto) Guards(scan.Item, []Slot, func(int) bool) []scan.Guard { return nil }
