package rotate

import "slices"

// mark identifies a slot after its item was read again.
type mark struct{ blob, path string }

// sign returns the part of a mark that must be equal. ok is false if the mark lacks this part.
type sign func(mark) (string, bool)

// The signs, from the most to the least reliable. byBlob finds slots whose path has changed, and
// byPath finds slots whose blob was replaced.
func byBoth(m mark) (string, bool) { return m.blob + "\x00" + m.path, m.blob != "" }
func byBlob(m mark) (string, bool) { return m.blob, m.blob != "" }
func byPath(m mark) (string, bool) { return m.path, true }

// match returns, for each mark of wanted, the index of the mark of present with an equal sign, or
// -1. Signs are applied in order. Each mark of present is used at most once, because several slots
// can have the same blob. The time is linear in the number of marks.
func match(wanted, present []mark, signs ...sign) []int {
	found, taken := slices.Repeat([]int{-1}, len(wanted)), make([]bool, len(present))
	for _, sign := range signs {
		free := map[string][]int{}
		for i, m := range present {
			if key, ok := sign(m); ok && !taken[i] {
				free[key] = append(free[key], i)
			}
		}
		for i, m := range wanted {
			key, ok := sign(m)
			if places := free[key]; ok && found[i] < 0 && len(places) > 0 {
				found[i], taken[places[0]], free[key] = places[0], true, places[1:]
			}
		}
	}
	return found
}
