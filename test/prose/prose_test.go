package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWords compares the findings in testdata/words with want.txt. Code, struct tags, import
// paths and strings without a space have no findings.
func TestWords(t *testing.T) {
	rules, err := parseRules(words)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, name := range []string{"code.go", "comment.go", "string.go", "text.md"} {
		text, err := os.ReadFile(filepath.Join("testdata", "words", name))
		if err != nil {
			t.Fatal(err)
		}
		findings, err := checkWords(name, text, rules)
		if err != nil {
			t.Fatal(err)
		}
		for _, finding := range findings {
			match, _, _ := strings.Cut(finding, ": write: ")
			fmt.Fprintln(&got, match)
		}
	}
	want, err := os.ReadFile(filepath.Join("testdata", "words", "want.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("found\n%s\nwant\n%s", &got, want)
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

// TestRunSkipsTestdata: the directory has one finding that counts. Files of other kinds,
// testdata and node_modules are not checked.
func TestRunSkipsTestdata(t *testing.T) {
	var out strings.Builder
	findings, err := run([]string{filepath.Join("testdata", "tree")}, false, &out)
	if err != nil {
		t.Fatal(err)
	}
	const hit = "a.md:1:"
	if findings != 1 || !strings.Contains(out.String(), hit) {
		t.Errorf("%d findings, want the one of a.md\n%s", findings, &out)
	}
}
