package dynamoscan

import (
	"bytes"
	"fmt"
	"slices"

	"rotator/internal/scan"
)

// edit replaces one value by another value of the same type.
type edit struct {
	path     []scan.Step
	old, new scan.Value
}

// maxEdits keeps an update below the 300 operators that DynamoDB accepts in one expression.
// Each edit needs two operators in the condition ("Expression parameters" of the quotas of
// DynamoDB).
const maxEdits = 100

// diff returns the edits that turn the row old into new. Each edit replaces the smallest
// value that changed; sets are replaced as a whole. If there are too many edits for one
// update, the edits replace whole attributes. Other differences (an added or removed
// attribute or list element, or a different type) are an error, because no format produces
// them.
func diff(old, new *scan.Row) ([]edit, error) {
	var edits []edit
	if err := diffMap(&edits, nil, old.Attributes, new.Attributes); err != nil {
		return nil, err
	}
	if len(edits) > maxEdits {
		edits = widen(edits, old, new)
	}
	return edits, nil
}

// widen returns edits of the whole attributes that contain the given edits.
func widen(edits []edit, old, new *scan.Row) []edit {
	var wide []edit
	for _, e := range edits {
		name := e.path[0].Name
		// Edits are grouped by attribute.
		if n := len(wide); n == 0 || wide[n-1].path[0].Name != name {
			wide = append(wide, edit{
				path: e.path[:1],
				old:  old.Attributes[name],
				new:  new.Attributes[name],
			})
		}
	}
	return wide
}

func diffMap(edits *[]edit, path []scan.Step, old, new map[string]scan.Value) error {
	var few [4]string
	changed, added := few[:0], []string(nil)
	for name, from := range old {
		if to, ok := new[name]; !ok || !unchanged(from, to) {
			changed = append(changed, name)
		}
	}
	for name := range new {
		if _, ok := old[name]; !ok {
			added = append(added, name)
		}
	}
	if len(added) > 0 {
		return fmt.Errorf("%s would be added",
			printPath(with(path, scan.Step{Name: slices.Min(added)})))
	}
	slices.Sort(changed)
	for _, name := range changed {
		at := with(path, scan.Step{Name: name})
		to, ok := new[name]
		if !ok {
			return fmt.Errorf("%s would be removed", printPath(at))
		}
		if err := diffValue(edits, at, old[name], to); err != nil {
			return err
		}
	}
	return nil
}

// unchanged reports whether two values are the same. It returns false for maps and
// lists, which must be compared value by value.
func unchanged(from, to scan.Value) bool {
	return from.Kind == to.Kind && from.Kind != scan.KindM && from.Kind != scan.KindL &&
		same(from, to)
}

func diffValue(edits *[]edit, path []scan.Step, old, new scan.Value) error {
	switch {
	case old.Kind != new.Kind:
		return fmt.Errorf("%s would change from type %s to %s", printPath(path), old.Kind, new.Kind)
	case old.Kind == scan.KindM:
		return diffMap(edits, path, old.Map, new.Map)
	case old.Kind == scan.KindL:
		if len(old.List) != len(new.List) {
			return fmt.Errorf("the length of the list %s would change", printPath(path))
		}
		for i := range old.List {
			element := with(path, scan.Step{Index: i, Element: true})
			if err := diffValue(edits, element, old.List[i], new.List[i]); err != nil {
				return err
			}
		}
	case !same(old, new):
		*edits = append(*edits, edit{path: path, old: old, new: new})
	}
	return nil
}

// with returns a copy of the path with one more step.
func with(path []scan.Step, s scan.Step) []scan.Step { return append(slices.Clip(path), s) }

// same compares values of one kind, except maps and lists. The order of a set has no meaning.
func same(a, b scan.Value) bool {
	if a.Text != b.Text || a.Bool != b.Bool || !bytes.Equal(a.Bytes, b.Bytes) {
		return false
	}
	if len(a.Texts)+len(b.Texts)+len(a.ByteSet)+len(b.ByteSet) == 0 {
		return true
	}
	return slices.Equal(slices.Sorted(slices.Values(a.Texts)),
		slices.Sorted(slices.Values(b.Texts))) &&
		slices.EqualFunc(slices.SortedFunc(slices.Values(a.ByteSet), bytes.Compare),
			slices.SortedFunc(slices.Values(b.ByteSet), bytes.Compare), bytes.Equal)
}

// printPath returns a readable form of a path.
func printPath(path []scan.Step) string {
	text := "attribute "
	for i, s := range path {
		switch {
		case s.Element:
			text += fmt.Sprintf("[%d]", s.Index)
		case i > 0:
			text += "." + s.Name
		default:
			text += s.Name
		}
	}
	return text
}
