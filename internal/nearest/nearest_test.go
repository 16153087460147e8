package nearest

import (
	"slices"
	"testing"
)

// A finder returns the names that are most similar to the wanted one, for any
// order and number of names, and a name in another case first.
func TestFinder(t *testing.T) {
	names := []string{"created", "ssn", "Docs", "doc", "dogs", "id", "docs2", "tenant"}
	for range 2 {
		f := Finder{Want: "docs", Most: 3, Within: MaxDistance("docs")}
		for _, name := range names {
			f.Add(name)
			f.Add(name)
		}
		var got []string
		for _, n := range f.Names() {
			got = append(got, n.Text)
		}
		if want := []string{"Docs", "doc", "docs2"}; !slices.Equal(got, want) {
			t.Errorf("nearest to docs: %q, want %q", got, want)
		}
		slices.Reverse(names)
	}
}
