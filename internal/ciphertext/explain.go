package ciphertext

import (
	"bytes"

	"github.com/tidwall/gjson"

	"rotator/internal/nearest"
	"rotator/internal/scan"
)

// Rule is how a target finds slots: an entry of slots in the job file, or a format that
// finds its slots itself. Slot.Rule is its index.
type Rule struct {
	Name  string // "slots[1]", or the name of the format
	Place string // the path or the pattern, or empty if the rule has neither
	// Optional is true for the formats that auto tries. An item belongs to at most
	// one of them, so most of them find nothing.
	Optional bool
}

// Miss describes why a rule found no slot in an item. The zero Miss means that the item does not
// have the first name of the path.
type Miss struct {
	// At is the path of a value whose type does not match the next step of the path.
	// Kind is that type: "S" in a DynamoDB item, "string" in a document. Kind is empty if
	// all types match.
	At, Kind string
	// Missing is the prefix of the path that does not exist although everything
	// before its last step does.
	Missing string
	// Near are the existing names that are most similar to the last step of
	// Missing.
	Near []nearest.Name
}

// nearNames is the maximum number of names in a Miss.
const nearNames = 3

// explainer is a format whose rules may be paths.
type explainer interface {
	explain(item scan.Item, rule int, near bool) Miss
}

// Explain returns the reason why a rule found no slot in an item. If near is
// set, it also looks for similar names, which is more expensive. It has no side
// effects.
func (c *Compiled) Explain(item scan.Item, rule int, near bool) Miss {
	e, ok := c.Format.(explainer)
	if !ok {
		return Miss{}
	}
	text, _, refused := c.text(item)
	if refused != nil {
		return Miss{}
	}
	return e.explain(text, rule, near)
}

// maxSlots is the maximum number of entries of slots in one target. Every
// checkpoint record contains the counts of each.
const maxSlots = 500

// rules returns the rules of a Spec that was compiled.
func (c *compiler) rules() (rules []Rule) {
	switch {
	case c.ruleNames != nil:
		for _, name := range c.ruleNames {
			rules = append(rules, Rule{Name: name, Optional: true})
		}
		return rules
	case c.def.slots == noSlots:
		return []Rule{{Name: c.def.name}}
	}
	for i, s := range c.slots {
		rule := Rule{Name: slotField(i, ""), Place: s.path.String()}
		if s.pattern != nil {
			rule.Place = s.pattern.String()
		}
		rules = append(rules, rule)
	}
	return rules
}

// prefixes returns the prefixes of a path, from the empty one to the whole
// path.
func prefixes(path Path) []string {
	all := make([]string, len(path)+1)
	for i := range all {
		all[i] = path[:i].String()
	}
	return all
}

// missing records that step number step of a path does not exist. It calls names only if near is
// set and the step has a name.
func (m *Miss) missing(s slot, step int, near bool, names func(add func(string))) {
	prefix, want := s.prefixes[step+1], s.path[step]
	switch {
	case len(prefix) < len(m.Missing):
		return
	case len(prefix) > len(m.Missing):
		m.Missing, m.Near = prefix, nil
	}
	if !near || want.Every || want.List || m.Near != nil {
		return
	}
	f := nearest.Finder{Want: want.Name, Most: nearNames, Within: nearest.MaxDistance(want.Name)}
	left := maxNames
	names(func(name string) {
		if left--; left >= 0 {
			f.Add(name)
		}
	})
	m.Near = f.Names()
}

// maxNames is the maximum number of names of one map that are compared with a
// missing name.
const maxNames = 1000

// otherType records that a value before a step has another type.
func (m *Miss) otherType(s slot, step int, kind string) {
	if at := s.prefixes[step]; m.Kind == "" || len(at) > len(m.At) {
		m.At, m.Kind = at, kind
	}
}

// explain implements explainer for rows.
func (r *rows) explain(item scan.Item, rule int, near bool) (m Miss) {
	if row, ok := item.Payload.(*scan.Row); ok && rule < len(r.slots) {
		top := scan.Value{Kind: scan.KindM, Map: row.Attributes}
		m.ofValue(r.slots[rule], top, 0, near)
	}
	return m
}

// ofValue follows a path from v, the value after the first step steps. It does not search the
// attributes of the item for a name similar to the first one, because rotator reads only the
// attributes that the job names.
func (m *Miss) ofValue(s slot, v scan.Value, step int, near bool) {
	if step == len(s.path) || v.Kind == scan.KindNull {
		return
	}
	want := s.path[step]
	switch {
	case want.List && v.Kind != scan.KindL, !want.List && v.Kind != scan.KindM:
		m.otherType(s, step, v.Kind.String())
	case want.Every && want.List:
		for _, element := range v.List {
			m.ofValue(s, element, step+1, near)
		}
	case want.Every:
		for _, member := range v.Map {
			m.ofValue(s, member, step+1, near)
		}
	case want.List && want.Index < len(v.List):
		m.ofValue(s, v.List[want.Index], step+1, near)
	default:
		if member, ok := v.Map[want.Name]; ok && !want.List {
			m.ofValue(s, member, step+1, near)
			return
		}
		if step == 0 {
			return
		}
		m.missing(s, step, near, func(add func(string)) {
			for name := range v.Map {
				add(name)
			}
		})
	}
}

// explainDocument explains why a path found no slot in a JSON document.
func explainDocument(text []byte, s slot, near bool) (m Miss) {
	if gjson.ValidBytes(text) && !tooDeep(text) {
		m.ofResult(s, gjson.ParseBytes(text), 0, near)
	}
	return m
}

// ofResult follows a path from v, the value after the first step steps.
func (m *Miss) ofResult(s slot, v gjson.Result, step int, near bool) {
	if step == len(s.path) || v.Type == gjson.Null {
		return
	}
	want := s.path[step]
	if want.List && !v.IsArray() || !want.List && !v.IsObject() {
		m.otherType(s, step, kindOf(v))
		return
	}
	found, i := false, 0
	v.ForEach(func(name, member gjson.Result) bool {
		if want.Every || want.List && i == want.Index || !want.List && name.Str == want.Name {
			found = true
			m.ofResult(s, member, step+1, near)
		}
		i++
		return true
	})
	if found || want.Every {
		return
	}
	m.missing(s, step, near, func(add func(string)) {
		v.ForEach(func(name, _ gjson.Result) bool {
			add(name.Str)
			return true
		})
	})
}

// kindOf returns the name of the type of a JSON value.
func kindOf(v gjson.Result) string {
	switch {
	case v.IsObject():
		return "object"
	case v.IsArray():
		return "array"
	case v.Type == gjson.String:
		return "string"
	case v.Type == gjson.Number:
		return "number"
	}
	return "boolean"
}

// explain implements explainer for bodies.
func (f *bodyFormat) explain(item scan.Item, rule int, near bool) Miss {
	if object, ok := item.Payload.(*scan.Object); ok && f.miss != nil {
		return f.miss(object, rule, near)
	}
	return Miss{}
}

// explainedLines is the number of lines of a body that are examined to explain
// a rule that found no slot.
const explainedLines = 100

// explain implements explainer. It examines only the first lines.
func (f *jsonLines) explain(item scan.Item, rule int, near bool) (m Miss) {
	object, ok := item.Payload.(*scan.Object)
	if !ok || rule >= len(f.slots) {
		return m
	}
	left := explainedLines
	for line := range bytes.Lines(object.Body) {
		if left--; left < 0 || m.Kind != "" {
			break
		}
		if of := explainDocument(line, f.slots[rule], near); of.Kind != "" || of.Missing != "" {
			m = of
		}
	}
	return m
}
