package ciphertext

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"

	"rotator/internal/plural"
	"rotator/internal/scan"
)

// rows finds slots by document path in DynamoDB items. Formats of bytes are read from B and
// the members of BS; formats of text are also read from S and the members of SS. A path
// that does not exist in an item, or leads to NULL, is not a slot. A value of another type
// is a refused slot. Each member of a set is a separate slot, docs{0}, docs{1} and so on,
// in the order in which the set was read.
type rows struct {
	name  string
	slots []slot
}

var _ Format = (*rows)(nil)

func newRows(c *compiler) binder {
	name := c.def.name
	return func(b binding) Format { return &rows{name: name, slots: b.slots} }
}

// Name implements Format.
func (r *rows) Name() string { return r.name }

// Find implements Format.
func (r *rows) Find(item scan.Item) []Slot {
	row, ok := item.Payload.(*scan.Row)
	if !ok {
		return nil
	}
	w := &rowWalk{row: row, times: r.timesFound(row)}
	_ = w.walk(r.slots) // fails only if it splices
	return w.found
}

// Splice implements Format.
func (r *rows) Splice(item scan.Item, blobs [][]byte) (scan.Payload, error) {
	row, ok := item.Payload.(*scan.Row)
	if !ok {
		return nil, errWrongPayload(item)
	}
	w := &rowWalk{
		row:    &scan.Row{Attributes: row.Attributes},
		blobs:  blobs,
		splice: true,
		times:  r.timesFound(row),
	}
	if err := w.walk(r.slots); err != nil {
		return nil, err
	}
	return w.row, nil
}

// Guards implements Format. It returns the values of contexts; the write itself compares
// the values that it replaces.
func (r *rows) Guards(item scan.Item, slots []Slot, moves func(i int) bool) []scan.Guard {
	row, ok := item.Payload.(*scan.Row)
	if !ok {
		return nil
	}
	var guards []scan.Guard
	done := make([]bool, len(r.slots))
	for i, s := range slots {
		if !moves(i) || done[s.Rule] {
			continue
		}
		done[s.Rule] = true
		find := rowLookup(rowReader{row: row, notes: &guards})
		rule := r.slots[s.Rule]
		rule.context.lookUp(find)
		if rule.hasDestination {
			rule.destination.lookUp(find)
		}
	}
	return guards
}

// timesFound counts, by path, the rules that match each value. It returns nil if no two
// paths can match the same value.
func (r *rows) timesFound(row *scan.Row) map[string]int {
	if !slices.ContainsFunc(r.slots, func(s slot) bool { return s.mayOverlap }) {
		return nil
	}
	w := &rowWalk{row: row, counting: true, times: map[string]int{}}
	_ = w.walk(r.slots) // fails only if it splices
	return w.times
}

// rowWalk visits the slots of a row in a fixed order, to list them or to write blobs[i] to
// the i-th slot.
type rowWalk struct {
	row      *scan.Row
	splice   bool
	blobs    [][]byte
	found    []Slot
	seen     int
	failures spliceFailures
	// times is the number of rules that match each value, by path. If counting is set,
	// the walk only fills times. After a value with several rules was refused, its number
	// is 0.
	times    map[string]int
	counting bool
	// stale is Slot.StaleKey of the value that is being visited.
	stale string
}

func (w *rowWalk) walk(slots []slot) error {
	top := scan.Value{Kind: scan.KindM, Map: w.row.Attributes}
	for _, s := range slots {
		top = w.descend(s, top, nil, s.path)
	}
	if w.splice && w.seen != len(w.blobs) {
		return fmt.Errorf("got %d blobs for %s", len(w.blobs), plural.Count(w.seen, "slot"))
	}
	w.row.Attributes = top.Map
	return w.failures.err()
}

// descend follows the remaining steps from v, the value at a path, and returns v with its
// replaced values. It copies only maps and lists that change.
func (w *rowWalk) descend(s slot, v scan.Value, at, left Path) scan.Value {
	if len(left) == 0 {
		return w.visit(s, v, at)
	}
	step, own := left[0], false
	switch {
	case !step.List && v.Kind == scan.KindM:
		names := []string{step.Name}
		if step.Every {
			names = slices.Sorted(maps.Keys(v.Map))
		}
		for _, name := range names {
			member, ok := v.Map[name]
			if !ok {
				continue
			}
			replaced := w.descend(s, member, at.with(Step{Name: name}), left[1:])
			if w.splice {
				if !own {
					v.Map, own = maps.Clone(v.Map), true
				}
				v.Map[name] = replaced
			}
		}
	case step.List && v.Kind == scan.KindL:
		first, end := step.Index, min(step.Index+1, len(v.List))
		if step.Every {
			first, end = 0, len(v.List)
		}
		for i := first; i < end; i++ {
			replaced := w.descend(s, v.List[i], at.with(Step{Index: i, List: true}), left[1:])
			if w.splice {
				if !own {
					v.List, own = slices.Clone(v.List), true
				}
				v.List[i] = replaced
			}
		}
	}
	return v
}

