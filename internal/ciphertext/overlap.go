package ciphertext

import "slices"

// meets reports whether two paths can lead to the same place.
func (p Path) meets(q Path) bool {
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

// overlaps looks for slots whose paths meet. Two with one path are refused here, since
// each ciphertext would have two rules. Where paths meet only in some items, the places
// at which they do are refused there.
func (c *compiler) overlaps() {
	for i := range c.slots {
		for j := range i {
			a, b := &c.slots[j], &c.slots[i]
			switch {
			case len(b.path) == 0 || !a.path.meets(b.path):
			case a.path.String() == b.path.String():
				c.fail(slotField(i, "path"), "slots[%d] names the same place; keep only one of them", j)
			default:
				a.meets, b.meets = true, true
			}
		}
		c.movingReferences(slotField(i, "context"), c.slots[i].context)
		if c.slots[i].differs {
			c.movingReferences(slotField(i, "destination_context"), c.slots[i].destination)
		}
	}
}

// movingReferences refuses a context that takes its value from the place of a slot: the
// value changes in the same write, so that no reader could make the context again.
func (c *compiler) movingReferences(field string, r rule) {
	for _, name := range r.names {
		for _, p := range r.values[name] {
			at := slices.IndexFunc(c.slots, func(s slot) bool {
				return len(p.path) > 0 && s.path.meets(p.path)
			})
			if at >= 0 {
				c.fail(field, "%s: ${%s} is the place of slots[%d], whose ciphertext changes when it "+
					"is moved; take the value from another place", name, p.reference, at)
			}
		}
	}
}

// errShared is why a place that several rules name is refused.
func errShared(path string) *Refused {
	return &Refused{Reason: "ambiguous", Detail: "more than one slot of the job file names " + path +
		"; change their paths, so that each ciphertext is found once"}
}

// shared knows the places of a document that rules have found, whose paths may meet.
type shared map[string]foundPlace

type foundPlace struct{ rule, index int }

// refuse reports whether another rule has found a place, and refuses it there. The place
// is about to be added to places otherwise.
func (s *shared) refuse(places []place, rule int, path string) bool {
	if *s == nil {
		*s = shared{}
	}
	first, found := (*s)[path]
	if !found || first.rule == rule {
		(*s)[path] = foundPlace{rule, len(places)}
		return false
	}
	places[first.index] = placeOf(path, errShared(path))
	places[first.index].Rule = first.rule
	return true
}
