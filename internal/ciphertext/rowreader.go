package ciphertext

import (
	"maps"
	"slices"

	"rotator/internal/scan"
)

// rowReader reads the attributes of a row. If notes is set, it records what was read, so
// that the write can be conditional on it. Formats must not read attributes in any other
// way.
type rowReader struct {
	row   *scan.Row
	notes *[]scan.Guard // nil to record nothing
}

// get returns an attribute and records its value. It returns false if there is none.
func (r rowReader) get(name string) (scan.Value, bool) {
	value, ok := r.row.Attributes[name]
	state := scan.Equal
	if !ok {
		state = scan.Absent
	}
	r.note(name, state, value)
	return value, ok
}

// has reports whether the row has an attribute. It records only the presence.
func (r rowReader) has(name string) bool {
	_, ok := r.row.Attributes[name]
	state := scan.Present
	if !ok {
		state = scan.Absent
	}
	r.note(name, state, scan.Value{})
	return ok
}

// names returns the sorted names of all attributes. It cannot record that there are no
// others, because DynamoDB has no such condition.
func (r rowReader) names() []string { return slices.Sorted(maps.Keys(r.row.Attributes)) }

func (r rowReader) note(name string, state scan.State, value scan.Value) {
	if r.notes == nil {
		return
	}
	path := []scan.Step{{Name: name}}
	*r.notes = append(*r.notes, scan.Guard{Path: path, State: state, Value: value})
}

// at returns the value at a path without wildcards. If there is none, missing is the
// shortest prefix of the path that does not exist.
func (r rowReader) at(path Path) (v scan.Value, missing Path) {
	v = scan.Value{Kind: scan.KindM, Map: r.row.Attributes}
	for i, step := range path {
		var ok bool
		switch {
		case !step.List && v.Kind == scan.KindM:
			v, ok = v.Map[step.Name]
		case step.List && v.Kind == scan.KindL && step.Index < len(v.List):
			v, ok = v.List[step.Index], true
		}
		if !ok {
			return scan.Value{}, path[:i+1]
		}
	}
	if r.notes != nil {
		*r.notes = append(*r.notes, scan.Guard{Path: stepsOf(path), Value: v})
	}
	return v, nil
}

// stepsOf converts a path without wildcards to scan.Step values.
func stepsOf(path Path) []scan.Step {
	steps := make([]scan.Step, len(path))
	for i, s := range path {
		steps[i] = scan.Step{Name: s.Name, Index: s.Index, Element: s.List}
	}
	return steps
}
