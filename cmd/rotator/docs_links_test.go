package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	linkForm    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headingForm = regexp.MustCompile(`(?m)^#+ (.+)$`)
	// testForm and pathForm match names of tests and paths of this repository in code spans.
	testForm = regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]+)`")
	pathForm = regexp.MustCompile("`((?:internal|cmd|test|deploy|docs)/[a-z0-9_./-]+)`")
)

// manuals returns the text of each Markdown file for users and developers, by its path.
func manuals(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "deploy/*/*.md"} {
		paths, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v, %v", pattern, paths, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[filepath.Clean(path)] = string(text)
		}
	}
	return texts
}

// TestLinksInDocuments: each relative link leads to a file and a heading that exist.
func TestLinksInDocuments(t *testing.T) {
	texts := manuals(t)
	for path, text := range texts {
		for _, link := range linkForm.FindAllStringSubmatch(text, -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			name, anchor, hasAnchor := strings.Cut(link[1], "#")
			target := path
			if name != "" {
				target = filepath.Join(filepath.Dir(path), name)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: link to %s: there is no such file", path, link[1])
			} else if hasAnchor && !slices.Contains(anchors(texts[target]), anchor) {
				t.Errorf("%s: link to %s: there is no such heading", path, link[1])
			}
		}
	}
}

// anchors returns the anchors that GitHub makes of the headings of a text.
func anchors(text string) (all []string) {
	for _, heading := range headingForm.FindAllStringSubmatch(text, -1) {
		words := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', '0' <= r && r <= '9', 'a' <= r && r <= 'z':
				return r
			}
			return -1
		}, strings.ToLower(heading[1]))
		all = append(all, words)
	}
	return all
}

// TestNamesInDocuments: the tests and the paths that documents name exist.
func TestNamesInDocuments(t *testing.T) {
	code := testSources(t)
	for path, text := range manuals(t) {
		if filepath.Base(path) == "CHANGELOG.md" {
			continue // it may name what no longer exists
		}
		for _, name := range testForm.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(code, fmt.Sprintf("func %s(", name[1])) {
				t.Errorf("%s: there is no test %s", path, name[1])
			}
		}
		for _, name := range pathForm.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join("..", "..", name[1])); err != nil {
				t.Errorf("%s: there is no file %s", path, name[1])
			}
		}
	}
}

// testSources returns the text of all test files of the repository.
func testSources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
