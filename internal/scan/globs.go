package scan

import (
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Globs selects items by their paths: those that Include matches, or all if
// Include is empty, except those that Exclude matches. Patterns are those of
// doublestar: * and ? do not match a slash, ** does. A pattern of Exclude that
// matches a directory covers everything in it; so does a pattern of Include
// without wildcards.
type Globs struct{ patterns, include, exclude []string }

// NewGlobs returns Globs for the patterns of a job file, which must be valid.
func NewGlobs(include, exclude []string) Globs {
	g := Globs{patterns: slices.Clone(include), include: slices.Clone(include)}
	for i, pattern := range g.include {
		g.include[i] = withDescendants(pattern)
	}
	for _, pattern := range exclude {
		g.exclude = append(g.exclude, pattern, pattern+"/**")
	}
	return g
}

// withAllBelow returns the doublestar pattern for a pattern of Include. A
// pattern without wildcards also matches everything in a directory of that
// name. A pattern that ends in a slash matches only what is in such a
// directory.
func withDescendants(pattern string) string {
	if strings.HasSuffix(pattern, "/") || pattern != "" && !strings.ContainsAny(pattern, `*?[{\`) {
		return strings.TrimRight(pattern, "/") + "/**"
	}
	return pattern
}

// Chooses reports whether items with this path are selected.
func (g Globs) Selects(path string) bool {
	return (len(g.include) == 0 || matchesAny(g.include, path)) && !g.Excludes(path)
}

// Excludes reports whether Exclude matches a path, or a directory above it.
func (g Globs) Excludes(path string) bool { return matchesAny(g.exclude, path) }

// Include returns the patterns of Include in the form in which they are
// matched.
func (g Globs) Include() []string { return g.include }

// maxCounted is how many patterns of Include are counted: all figures are in each record of a
// checkpoint.
const maxCounters = 500

// Counters returns a counter for each pattern of Include.
func (g Globs) Counters() []Matches {
	var counters []Matches
	for _, pattern := range g.patterns[:min(len(g.patterns), maxCounters)] {
		counters = append(counters, Matches{Pattern: pattern})
	}
	return counters
}

// Count counts an item that was chosen for each pattern of Include that matches its path.
func (g Globs) Count(counters []Matches, path string) {
	for i := range counters {
		if doublestar.MatchUnvalidated(g.include[i], path) {
			counters[i].Items++
		}
	}
}

// Any reports whether there is any pattern.
func (g Globs) Any() bool { return len(g.include)+len(g.exclude) > 0 }

func matchesAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		return doublestar.MatchUnvalidated(pattern, path)
	})
}
