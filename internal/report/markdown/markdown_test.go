package markdown_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"rotator/internal/report/document"
	"rotator/internal/report/markdown"
	"rotator/internal/report/reporttest"
)

var update = flag.Bool("update", false, "write the golden files")

func written(t *testing.T, d *document.Document) string {
	t.Helper()
	var b bytes.Buffer
	if err := markdown.Write(&b, d); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestMarkdown: the text of a saved document is as in the golden file.
func TestMarkdown(t *testing.T) {
	t.Parallel()
	got := written(t, reporttest.Saved(t))
	path := filepath.Join("testdata", "report.md")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; if this is intended, run the test with -update", path)
	}
}

// TestHarmless: hostile names change neither the headings nor the tables, and make no link, image
// or HTML.
func TestHarmless(t *testing.T) {
	t.Parallel()
	got := written(t, reporttest.Attacked(t))
	escaped := regexp.MustCompile(`\\.`)
	columns := 0
	for line := range strings.Lines(got) {
		for _, r := range strings.TrimSuffix(line, "\n") {
			if !unicode.IsPrint(r) {
				t.Errorf("the line %q has the character %U", line, r)
			}
		}
		if strings.HasPrefix(line, "       ") {
			continue // a command, which is code
		}
		plain := escaped.ReplaceAllString(line, "")
		if strings.ContainsAny(plain, "<>`[]~") || strings.Contains(plain, "://") {
			t.Errorf("not escaped: %s", line)
		}
		if strings.HasPrefix(plain, "# head") {
			t.Errorf("a name is a heading: %s", line)
		}
		if !strings.HasPrefix(line, "|") {
			columns = 0
			continue
		}
		if n := strings.Count(plain, "|"); columns == 0 {
			columns = n
		} else if n != columns {
			t.Errorf("a row has %d cells, want %d: %s", n-1, columns-1, line)
		}
	}
}
