package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"rotator/internal/checkpoint"
	"rotator/internal/columns"
	"rotator/internal/plural"
)

// contents writes the content digests of the targets.
func (l *lines) contents(targets []Target) {
	table := columns.NewTable("TARGET", "CONTENT DIGEST", "ITEMS", "NOT COVERED")
	for _, t := range targets {
		if d := t.ContentDigest; d != nil {
			table.Row(t.Name, d.Digest, d.Items, d.Uncovered())
		}
	}
	l.tables(table)
	for _, t := range targets {
		if t.ContentDigest == nil {
			continue
		}
		l.line("")
		l.paragraph(contentSentence(t))
		if c := t.ContentDigest.Compared; c != nil && c.Differences != nil {
			for _, d := range c.Differences.First {
				l.line("  %s  %s", d.Kind, d.Ref)
			}
		}
	}
}

// ContentSentences states for each target with a content digest what it shows.
func ContentSentences(targets []Target) (sentences []string) {
	for _, t := range targets {
		if d := t.ContentDigest; d != nil {
			sentences = append(sentences, fmt.Sprintf("%s The digest is %s, of %s (%s).",
				contentSentence(t), d.Digest, plural.Count(d.Items, "item"), d.Scheme))
		}
	}
	return sentences
}

// contentSentence states what the content digest of a target shows.
func contentSentence(t Target) string {
	d := t.ContentDigest
	text := fmt.Sprintf("content of %s: ", t.Name)
	if d.Compared == nil {
		text += "there is no earlier digest to compare with."
	} else {
		text += comparisonText(*d.Compared)
	}
	return text + uncoveredText(*d) + excludedText(t.Items)
}

func comparisonText(c checkpoint.ContentComparison) string {
	with := "the file " + c.File
	if c.File == "" {
		with = fmt.Sprintf("read-only pass %d", c.ReadPass)
	}
	switch c.Result {
	case checkpoint.ContentEqual:
		return fmt.Sprintf("equal to %s. Nothing but the slots changed in %s.", with,
			plural.Count(c.Items, "item"))
	case checkpoint.ContentEqualInPart:
		return fmt.Sprintf("equal to %s in %s. Other items are not covered.", with,
			plural.Count(c.Items, "item"))
	}
	if d := c.Differences; d != nil {
		return fmt.Sprintf("differs from %s: changed %d, new %d, gone %d, not compared %d.", with,
			d.Changed, d.New, d.Gone, d.NotCompared)
	}
	return fmt.Sprintf("differs from %s, which covered %s and did not cover %d. To learn which "+
		"items differ, keep a file of each first pass (--content-digest-file).", with,
		plural.Count(c.Items, "item"), c.NotCovered)
}

// uncoveredText states why items are not covered, with a leading space, or "".
func uncoveredText(d checkpoint.ContentDigest) string {
	if len(d.NotCovered) == 0 {
		return ""
	}
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(d.NotCovered)) {
		reasons = append(reasons, fmt.Sprintf("%s %d", reason, d.NotCovered[reason]))
	}
	return fmt.Sprintf(" The digest does not cover %s: %s.", plural.Count(d.Uncovered(), "item"),
		strings.Join(reasons, ", "))
}

// excludedText states how many items were skipped, with a leading space, or "".
func excludedText(i Items) string {
	if i.Excluded+i.Own == 0 {
		return ""
	}
	return fmt.Sprintf(" It does not cover skipped items: %d by include and exclude, %d of "+
		"rotator itself.", i.Excluded, i.Own)
}

// SetContentDigests sets the content digests of the targets, by name. It must be called after
// SetTargets.
func (s *Summary) SetContentDigests(digests map[string]*checkpoint.ContentDigest) {
	for i := range s.Targets {
		s.Targets[i].ContentDigest = digests[s.Targets[i].Name]
	}
}
