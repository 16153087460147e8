package columns

import (
	"strings"
	"testing"
)

// TestTable: a table whose lines fit is printed as a table. Otherwise each row is a block within 80
// columns that has all cells.
func TestTable(t *testing.T) {
	const cell = "a sentence about the row, "
	long := strings.Repeat(cell, 5) + "end"
	for name, c := range map[string]struct{ cell, want string }{
		"narrow": {"2", "NAME  COUNT  WHY\none   2      -\n"},
		"wide":   {strings.Repeat("7", 70), "one\n  count: " + strings.Repeat("7", 70) + "\n"},
		"sentence": {long, "one\n  count: " + cell + cell +
			"a sentence about\n    the row, " + cell + cell + "end\n"},
		"escaped": {"a\tb", "NAME  COUNT  WHY\none   a\\tb   -\n"},
	} {
		table := NewTable("NAME", "COUNT", "WHY")
		table.Row("one", c.cell, "-")
		var b strings.Builder
		if err := table.Text(&b); err != nil || b.String() != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, b.String(), c.want)
		}
		for line := range strings.Lines(b.String()) {
			if len(strings.TrimSuffix(line, "\n")) > Width {
				t.Errorf("%s: %d columns: %s", name, len(line)-1, line)
			}
		}
	}
}
