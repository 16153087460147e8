package report

import (
	"strings"
	"testing"

	"rotator/internal/checkpoint"
)

// TestContentSentences: a sentence never hides that items are not covered.
func TestContentSentences(t *testing.T) {
	lost := map[string]int64{"too-large": 2, "unread": 1}
	for _, test := range []struct {
		digest checkpoint.ContentDigest
		items  Items
		want   []string
	}{
		{checkpoint.ContentDigest{Items: 7}, Items{}, []string{"there is no earlier digest"}},
		{checkpoint.ContentDigest{Items: 7, Compared: &checkpoint.ContentComparison{
			Result:   checkpoint.ContentEqual,
			ReadPass: 3,
			Items:    7,
		}}, Items{Excluded: 4, Own: 1}, []string{
			"equal to read-only pass 3. Nothing but the slots changed in 7 items.",
			"does not cover skipped items: 4 by include and exclude, 1 of rotator itself.",
		}},
		{checkpoint.ContentDigest{NotCovered: lost, Compared: &checkpoint.ContentComparison{
			Result: checkpoint.ContentEqualInPart,
			File:   "FILE",
			Items:  7,
		}}, Items{}, []string{
			"equal to the file FILE in 7 items. Other items are not covered.",
			"The digest does not cover 3 items: too-large 2, unread 1.",
		}},
		{checkpoint.ContentDigest{Compared: &checkpoint.ContentComparison{
			Result:     checkpoint.ContentDiffers,
			ReadPass:   3,
			Items:      7,
			NotCovered: 2,
		}}, Items{}, []string{
			"differs from read-only pass 3, which covered 7 items and did not cover 2.",
		}},
		{checkpoint.ContentDigest{Compared: &checkpoint.ContentComparison{
			Result: checkpoint.ContentDiffers,
			File:   "FILE",
			Differences: &checkpoint.ContentDifferences{
				Changed:     1,
				New:         2,
				Gone:        3,
				NotCompared: 4,
			},
		}}, Items{}, []string{
			"differs from the file FILE: changed 1, new 2, gone 3, not compared 4.",
		}},
	} {
		got := ContentSentences([]Target{
			{Name: "none"},
			{Name: "customers", Items: test.items, ContentDigest: &test.digest},
		})
		if len(got) != 1 {
			t.Fatalf("%d sentences: %q", len(got), got)
		}
		for _, part := range append(test.want, "content of customers: ") {
			if !strings.Contains(got[0], part) {
				t.Errorf("%q does not contain %q", got[0], part)
			}
		}
	}
}
