package contentdigest

import "iter"

// The kinds of differences between two passes.
const (
	Changed = "changed" // something other than the slots
	New     = "new"     // the item is only in the later pass
	Gone    = "gone"    // the item is only in the earlier pass
	// NotCompared means that at least one of the passes does not cover the item.
	NotCompared = "not-compared"
)

// Difference is one item that differs between two passes.
type Difference struct {
	Kind string
	Ref  string
}

// Differences are the differences of one target.
type Differences struct {
	Changed, New, Gone, NotCompared int64
	// First are the first differences, in the order of their refs.
	First []Difference
}

// maxFirst is the maximum number of items in Differences.First.
const maxFirst = 10

func (d *Differences) add(kind, ref string) {
	switch kind {
	case Changed:
		d.Changed++
	case New:
		d.New++
	case Gone:
		d.Gone++
	case NotCompared:
		d.NotCompared++
	}
	if len(d.First) < maxFirst {
		d.First = append(d.First, Difference{Kind: kind, Ref: ref})
	}
}

// Compare compares the sorted lines of two passes. It returns the differences by the index of the
// target, for n targets.
func Compare(before, now iter.Seq2[Line, error], n int) ([]Differences, error) {
	nextBefore, stopBefore := iter.Pull2(before)
	defer stopBefore()
	nextNow, stopNow := iter.Pull2(now)
	defer stopNow()
	found := make([]Differences, n)
	a, errA, moreA := nextBefore()
	b, errB, moreB := nextNow()
	for moreA || moreB {
		if errA != nil {
			return nil, errA
		}
		if errB != nil {
			return nil, errB
		}
		order := a.compare(b)
		switch {
		case !moreB:
			order = -1
		case !moreA:
			order = 1
		}
		line, kind := kindOf(a, b, order)
		if kind != "" && line.Target >= 0 && line.Target < n {
			found[line.Target].add(kind, line.Ref)
		}
		if order <= 0 {
			a, errA, moreA = nextBefore()
		}
		if order >= 0 {
			b, errB, moreB = nextNow()
		}
	}
	return found, nil
}

// kindOf returns the kind of the difference of the line that comes first, or "". order is the
// order of a, a line of the earlier pass, and b, a line of the later one.
func kindOf(a, b Line, order int) (line Line, kind string) {
	switch {
	case order < 0:
		return a, Gone
	case order > 0:
		return b, New
	case a.NotCovered != "" || b.NotCovered != "":
		return b, NotCompared
	case a.Digest != b.Digest:
		return b, Changed
	}
	return b, ""
}
