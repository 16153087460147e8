package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"rotator/internal/checkpoint"
	"rotator/internal/plural"
)

// Rule holds the counts of one rule of a target: an entry of slots in the job file, or a
// format that finds its slots itself.
type Rule struct {
	Rule  string `json:"rule"` // "slots[0]", or the name of the format
	Place string `json:"place,omitempty"`
	// Items counts the items in which the rule found a ciphertext. Refused counts items
	// whose value cannot be read as a ciphertext. OtherType counts items in which a value has
	// another type than the path requires.
	Items      int64 `json:"items"`
	Refused    int64 `json:"refused"`
	OtherType  int64 `json:"other_type"`
	MayBeEmpty bool  `json:"may_be_empty,omitempty"`
}

// Unproven is a rule that found no ciphertext in any item, or a target without items. A pass
// with an Unproven has not converged.
type Unproven struct {
	Target   string `json:"target"`
	Rule     string `json:"rule,omitempty"` // empty for the whole target
	Place    string `json:"place,omitempty"`
	Reason   string `json:"reason"`
	Sentence string `json:"sentence"`
	// Near are the existing names that are most similar to the name in the job file.
	Near []string `json:"near,omitempty"`

	first bool // no item has the first name of the path
}

// The values of Unproven.Reason.
const (
	NoItem     = "no-item"
	NoMatch    = "no-match"
	NotCounted = "not-counted" // an earlier version did not count rules
)

// TargetInfo is information about a target other than its figures.
type TargetInfo struct {
	Name     string
	Location *checkpoint.Location // nil if it is unknown
	// MayBeEmpty exempts a target in which no ciphertext was found. EmptyRules exempts
	// single rules.
	MayBeEmpty bool
	EmptyRules []string
	// Complete is the reason why the items that include and exclude skip contain no
	// ciphertext.
	Complete string
}

// rulesOf lists the rules of a target in the order of the job file.
func rulesOf(c checkpoint.Counts, info TargetInfo) []Rule {
	rules := []Rule{}
	for _, name := range slices.SortedFunc(maps.Keys(c.Rules), compareRules) {
		n := c.Rules[name]
		rules = append(rules, Rule{
			Rule:       name,
			Place:      n.Place,
			Items:      n.Found,
			Refused:    n.Refused,
			OtherType:  n.OtherType,
			MayBeEmpty: info.exempts(name),
		})
	}
	return rules
}

// exempts reports whether a rule may find no ciphertext.
func (i TargetInfo) exempts(rule string) bool {
	if checkpoint.IsIncludeRule(rule) {
		return i.MayBeEmpty
	}
	return slices.Contains(i.EmptyRules, rule)
}

