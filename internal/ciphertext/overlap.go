package ciphertext

import "slices"

// mayMeet reports whether two paths can match the same value of an item.
func (p Path) mayMeet(q Path) bool {
	return slices.EqualFunc(p, q, func(a, b Step) bool {
		switch {
		case a.List != b.List:
			return false
		case a.Every || b.Every:
			return true
		}
		return a == b
	})
}

// overlaps finds slots whose paths can match the same value. It refuses two slots with the
// same path. Paths that match the same value only in some items are allowed; Find refuses
// the shared values of these items.
func (c *compiler) overlaps() {
	for i := range c.slots {
		for j := range i {
			a, b := &c.slots[j], &c.slots[i]
			switch {
			case len(b.path) == 0 || !a.path.mayMeet(b.path):
			case a.path.String() == b.path.String():
				c.fail(slotField(i, "path"),
					"slots[%d] has the same path; keep only one of them", j)
			default:
				a.mayOverlap, b.mayOverlap = true, true
			}
		}
		c.movingReferences(slotField(i, "context"), c.slots[i].context)
		if c.slots[i].hasDestination {
			c.movingReferences(slotField(i, "destination_context"), c.slots[i].destination)
		}
	}
}

// movingReferences refuses a context that takes its value from a slot. The write changes
// this value, so readers could not build the context afterwards.
func (c *compiler) movingReferences(field string, r rule) {
	for _, name := range r.names {
		for _, p := range r.values[name] {
			at := slices.IndexFunc(c.slots, func(s slot) bool {
				return len(p.path) > 0 && s.path.mayMeet(p.path)
			})
			if at >= 0 {
				c.fail(field, "%s: ${%s} is the value of slots[%d], which changes when its "+
					"ciphertext is moved; use another value", name, p.reference, at)
			}
		}
	}
}

// noteReferences records the attributes that a field of the target refers to, for
// writtenReferences.
func (c *compiler) noteReferences(field string, parts []part) {
	for _, p := range parts {
		if p.kind == attribute {
			c.attributes = append(c.attributes, fieldReference{field, p.reference, p.path[0].Name})
		}
	}
}

// writtenReferences refuses a reference to an attribute that the format replaces when it
// moves a ciphertext.
func (c *compiler) writtenReferences() {
	for _, r := range c.attributes {
		if slices.Contains(c.writes, r.attribute) {
			c.fail(r.field, "${%s}: format %s changes this attribute when it moves a ciphertext; "+
				"use another attribute", r.reference, c.def.name)
		}
	}
}

// sharedSlot refuses a value that several rules match.
func sharedSlot(path string) *Refused {
	return refuse("ambiguous", "more than one slot of the job file matches %s; change their paths "+
		"so that each ciphertext is found once", path)
}

// shared holds, by path, the values of a document that rules with mayOverlap matched.
type shared map[string]foundSite

type foundSite struct{ rule, index int }

// refuse reports whether another rule has already matched a value. If so, it refuses the
// existing entry in sites.
func (s *shared) refuse(sites []editSite, rule int, path string) bool {
	if *s == nil {
		*s = shared{}
	}
	first, found := (*s)[path]
	if !found || first.rule == rule {
		(*s)[path] = foundSite{rule, len(sites)}
		return false
	}
	sites[first.index] = refusedSite(path, sharedSlot(path))
	sites[first.index].Rule = first.rule
	return true
}
