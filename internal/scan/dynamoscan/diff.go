package dynamoscan

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"rotator/internal/scan"
)

// step is one step of a document path: a name, or an index where name is empty.
type step struct {
	name  string
	index int
}

// edit replaces one value by another in its place.
type edit struct {
	path     []step
	old, new scan.Value
}

// diff returns the edits that turn one row into another: the smallest values
// that changed, sets as a whole. A change that is not a replacement (an attribute
// or list element more or less) is an error: no format makes one.
func diff(old, new *scan.Row) ([]edit, error) {
	var edits []edit
	if err := diffMap(&edits, nil, old.Attributes, new.Attributes); err != nil {
		return nil, err
	}
	return edits, nil
}

func diffMap(edits *[]edit, path []step, old, new map[string]scan.Value) error {
	if len(old) != len(new) {
		return fmt.Errorf("attributes were added or removed at %s", printPath(path))
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		to, ok := new[name]
		if !ok {
			return fmt.Errorf("attribute %s is missing", printPath(append(path, step{name: name})))
		}
		if err := diffValue(edits, append(slices.Clip(path), step{name: name}), old[name], to); err != nil {
			return err
		}
	}
	return nil
}

func diffValue(edits *[]edit, path []step, old, new scan.Value) error {
	switch {
	case old.Kind == scan.KindM && new.Kind == scan.KindM:
		return diffMap(edits, path, old.Map, new.Map)
	case old.Kind == scan.KindL && new.Kind == scan.KindL:
		if len(old.List) != len(new.List) {
			return fmt.Errorf("elements were added or removed at %s", printPath(path))
		}
		for i := range old.List {
			if err := diffValue(edits, append(slices.Clip(path), step{index: i}), old.List[i], new.List[i]); err != nil {
				return err
			}
		}
	case !sameScalar(old, new):
		*edits = append(*edits, edit{path: path, old: old, new: new})
	}
	return nil
}

// sameScalar compares values that are neither maps nor lists. Sets that differ
// in order only compare as different, which costs a needless write at most.
func sameScalar(a, b scan.Value) bool {
	return a.Kind == b.Kind && a.Text == b.Text && bytes.Equal(a.Bytes, b.Bytes) && a.Bool == b.Bool &&
		slices.Equal(a.Texts, b.Texts) && slices.EqualFunc(a.ByteSet, b.ByteSet, bytes.Equal)
}

func printPath(path []step) string {
	if len(path) == 0 {
		return "the top"
	}
	text := ""
	for _, s := range path {
		switch {
		case s.name == "":
			text += fmt.Sprintf("[%d]", s.index)
		case text == "":
			text = s.name
		default:
			text += "." + s.name
		}
	}
	return text
}
