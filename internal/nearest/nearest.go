// Package nearest finds the existing names that are most similar to a missing
// name, for messages that suggest a correction.
package nearest

import (
	"cmp"
	"slices"
	"strings"
)

// maxName is the maximum length in bytes of a name that is compared. Longer
// names are skipped, so that the work per name is bounded.
const maxName = 255

// Name is an existing name and its edit distance to the wanted name.
type Name struct {
	Text     string
	Distance int
}

// Distance returns the number of bytes to insert, delete or replace to turn a
// into b. It ignores case.
func Distance(a, b string) int {
	a, b = strings.ToLower(a), strings.ToLower(b)
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// Finder keeps the Most names that are nearest to the wanted name. Its memory does not grow with
// the number of names that are added.
type Finder struct {
	Want string
	Most int
	// Within is the largest distance of a name that is kept; 0 means any distance.
	Within int

	found []Name
}

// Add considers one name.
func (f *Finder) Add(name string) {
	if len(name) > maxName || len(f.Want) > maxName {
		return
	}
	n := Name{Text: name, Distance: Distance(f.Want, name)}
	if f.Within > 0 && n.Distance > f.Within || slices.Contains(f.found, n) {
		return
	}
	f.found = append(f.found, n)
	slices.SortFunc(f.found, func(a, b Name) int {
		return cmp.Or(cmp.Compare(a.Distance, b.Distance), cmp.Compare(a.Text, b.Text))
	})
	f.found = f.found[:min(len(f.found), f.Most)]
}

// Names returns the kept names, the nearest first.
func (f *Finder) Names() []Name { return f.found }

// MaxDistance returns the largest distance at which a name is probably a misspelling
// of want.
func MaxDistance(want string) int { return max(2, len(want)/2) }
