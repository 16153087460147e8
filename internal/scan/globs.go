package scan

import (
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Globs selects items by path. It selects all paths that match Include (all paths if Include
// is empty) and do not match Exclude. Patterns have the syntax of doublestar: * and ? do not
// match a slash, ** does. A pattern of Exclude that matches a directory covers everything in
// it. The same is true for a pattern of Include without wildcards.
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

// withDescendants returns the doublestar pattern for a pattern of Include. A pattern without
// wildcards also matches everything in a directory of that name. A pattern that ends with a
// slash matches only what is in such a directory.
func withDescendants(pattern string) string {
	if strings.HasSuffix(pattern, "/") || pattern != "" && !strings.ContainsAny(pattern, `*?[{\`) {
		return strings.TrimRight(pattern, "/") + "/**"
	}
	return pattern
}

// Selects reports whether items with this path are selected.
func (g Globs) Selects(path string) bool {
	return (len(g.include) == 0 || matchesAny(g.include, path)) && !g.Excludes(path)
}

// Excludes reports whether Exclude matches the path or one of its parent directories.
func (g Globs) Excludes(path string) bool { return matchesAny(g.exclude, path) }

// Include returns the patterns of Include in the form in which they are matched.
func (g Globs) Include() []string { return g.include }

// maxCounters is the maximum number of patterns of Include that are counted. Every record of
// a checkpoint contains all counters.
const maxCounters = 500

// Counters returns a zero counter for each pattern of Include, up to maxCounters.
func (g Globs) Counters() []Matches {
	var counters []Matches
	for _, pattern := range g.patterns[:min(len(g.patterns), maxCounters)] {
		counters = append(counters, Matches{Pattern: pattern})
	}
	return counters
}

// Count increments the counter of each pattern of Include that matches the path. It must be
// called for selected items only.
func (g Globs) Count(counters []Matches, path string) {
	for i := range counters {
		if doublestar.MatchUnvalidated(g.include[i], path) {
			counters[i].Items++
		}
	}
}

// Any reports whether there is at least one pattern.
func (g Globs) Any() bool { return len(g.include)+len(g.exclude) > 0 }

func matchesAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		return doublestar.MatchUnvalidated(pattern, path)
	})
}
