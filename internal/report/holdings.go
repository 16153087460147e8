package report

import (
	"maps"
	"slices"

	"rotator/internal/checkpoint"
)

// Holding counts the slots of one target under one key.
type Holding struct {
	Target string
	Key    string // ARN; "" for slots whose key is not known
	// Found counts the slots as the pass found them, and Left those that are under the key after
	// the pass. Both include slots that KMS cannot decrypt.
	Found, Left int64
	ByHeader    int64 // slots of Found whose key only a header named
}

// Holdings lists the slots of each target by their key. In each target, both Found and Left have
// the sum Slots.Seen. It must be called after SetTargets and SetSources.
func (s *Summary) Holdings() (list []Holding) {
	for _, t := range s.Targets {
		list = append(list, s.holdingsOf(t)...)
	}
	return list
}

func (s *Summary) holdingsOf(t Target) (list []Holding) {
	rest := t.counts.Slots.Seen
	moved := s.movedFrom(t.counts)
	arns := slices.Collect(maps.Keys(t.counts.Keys))
	if _, found := t.counts.Keys[s.DestinationKey]; !found && t.counts.Slots.Rotated > 0 {
		arns = append(arns, s.DestinationKey)
	}
	slices.Sort(arns)
	for _, arn := range arns {
		n := t.counts.Keys[arn]
		rest -= n.Slots
		h := Holding{
			Target:   t.Name,
			Key:      arn,
			Found:    n.Slots,
			Left:     n.Slots - moved[arn],
			ByHeader: n.ByHeader(),
		}
		if arn == s.DestinationKey {
			h.Left += t.counts.Slots.Rotated
		}
		list = append(list, h)
	}
	if rest != 0 {
		list = append(list, Holding{Target: t.Name, Found: rest, Left: rest})
	}
	return list
}

// movedFrom returns the moved slots of a target by the key from which they were moved. Earlier
// versions did not count them by key; then they are taken from the source keys in turn.
func (s *Summary) movedFrom(c checkpoint.Counts) map[string]int64 {
	moved, rest := map[string]int64{}, c.Slots.Rotated
	for arn, n := range c.Keys {
		moved[arn] = n.Rotated
		rest -= n.Rotated
	}
	for _, key := range s.sourceKeys() {
		n := max(0, min(rest, c.Keys[key.ARN].Slots-moved[key.ARN]))
		moved[key.ARN] += n
		rest -= n
	}
	return moved
}

// UnderSource counts the slots under a source key: as the pass found them, and after the pass.
func (s *Summary) UnderSource() (found, left int64) {
	sources := s.sourceKeys()
	for _, h := range s.Holdings() {
		if slices.ContainsFunc(sources, func(k checkpoint.Key) bool { return k.ARN == h.Key }) {
			found += h.Found
			left += h.Left
		}
	}
	return found, left
}
