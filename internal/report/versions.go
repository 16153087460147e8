package report

import "rotator/internal/checkpoint"

// Versions are the old versions of the objects of a target. No run moves them.
type Versions struct {
	counts   checkpoint.Counts
	Versions int64    `json:"versions"` // that were read
	Slots    Slots    `json:"slots"`
	Keys     []Key    `json:"keys"`
	Reasons  []Reason `json:"reasons"`
}

// SetVersions sets the counts of old versions by target. It must be called after SetTargets and
// before ResolveTokens and Conclude.
func (s *Summary) SetVersions(counts map[string]checkpoint.Counts) {
	for i := range s.Targets {
		c, read := counts[s.Targets[i].Name]
		if !read {
			continue
		}
		s.Targets[i].Versions = &Versions{
			counts:   c,
			Versions: c.Items.Seen,
			Slots:    slotsOf(c),
			Keys:     keysOf(c),
			Reasons:  reasonsOf(c),
		}
	}
}

// OldVersionsLeft returns the number of ciphertexts in old versions of objects that are under a
// source key.
func (s *Summary) OldVersionsLeft() (n int64) {
	for _, t := range s.Targets {
		if t.Versions != nil {
			n += t.Versions.Slots.Remaining
		}
	}
	return n
}

// versions lists the old versions of objects that were read, and their keys.
func (l *lines) versions(targets []Target) {
	first := true
	for _, t := range targets {
		if t.Versions == nil {
			continue
		}
		if first {
			l.line("")
			l.line("OLD VERSIONS\tREAD\tSLOTS\tUNDER SOURCE KEYS\tFAILED")
			first = false
		}
		v := t.Versions
		l.line("%s\t%d\t%d\t%d\t%d", t.Name, v.Versions, v.Slots.Seen, v.Slots.Remaining,
			v.Slots.Failed)
	}
}
