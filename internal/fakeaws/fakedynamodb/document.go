package fakedynamodb

import (
	"fmt"
	"maps"
	"slices"
)

// get returns the value at the path.
func (p path) get(i item) (value, bool) {
	v := value{kind: "M", m: i}
	for _, s := range p {
		switch {
		case s.name != "" && v.kind == "M":
			next, ok := v.m[s.name]
			if !ok {
				return value{}, false
			}
			v = next
		case s.name == "" && v.kind == "L" && s.index < len(v.l):
			v = v.l[s.index]
		default:
			return value{}, false
		}
	}
	return v, true
}

// errPath returns the error of an update whose path has no parent in the item.
func errPath() error {
	return invalid("The document path provided in the update expression is invalid for update")
}

// set returns the item with v at the path. All steps of the path but the last must exist. An
// index past the end of a list appends.
func (p path) set(i item, v value) (item, error) {
	top, err := p.replace(value{kind: "M", m: i}, &v)
	return top.m, err
}

// remove returns the item without the value at the path. It is not an error if there is none.
func (p path) remove(i item) (item, error) {
	top, err := p.replace(value{kind: "M", m: i}, nil)
	return top.m, err
}

func (p path) replace(in value, v *value) (value, error) {
	s, last := p[0], len(p) == 1
	switch {
	case s.name != "" && in.kind == "M":
		child, ok := in.m[s.name]
		in.m = maps.Clone(orEmpty(in.m))
		switch {
		case last && v == nil:
			delete(in.m, s.name)
			return in, nil
		case last:
			in.m[s.name] = *v
			return in, nil
		case !ok:
			return in, errPath()
		}
		replaced, err := p[1:].replace(child, v)
		in.m[s.name] = replaced
		return in, err
	case s.name == "" && in.kind == "L":
		in.l = slices.Clone(in.l)
		switch {
		case last && v == nil:
			if s.index < len(in.l) {
				in.l = slices.Delete(in.l, s.index, s.index+1)
			}
			return in, nil
		case last && s.index >= len(in.l):
			in.l = append(in.l, *v)
			return in, nil
		case last:
			in.l[s.index] = *v
			return in, nil
		case s.index >= len(in.l):
			return in, errPath()
		}
		replaced, err := p[1:].replace(in.l[s.index], v)
		in.l[s.index] = replaced
		return in, err
	}
	return in, errPath()
}

// overlaps reports whether one of the paths is equal to the other or a prefix of it.
func (p path) overlaps(q path) bool {
	n := min(len(p), len(q))
	return slices.Equal(p[:n], q[:n])
}

func (p path) String() string {
	text := ""
	for _, s := range p {
		if s.name == "" {
			text += fmt.Sprintf("[%d]", s.index)
		} else {
			text += "." + s.name
		}
	}
	return text[1:]
}

// project returns the parts of the item that the paths name, as ProjectionExpression does.
// Selected elements of a list become adjacent.
func project(i item, paths []path) item {
	if paths == nil {
		return i
	}
	out := value{kind: "M"}
	for _, p := range paths {
		if v, ok := p.get(i); ok {
			out = replaceAt(out, p, v)
		}
	}
	return orEmpty(out.m)
}

func replaceAt(into value, p path, v value) value {
	if len(p) == 0 {
		return v
	}
	s := p[0]
	kind := "L"
	if len(p) > 1 && p[1].name != "" {
		kind = "M"
	}
	if s.name == "" {
		into.l = append(slices.Clone(into.l), replaceAt(value{kind: kind}, p[1:], v))
		return into
	}
	child, ok := into.m[s.name]
	if !ok {
		child = value{kind: kind}
	}
	into.m = maps.Clone(orEmpty(into.m))
	into.m[s.name] = replaceAt(child, p[1:], v)
	return into
}
