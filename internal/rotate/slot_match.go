package rotate

import "slices"

// mark is what a slot is found again by, after its item was read anew.
type mark struct{ blob, path string }

// sign is the part of a mark that counts; false where a mark has none.
type sign func(mark) (string, bool)

// The signs, from the surest on. Blobs alone find slots whose paths have shifted,
// paths alone those whose blob was replaced.
func byBoth(m mark) (string, bool) { return m.blob + "\x00" + m.path, m.blob != "" }
func byBlob(m mark) (string, bool) { return m.blob, m.blob != "" }
func byPath(m mark) (string, bool) { return m.path, true }

// match finds each of wanted among there, by the first sign that does, and returns
// where; -1 for what is not there. Nothing is found twice, since several slots may
// have one blob. It takes time in proportion to both.
func match(wanted, there []mark, signs ...sign) []int {
	found, taken := slices.Repeat([]int{-1}, len(wanted)), make([]bool, len(there))
	for _, sign := range signs {
		free := map[string][]int{}
		for i, m := range there {
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