// compareRules sorts slots[2] before slots[10].
func compareRules(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// unproven lists the rules of a target that are not proven, or the target
// itself.
func unproven(c checkpoint.Counts, info TargetInfo) (list []Unproven) {
	found, formats := int64(0), 0
	for name, n := range c.Rules {
		if !checkpoint.IsIncludeRule(name) {
			found += n.Found
			formats++
		}
	}
	switch {
	case c.Items.Ruled < c.Items.Seen:
		u := Unproven{Target: info.Name, Reason: NotCounted}
		u.Sentence = info.Name + ": " + notCounted
		return []Unproven{u}
	case info.MayBeEmpty && found == 0:
		return nil
	case c.Items.Seen == 0:
		u := Unproven{Target: info.Name, Reason: NoItem}
		u.Sentence = fmt.Sprintf("%s: no item was found%s.", info.Name, in(info.Location))
		if n := c.Items.Excluded; n > 0 {
			u.Sentence += fmt.Sprintf(" include and exclude skipped all items (%d).", n)
		}
		return []Unproven{u}
	case formats == 0:
		u := Unproven{Target: info.Name, Reason: NoMatch}
		u.Sentence = fmt.Sprintf("%s: none of %s has a ciphertext in any format that was "+
			"tried.", info.Name, plural.Count(c.Items.Seen, "item"))
		return []Unproven{u}
	}
	for _, name := range slices.SortedFunc(maps.Keys(c.Rules), compareRules) {
		if n := c.Rules[name]; n.Found == 0 && !info.exempts(name) {
			list = append(list, unprovenRule(c, info.Name, name))
		}
	}
	return list
}

const notCounted = "an earlier version processed items of this pass without counting rules and " +
	"without searching for ciphertexts outside of slots; start a new pass."

func unprovenRule(c checkpoint.Counts, target, name string) Unproven {
	n := c.Rules[name]
	u := Unproven{Target: target, Rule: name, Place: n.Place, Reason: NoMatch, Near: n.Nearest()}
	rule := target + ", " + name
	if n.Place != "" {
		rule += " (" + n.Place + ")"
	}
	if checkpoint.IsIncludeRule(name) {
		u.Sentence = rule + ": no item matches."
		return u
	}
	sentences := []string{fmt.Sprintf("%s: none of %s has a ciphertext there.", rule,
		plural.Count(c.Items.Seen, "item"))}
	if n.Refused > 0 {
		sentences = append(sentences, fmt.Sprintf("In %s a value was refused; the result lists "+
			"the reasons.", plural.Count(n.Refused, "item")))
	}
	for _, what := range slices.Sorted(maps.Keys(n.Instead)) {
		sentences = append(sentences, insteadOf(what, n.Instead[what]))
	}
	if n.Missing != "" {
		sentences = append(sentences, "No item has "+n.Missing+".")
	}
	u.first = n.Refused == 0 && n.OtherType == 0 && n.Missing == "" &&
		strings.HasPrefix(name, "slots[")
	u.Sentence = strings.Join(sentences, " ")
	return u
}

// insteadOf describes a value in n items whose type does not match the path of a rule. what
// is "TYPE PLACE".
func insteadOf(what string, n int64) string {
	kind, place, _ := strings.Cut(what, " ")
	needs := "a map or a list"
	switch kind {
	case "M", "object":
		needs = "a list"
	case "L", "array":
		needs = "a map"
	}
	if place == "" {
		place = "the document"
	}
	return fmt.Sprintf("In %s %s is of type %s, but the path needs %s.",
		plural.Count(n, "item"), place, kind, needs)
}

// in returns " in LOCATION", or "" if the location of a target is unknown.
func in(p *checkpoint.Location) string {
	if p == nil {
		return ""
	}
	return " in " + PlaceText(*p)
}

// PlaceText describes the location of a target.
func PlaceText(p checkpoint.Location) string {
	var parts []string
	switch p.Kind {
	case checkpoint.LocationDynamoDB:
		parts = append(parts, "DynamoDB table "+p.Table)
	case checkpoint.LocationS3:
		parts = append(parts, "S3 bucket "+p.Bucket)
		if p.Prefix != "" {
			parts = append(parts, "prefix "+p.Prefix)
		}
	case checkpoint.LocationFiles:
		parts = append(parts, "directory "+p.Root)
	}
	for _, more := range []struct{ name, value string }{
		{"", p.Region},
		{"account ", p.Account},
		{"host ", p.Host},
		{"at ", p.Endpoint},
		{"format ", p.Format},
	} {
		if more.value != "" {
			parts = append(parts, more.name+more.value)
		}
	}
	return strings.Join(parts, ", ")
}

// Unmatched returns the entries of s.NotProven for which a list of existing names helps: the
// target has no items, or no item has the first name of the path.
func (s *Summary) Unmatched() (list []*Unproven) {
	for i := range s.NotProven {
		if u := &s.NotProven[i]; u.first || u.Reason == NoItem {
			list = append(list, u)
		}
	}
	return list
}

// SetNear adds similar names to the entries of s.NotProven. It must be called after SetTargets
// and before Conclude.
func (s *Summary) SetNear(near []checkpoint.NearNames) {
	for i := range s.NotProven {
		for _, n := range near {
			if u := &s.NotProven[i]; u.Target == n.Target && u.Rule == n.Rule {
				u.Near = n.Names
			}
		}
	}
}

// missingContext returns the detail of a slot of an unproven rule whose item lacks what the
// encryption context names, or "". It requires that the examples are set.
func (s *Summary) missingContext(u Unproven) string {
	for _, r := range s.Reasons {
		if r.Reason != "missing-context" || !strings.HasPrefix(u.Rule, "slots[") {
			continue
		}
		for _, e := range r.Examples {
			if e.Target == u.Target && e.Path == u.Place {
				return e.Detail
			}
		}
	}
	return ""
}

// finish adds similar names and advice to the sentence. context is what an item lacks for the
// encryption context, or "".
func (u *Unproven) finish(context string) {
	switch {
	case u.Reason == NotCounted:
		return
	case context != "":
		u.Sentence += " For example, " + context + ". Correct context at the entry of slots: " +
			"name a value that each item has, or write a constant without ${}."
		return
	}
	if len(u.Near) > 0 {
		u.Sentence += " Nearest names: " + strings.Join(u.Near, ", ") + "."
	}
	where := "at the target"
	if u.Rule != "" {
		where = "at the entry of slots"
		if !strings.HasPrefix(u.Rule, "slots[") {
			where = "at the target"
		}
	}
	u.Sentence += " Correct the job file, or set may_be_empty: true " + where + "."
}
