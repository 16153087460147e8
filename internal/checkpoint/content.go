package checkpoint

// ContentDigest is the digest over the content of the items of one target, except their slots, in
// a read-only pass that read all of it.
type ContentDigest struct {
	// Scheme identifies how the digest is computed. Digests of different schemes cannot be
	// compared.
	Scheme string `json:"scheme"`
	Digest string `json:"digest"` // hexadecimal
	Items  int64  `json:"items"`  // items that the digest covers
	// NotCovered counts items that could not be read wholly, by reason. The digest does not
	// contain them.
	NotCovered map[string]int64 `json:"not_covered,omitempty"`
	// Compared is nil if there was no earlier pass to compare with.
	Compared *ContentComparison `json:"compared,omitempty"`
}

// The values of ContentComparison.Result.
const (
	ContentEqual = "equal"
	// ContentEqualInPart means that the digests are equal, but not all items are covered.
	ContentEqualInPart = "equal-in-part"
	ContentDiffers     = "differs"
)

// ContentComparison is the comparison of a ContentDigest with that of an earlier pass.
type ContentComparison struct {
	Result string `json:"result"`
	// ReadPass is the number of the earlier read-only pass, or 0 if File is set.
	ReadPass int    `json:"read_pass,omitempty"`
	File     string `json:"file,omitempty"`
	// Items and NotCovered are the numbers of items that the earlier pass covered and did not
	// cover.
	Items      int64 `json:"items"`
	NotCovered int64 `json:"not_covered,omitempty"`
	// Differences is nil without a file.
	Differences *ContentDifferences `json:"differences,omitempty"`
}

// ContentDifferences counts the items that differ between two passes.
type ContentDifferences struct {
	Changed int64 `json:"changed"`
	New     int64 `json:"new"`  // only in the later pass
	Gone    int64 `json:"gone"` // only in the earlier pass
	// NotCompared counts items that one of the passes does not cover.
	NotCompared int64 `json:"not_compared"`
	// First are the first of these items.
	First []ContentDifference `json:"first,omitempty"`
}

// ContentDifference is one item that differs between two passes.
type ContentDifference struct {
	Kind string `json:"kind"` // changed, new, gone or not-compared
	Ref  string `json:"ref"`
}

// ContentDigests returns the content digests by target.
func (r ReadPass) ContentDigests() map[string]*ContentDigest {
	digests := map[string]*ContentDigest{}
	for _, target := range r.Targets {
		if target.Content != nil {
			digests[target.Name] = target.Content
		}
	}
	return digests
}

// Uncovered returns the number of items that the digest does not cover.
func (d ContentDigest) Uncovered() (n int64) {
	for _, count := range d.NotCovered {
		n += count
	}
	return n
}

// CompareContent compares a digest with that of an earlier pass, whose digest is before. It
// returns nil if they cannot be compared.
func CompareContent(now, before ContentDigest) *ContentComparison {
	if now.Scheme != before.Scheme {
		return nil
	}
	c := &ContentComparison{
		Result:     ContentEqual,
		Items:      before.Items,
		NotCovered: before.Uncovered(),
	}
	switch {
	case now.Digest != before.Digest || now.Items != before.Items:
		c.Result = ContentDiffers
	case now.Uncovered() > 0 || c.NotCovered > 0:
		c.Result = ContentEqualInPart
	}
	return c
}
