package checkpoint

import (
	"cmp"
	"maps"
)

// Counts are the counts of a pass, a partition or a page.
type Counts struct {
	Slots SlotCounts `json:"slots"`
	Items ItemCounts `json:"items"`
	// Keys counts slots by the ARN of the key under which they were found.
	Keys map[string]KeyCount `json:"keys,omitempty"`
	// Reasons counts the slots that are failed, foreign or in conflict, by
	// "OUTCOME/REASON".
	Reasons map[string]int64 `json:"reasons,omitempty"`
	// Rules counts by the name of a rule of the target. Records of earlier
	// versions have none. Items.Ruled is the number of items for which rules were
	// counted.
	Rules map[string]RuleCounts `json:"rules,omitempty"`
	// Keys counts slots by the ARN of the key that they are under.
	Origins   map[Origin]int64 `json:"origins,omitempty"`
	StaleKeys StaleKeys        `json:"stale_keys,omitzero"`
	// Search counts the results of the search for ciphertexts outside of slots.
	Search SearchCounts `json:"search,omitzero"`
}

// StaleKeys counts the slots that were moved, or are to be moved, and have the id of a source key
// next to the ciphertext. rotator does not change that id.
type StaleKeys struct {
	Slots int64  `json:"slots"`
	First string `json:"first"` // one of them, for messages
}

// SlotCounts counts slots by outcome. Seen is the sum of the other fields.
type SlotCounts struct {
	Seen      int64 `json:"seen"`
	Rotated   int64 `json:"rotated,omitempty"`
	Current   int64 `json:"current,omitempty"`
	Remaining int64 `json:"remaining,omitempty"`
	Foreign   int64 `json:"foreign,omitempty"`
	Failed    int64 `json:"failed,omitempty"`
	Conflict  int64 `json:"conflict,omitempty"`
	Gone      int64 `json:"gone,omitempty"`
}

// ItemCounts counts items.
type ItemCounts struct {
	Seen        int64 `json:"seen"`
	Written     int64 `json:"written,omitempty"`
	WithoutSlot int64 `json:"without_slot,omitempty"`
	Excluded    int64 `json:"excluded,omitempty"` // listed and excluded by a filter; not in Seen
	// Own counts the files that rotator itself wrote. They are not in Seen.
	Own int64 `json:"own,omitempty"`
	// Ruled counts the items that are counted in Counts.Rules.
	Ruled int64 `json:"ruled,omitempty"`
}

// KeyCount counts the slots that are under one key. Header is the number of slots that were decided
// only by the header of the blob; for the others, KMS named the key. Rotated is the number of slots
// that were moved and are no longer under the key. Unreadable is the number of slots that KMS
// cannot decrypt although the key matched. Records of earlier versions have neither Rotated nor
// Unreadable.
type KeyCount struct {
	Slots      int64 `json:"slots"`
	Header     int64 `json:"header,omitempty"`
	Rotated    int64 `json:"rotated,omitempty"`
	Unreadable int64 `json:"unreadable,omitempty"`
}

// ByHeader returns the number of slots that only a header decided. A retry of an earlier version
// did not reduce Header when it moved such a slot, so Header can exceed Slots.
func (n KeyCount) ByHeader() int64 { return min(n.Header, n.Slots) }

// How returns the weakest evidence for the key of a slot: "kms" or "header".
func (n KeyCount) How() string {
	if n.Header != 0 {
		return "header"
	}
	return "kms"
}

// Add adds more to c.
func (c *Counts) Add(more Counts) { c.combine(more, 1) }

// Subtract subtracts less from c, for slots whose outcome a retry has changed.
func (c *Counts) Subtract(less Counts) { c.combine(less, -1) }

func (c *Counts) combine(other Counts, sign int64) {
	s, o := &c.Slots, other.Slots
	s.Seen += sign * o.Seen
	s.Rotated += sign * o.Rotated
	s.Current += sign * o.Current
	s.Remaining += sign * o.Remaining
	s.Foreign += sign * o.Foreign
	s.Failed += sign * o.Failed
	s.Conflict += sign * o.Conflict
	s.Gone += sign * o.Gone
	c.Items.Seen += sign * other.Items.Seen
	c.Items.Written += sign * other.Items.Written
	c.Items.WithoutSlot += sign * other.Items.WithoutSlot
	c.Items.Excluded += sign * other.Items.Excluded
	c.Items.Own += sign * other.Items.Own
	c.Items.Ruled += sign * other.Items.Ruled
	c.Search.combine(other.Search, sign)
	for arn, n := range other.Keys {
		c.AddKey(arn, KeyCount{
			Slots:      sign * n.Slots,
			Header:     sign * n.Header,
			Rotated:    sign * n.Rotated,
			Unreadable: sign * n.Unreadable,
		})
	}
	for name, n := range other.Rules {
		c.addRule(name, n, sign)
	}
	for origin, n := range other.Origins {
		c.AddOrigin(origin, sign*n)
	}
	for reason, n := range other.Reasons {
		c.AddReason(reason, sign*n)
	}
	c.StaleKeys.Slots += sign * other.StaleKeys.Slots
	c.StaleKeys.First = cmp.Or(c.StaleKeys.First, other.StaleKeys.First)
}

// AddReason counts n more slots for a reason, "OUTCOME/REASON".
func (c *Counts) AddReason(reason string, n int64) {
	if c.Reasons == nil {
		c.Reasons = map[string]int64{}
	}
	if c.Reasons[reason] += n; c.Reasons[reason] == 0 {
		delete(c.Reasons, reason)
	}
}

// AddKey counts more slots under a key.
func (c *Counts) AddKey(arn string, more KeyCount) {
	if c.Keys == nil {
		c.Keys = map[string]KeyCount{}
	}
	k := c.Keys[arn]
	k.Slots += more.Slots
	k.Header += more.Header
	k.Rotated += more.Rotated
	k.Unreadable += more.Unreadable
	if k == (KeyCount{}) { // Slots alone can be 0 in the changes of a retry
		delete(c.Keys, arn)
		return
	}
	c.Keys[arn] = k
}

// Balanced reports whether every slot seen has exactly one outcome.
func (c Counts) Balanced() bool {
	s := c.Slots
	return s.Seen == s.Rotated+s.Current+s.Remaining+s.Foreign+s.Failed+s.Conflict+s.Gone
}

// clone returns a copy that shares no maps with c.
func (c Counts) clone() Counts {
	c.Keys, c.Reasons = maps.Clone(c.Keys), maps.Clone(c.Reasons)
	c.Rules, c.Origins = maps.Clone(c.Rules), maps.Clone(c.Origins)
	for name, n := range c.Rules {
		n.Instead, n.Near = maps.Clone(n.Instead), maps.Clone(n.Near)
		n.Alike = maps.Clone(n.Alike)
		c.Rules[name] = n
	}
	return c
}
