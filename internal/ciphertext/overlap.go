package ciphertext

import "slices"

// mayMeet reports whether two paths can lead to the same place.
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

// overlaps finds slots whose paths can lead to the same place. Two slots with
// the same path are refused here, because each ciphertext would have two rules.
// If paths meet only in some items, the shared places are refused in these
// items.
func (c *compiler) overlaps() {
	for i := range c.slots {
		for j := range i {
			a, b := &c.slots[j], &c.slots[i]
			switch {
			case len(b.path) == 0 || !a.path.mayMeet(b.path):
			case a.path.String() == b.path.String():
				c.fail(slotField(i, "path"),
					"slots[%d] names the same place; keep only one of them", j)
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

// movingReferences refuses a context that takes its value from the place of a
// slot. The same write changes this value, so no reader could build the context
// again.
func (c *compiler) movingReferences(field string, r rule) {
	for _, name := range r.names {
		for _, p := range r.values[name] {
			at := slices.IndexFunc(c.slots, func(s slot) bool {
				return len(p.path) > 0 && s.path.mayMeet(p.path)
			})
			if at >= 0 {
				c.fail(field, "%s: ${%s} is the place of slots[%d], whose ciphertext changes "+
					"when it is moved; take the value from another place", name, p.reference, at)
			}
		}
	}
}

// noteReferences stores the attributes that a field of the target takes its value
// from, for writtenReferences.
func (c *compiler) noteReferences(field string, parts []part) {
	for _, p := range parts {
		if p.kind == attribute {
			c.attributes = append(c.attributes, fieldReference{field, p.reference, p.path[0].Name})
		}
	}
}

// writtenReferences refuses a context, or the name of one, that is taken from an attribute
// which the format replaces when it moves a ciphertext.
func (c *compiler) writtenReferences() {
	for _, r := range c.attributes {
		if slices.Contains(c.writes, r.attribute) {
			c.fail(r.field, "${%s}: format %s changes this attribute when a ciphertext is moved; "+
				"take the value from another place", r.reference, c.def.name)
		}
	}
}

// errShared returns the refusal of a place that several rules name.
func errShared(path string) *Refused {
	return &Refused{
		Reason: "ambiguous",
		Detail: "more than one slot of the job file names " + path +
			"; change their paths, so that each ciphertext is found once",
	}
}

// shared stores the places of a document that were found by rules whose paths
// may meet.
type shared map[string]foundSite

type foundSite struct{ rule, index int }

// refuse reports whether another rule has already found a place. If so, it
// refuses the existing entry in places.
func (s *shared) refuse(sites []editSite, rule int, path string) bool {
	if *s == nil {
		*s = shared{}
	}
	first, found := (*s)[path]
	if !found || first.rule == rule {
		(*s)[path] = foundSite{rule, len(sites)}
		return false
	}
	sites[first.index] = refusedSite(path, errShared(path))
	sites[first.index].Rule = first.rule
	return true
}
