package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// check runs the word check over one file.
func check(t *testing.T, file, text string) []string {
	t.Helper()
	rules, err := parseRules(words)
	if err != nil {
		t.Fatal(err)
	}
	findings, err := checkWords(file, []byte(text), rules)
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

func TestWords(t *testing.T) {
	for _, c := range []struct {
		name, file, text string
		want             []string // the file, line and match of each finding
	}{
		{
			name: "comment over two lines",
			file: "a.go",
			text: "package a\n\n// F says\n// whether it is done.\nfunc F() {}\n",
			want: []string{`a.go:3: "says whether"`},
		},
		{
			name: "string with spaces",
			file: "a.go",
			text: "package a\n\nconst s = \"nobody is left\"\n",
			want: []string{`a.go:3: "nobody"`},
		},
		{
			name: "strings without spaces, tags and import paths",
			file: "a.go",
			text: "package a\n\nimport _ \"nobody/who is\"\n\ntype T struct {\n" +
				"\tF int `json:\"who, nobody\"`\n}\n\nconst s = \"who\"\n",
		},
		{
			name: "identifiers",
			file: "a.go",
			text: "package a\n\nfunc who() { who() }\n",
		},
		{
			name: "Markdown outside of code",
			file: "a.md",
			text: "So many `who` files.\n\n```\nnobody\n```\n\nThe worker is told.\n",
			want: []string{`a.md:1: "So many"`, `a.md:7: "is told"`},
		},
		{
			name: "sentence with Else",
			file: "a.md",
			text: "It stops. Else it goes on. Anything else is fine.\n",
			want: []string{`a.md:1: ". Else i"`},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, finding := range check(t, c.file, c.text) {
				got = append(got, strings.Split(finding, ": write: ")[0])
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

func TestWidth(t *testing.T) {
	fits, long := strings.Repeat("x", 96), strings.Repeat("x", 97)
	text := "\t" + fits + "\n\t" + long + "\n"
	for _, c := range []struct {
		name          string
		allowed, want int
	}{
		{"a new file", 0, 1},
		{"a file with that number of long lines", 1, 0},
		{"a file that has lost one", 2, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			counts := map[string]int{}
			var out strings.Builder
			if got := checkWidth("a.go", []byte(text), c.allowed, counts, &out); got != c.want {
				t.Errorf("%d findings, want %d\n%s", got, c.want, &out)
			}
			lowered := lower(map[string]int{"a.go": c.allowed, "gone.go": 3}, counts)
			if lowered["a.go"] != min(1, c.allowed) || lowered["gone.go"] != 0 {
				t.Errorf("lowered counts are %v", lowered)
			}
		})
	}
}

func TestRunChecksTheFilesOfADirectory(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.md":              "Whoever reads this.\n",
		"testdata/b.md":     "Nobody reads this.\n",
		"node_modules/c.md": "Nobody reads this.\n",
		"d.txt":             "Nobody reads this.\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	findings, err := run([]string{dir}, false, &out)
	if err != nil || findings != 1 || !strings.Contains(out.String(), "a.md:1") {
		t.Errorf("%d findings, %v, want the one of a.md\n%s", findings, err, &out)
	}
}
