package checkpoint

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// RuleCounts counts the items of a target in which one rule found a ciphertext, and describes what
// the rule found in the other items.
type RuleCounts struct {
	Place string `json:"place,omitempty"` // path or pattern, for messages
	Found int64  `json:"found,omitempty"` // items in which the rule found a ciphertext
	// Refused counts the items in which the rule found only values that cannot be read as a
	// ciphertext.
	Refused int64 `json:"refused,omitempty"`
	// OtherType counts the items without a slot in which a step of the path met a value of
	// another type. Instead counts them by "TYPE PLACE".
	OtherType int64            `json:"other_type,omitempty"`
	Instead   map[string]int64 `json:"instead,omitempty"`
	// Missing is the longest prefix of the path that no item has, although some items have
	// everything before its last step. Near maps the most similar existing names to their edit
	// distance from that step.
	Missing string         `json:"missing,omitempty"`
	Near    map[string]int `json:"near,omitempty"`
	// Good counts the slots that the job file describes: moved, current or remaining.
	// Alike counts, by "OUTCOME/REASON", the slots whose outcome an error in the job file
	// can cause. It counts only while Good is 0. Records of earlier versions have neither.
	Good  int64            `json:"good,omitempty"`
	Alike map[string]int64 `json:"alike,omitempty"`
	// Padded and Unpadded count the texts in base64 that show whether their writer pads.
	Padded   int64 `json:"padded,omitempty"`
	Unpadded int64 `json:"unpadded,omitempty"`
}

// Limits of the texts that are stored with rules, so that they fit into a
// record.
const (
	maxDescribed = 100
	maxInstead   = 4
	maxNear      = 3
	maxPlace     = 100 // bytes
)

// ClipPlace shortens a path or a pattern for RuleCounts.Place.
func ClipPlace(place string) string {
	if len(place) <= maxPlace {
		return place
	}
	return strings.ToValidUTF8(place[:maxPlace], "") + "..."
}

// includeRule is the beginning of the names of rules that are patterns of include.
const includeRule = "include["

// IncludeRule returns the name of the rule for the i-th pattern of include.
func IncludeRule(i int) string { return fmt.Sprintf("%s%d]", includeRule, i) }

// IsIncludeRule reports whether a rule is a pattern of include. Such a rule finds items, not
// ciphertexts.
func IsIncludeRule(name string) bool { return strings.HasPrefix(name, includeRule) }

// AddRule adds counts of the rule with the given name.
func (c *Counts) AddRule(name string, more RuleCounts) { c.addRule(name, more, 1) }

// addRule adds the counts of a rule, or subtracts its figures.
func (c *Counts) addRule(name string, more RuleCounts, sign int64) {
	if c.Rules == nil {
		c.Rules = map[string]RuleCounts{}
	}
	n := c.Rules[name]
	n.Place = cmp.Or(n.Place, more.Place)
	n.Found += sign * more.Found
	n.Refused += sign * more.Refused
	n.OtherType += sign * more.OtherType
	n.Good += sign * more.Good
	for what, slots := range more.Alike {
		n.AddAlike(what, sign*slots)
	}
	n.Padded += sign * more.Padded
	n.Unpadded += sign * more.Unpadded
	if _, known := c.Rules[name]; !known && len(c.Rules) >= maxDescribed {
		more.Instead, more.Missing = nil, ""
	}
	for what, items := range more.Instead {
		n.addInstead(what, sign*items)
	}
	if sign > 0 {
		n.addMissing(more.Missing, more.Near)
	}
	c.Rules[name] = n
}

// maxAlike is the maximum number of entries in RuleCounts.Alike. Two are enough to show that
// slots differ.
const maxAlike = 4

// AddAlike counts slots by their outcome and reason.
func (n *RuleCounts) AddAlike(what string, slots int64) {
	if _, known := n.Alike[what]; !known && len(n.Alike) >= maxAlike {
		return
	}
	if n.Alike == nil {
		n.Alike = map[string]int64{}
	}
	if n.Alike[what] += slots; n.Alike[what] == 0 {
		delete(n.Alike, what)
	}
}

// addInstead counts items in which the rule met a value of another type. Combinations of type and
// path beyond the first few are counted only in OtherType.
func (n *RuleCounts) addInstead(what string, items int64) {
	if _, known := n.Instead[what]; !known && len(n.Instead) >= maxInstead {
		return
	}
	if n.Instead == nil {
		n.Instead = map[string]int64{}
	}
	if n.Instead[what] += items; n.Instead[what] == 0 {
		delete(n.Instead, what)
	}
}

// addMissing keeps the longer of two path prefixes, and the names that are most
// similar.
func (n *RuleCounts) addMissing(missing string, near map[string]int) {
	switch {
	case len(missing) < len(n.Missing):
		return
	case len(missing) > len(n.Missing):
		n.Missing, n.Near = missing, nil
	}
	if len(near) == 0 {
		return
	}
	all := maps.Clone(near)
	maps.Copy(all, n.Near)
	n.Near = map[string]int{}
	for _, name := range nearestOf(all) {
		if len(n.Near) < maxNear && len(name) <= maxPlace {
			n.Near[name] = all[name]
		}
	}
}

// nearestOf sorts names by their distance.
func nearestOf(names map[string]int) []string {
	return slices.SortedFunc(maps.Keys(names), func(a, b string) int {
		return cmp.Or(cmp.Compare(names[a], names[b]), cmp.Compare(a, b))
	})
}

// Nearest returns the names that are most similar to the missing one, the most
// similar first.
func (n RuleCounts) Nearest() []string { return nearestOf(n.Near) }

// Saw records that the rule met a value of another type, or no value, in one item.
func (n *RuleCounts) Saw(kind, at, missing string, near map[string]int) {
	if kind != "" {
		n.OtherType++
		n.addInstead(kind+" "+ClipPlace(at), 1)
	}
	n.addMissing(ClipPlace(missing), near)
}

// Origin is what is known about the key of a slot that failed or is in
// conflict: the ARN of the key that KMS or the header of the blob names; a
// header token whose key is unknown (TokenOrigin); or one of the constants.
type Origin string

// The origins that name no key.
const (
	// OriginUnread: no ciphertext could be read, so KMS was not asked.
	OriginUnread Origin = "unread"
	// OriginNone: the blob has no header of a ciphertext under a symmetric key, neither at
	// its start nor anywhere in it.
	OriginNone Origin = "none"
	// OriginUnknown: nothing is known.
	OriginUnknown Origin = "unknown"

	tokenOrigin = "token:"
)

// TokenOrigin returns the origin of a blob with a header token whose key KMS
// has not named.
func TokenOrigin(token string) Origin { return Origin(tokenOrigin + token) }

// Token returns the token of a TokenOrigin.
func (o Origin) Token() (token string, ok bool) { return strings.CutPrefix(string(o), tokenOrigin) }

// Key returns the ARN of the key, or "" if the origin names none.
func (o Origin) Key() string {
	if strings.HasPrefix(string(o), "arn:") {
		return string(o)
	}
	return ""
}

// maxOrigins is the maximum number of distinct origins in one Counts. Slots of
// further origins are counted as OriginUnknown.
const maxOrigins = 64

// AddOrigin counts n more slots of an origin.
func (c *Counts) AddOrigin(origin Origin, n int64) {
	if c.Origins == nil {
		c.Origins = map[Origin]int64{}
	}
	if _, known := c.Origins[origin]; !known && len(c.Origins) >= maxOrigins {
		origin = OriginUnknown
	}
	if c.Origins[origin] += n; c.Origins[origin] == 0 {
		delete(c.Origins, origin)
	}
}
