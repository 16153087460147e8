// Command prose checks the language of the repository: words.txt lists expressions that must
// not appear in Go comments, Go strings and Markdown, with what to write instead. It also
// checks that lines of Go have at most 100 columns. longlines.txt records how many longer
// lines a file still has: a new file has none, and no file gains one.
//
// Usage: prose [-update] [path ...]
//
// Paths are files or directories, relative to the root of the repository. Without a path,
// prose checks everything below the current directory. Without -update it changes nothing;
// with -update it lowers the counts in longlines.txt and removes files that are gone; if
// there is no such file, it writes one with the counts of today.
// Prose prints one finding a line and exits with 1 if there is at least one.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	update := flag.Bool("update", false, "write lower counts to "+longLines)
	flag.Parse()
	findings, err := run(flag.Args(), *update, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "prose:", err)
		os.Exit(2)
	}
	if findings > 0 {
		os.Exit(1)
	}
}

// run checks the paths, prints each finding to out and returns the number of findings.
func run(paths []string, update bool, out io.Writer) (int, error) {
	if len(paths) == 0 {
		paths = []string{"."}
	}
	files, err := listFiles(paths)
	if err != nil {
		return 0, err
	}
	rules, err := parseRules(words)
	if err != nil {
		return 0, err
	}
	allowed, err := readCounts(longLines)
	if err != nil {
		return 0, err
	}
	found, long := 0, map[string]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return found, err
		}
		hits, err := checkWords(file, text, rules)
		if err != nil {
			return found, err
		}
		for _, hit := range hits {
			fmt.Fprintln(out, hit)
		}
		found += len(hits)
		found += checkWidth(file, text, allowed[file], long, out)
	}
	if update && len(allowed) == 0 {
		allowed = long
	}
	if update {
		return found, writeCounts(longLines, lower(allowed, long))
	}
	return found, nil
}
