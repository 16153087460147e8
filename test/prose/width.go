package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// longLines has a line "COUNT FILE" for each file that still has longer lines.
	longLines = "test/prose/longlines.txt"
	// mostColumns is the width that a line of Go may have. A tab counts as four columns.
	mostColumns = 100
)

// checkWidth records in long how many lines of a Go file are too long. If these are more
// than allowed, it prints each of them to out and returns their number, otherwise 0.
func checkWidth(file string, text []byte, allowed int, long map[string]int, out io.Writer) int {
	if filepath.Ext(file) != ".go" || isGenerated(text) {
		return 0
	}
	var findings []string
	for i, line := range strings.Split(string(text), "\n") {
		width := utf8.RuneCountInString(line) + 3*strings.Count(line, "\t")
		if width > mostColumns {
			findings = append(findings,
				fmt.Sprintf("%s:%d: %d columns, want at most %d", file, i+1, width, mostColumns))
		}
	}
	if len(findings) > 0 {
		long[file] = len(findings)
	}
	if len(findings) <= allowed {
		return 0
	}
	fmt.Fprintf(out, "%s: %d lines are too long, %s allows %d:\n",
		file, len(findings), longLines, allowed)
	for _, finding := range findings {
		fmt.Fprintln(out, "  "+finding)
	}
	return len(findings)
}

// lower returns the counts of found that do not exceed those of allowed.
func lower(allowed, found map[string]int) map[string]int {
	result := map[string]int{}
	for file, count := range allowed {
		if left := min(count, found[file]); left > 0 {
			result[file] = left
		}
	}
	return result
}

// readCounts reads longlines.txt. A missing file has no counts.
func readCounts(path string) (map[string]int, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]int{}, nil
	}
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	scanner := bufio.NewScanner(bytes.NewReader(text))
	for scanner.Scan() {
		var count int
		var file string
		if _, err := fmt.Sscanf(scanner.Text(), "%d %s", &count, &file); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, scanner.Text(), err)
		}
		counts[file] = count
	}
	return counts, scanner.Err()
}

// writeCounts writes longlines.txt.
func writeCounts(path string, counts map[string]int) error {
	var text strings.Builder
	for _, file := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&text, "%d %s\n", counts[file], file)
	}
	return os.WriteFile(path, []byte(text.String()), 0o644)
}