// visit handles the value at the end of a path and returns the value to store.
func (w *rowWalk) visit(s slot, v scan.Value, at Path) scan.Value {
	path := at.String()
	if !w.splice && !w.counting {
		w.stale = s.keys.staleKey(w.row, at)
	}
	switch {
	case v.Kind == scan.KindNull:
		return v
	case w.counting:
		w.times[path]++
		return v
	case w.times != nil && w.times[path] != 1:
		w.refuseShared(s, v, path)
		return v
	case v.Kind == scan.KindB:
		v.Bytes = w.value(s, path, v.Bytes)
	case v.Kind == scan.KindS && !isBinary(s.format):
		v.Text = string(w.value(s, path, []byte(v.Text)))
	case v.Kind == scan.KindBS:
		v.ByteSet = slices.Clone(v.ByteSet)
		for i := range v.ByteSet {
			v.ByteSet[i] = w.value(s, fmt.Sprintf("%s{%d}", path, i), v.ByteSet[i])
		}
	case v.Kind == scan.KindSS && !isBinary(s.format):
		v.Texts = slices.Clone(v.Texts)
		for i := range v.Texts {
			v.Texts[i] = string(w.value(s, fmt.Sprintf("%s{%d}", path, i), []byte(v.Texts[i])))
		}
	default:
		wanted := "B or BS"
		if !isBinary(s.format) {
			wanted = "S, B, SS or BS"
		}
		w.add(Slot{Path: path, Refused: refuse("wrong-type",
			"attribute %s is of type %s, but format %s reads %s", path, v.Kind, s.format, wanted)})
	}
	return v
}

// refuseShared refuses a value that several rules match: each member of a set, and any
// other value once.
func (w *rowWalk) refuseShared(s slot, v scan.Value, path string) {
	if w.times[path] == 0 {
		return // already refused
	}
	w.times[path] = 0
	members := len(v.ByteSet)
	if v.Kind == scan.KindSS {
		members = len(v.Texts)
	}
	if members == 0 {
		w.add(Slot{Path: path, Rule: s.number, Refused: sharedSlot(path)})
	}
	for i := range members {
		member := fmt.Sprintf("%s{%d}", path, i)
		w.add(Slot{Path: member, Rule: s.number, Refused: sharedSlot(member)})
	}
}

// value handles one encoded blob and returns the text to store.
func (w *rowWalk) value(s slot, path string, text []byte) []byte {
	d := decode(s.format, s.padding, text)
	found := s.slotOf(path, d, rowLookup(rowReader{row: w.row}))
	found.StaleKey = w.stale
	i := w.add(found)
	if !w.splice || i >= len(w.blobs) || w.blobs[i] == nil || d.encode == nil {
		return text
	}
	written := d.encode(w.blobs[i])
	if written == nil {
		w.failures.add(i, found, nil)
		return text
	}
	return written
}

// add counts a slot and returns its index.
func (w *rowWalk) add(s Slot) int {
	if !w.splice {
		w.found = append(w.found, s)
	}
	w.seen++
	return w.seen - 1
}

// rowLookup returns the lookup of references to attributes of the row.
func rowLookup(r rowReader) lookup {
	return func(p part) (string, *Refused) {
		v, nowhere := r.at(p.path)
		if nowhere != nil {
			return "", missing(p, fmt.Sprintf("the item has no attribute %s", nowhere))
		}
		switch v.Kind {
		case scan.KindS, scan.KindN:
			return v.Text, nil
		case scan.KindB:
			return base64.StdEncoding.EncodeToString(v.Bytes), nil
		case scan.KindBool:
			return fmt.Sprint(v.Bool), nil
		}
		return "", missing(p, fmt.Sprintf("its type is %s, not S, N, B or BOOL", v.Kind))
	}
}
