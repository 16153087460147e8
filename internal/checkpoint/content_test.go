package checkpoint

import "testing"

// TestCompareContent: only digests that cover all items of both passes are equal.
func TestCompareContent(t *testing.T) {
	digest := func(scheme, digest string, items, uncovered int64) ContentDigest {
		d := ContentDigest{Scheme: scheme, Digest: digest, Items: items}
		if uncovered > 0 {
			d.NotCovered = map[string]int64{"unread": uncovered}
		}
		return d
	}
	before := digest("a", "00", 2, 0)
	for _, test := range []struct {
		name   string
		now    ContentDigest
		before ContentDigest
		want   string
	}{
		{"the same", digest("a", "00", 2, 0), before, ContentEqual},
		{"another digest", digest("a", "01", 2, 0), before, ContentDiffers},
		{"fewer items", digest("a", "00", 1, 0), before, ContentDiffers},
		{"not covered now", digest("a", "00", 2, 1), before, ContentEqualInPart},
		{"not covered before", digest("a", "00", 2, 0), digest("a", "00", 2, 1),
			ContentEqualInPart},
		{"another scheme", digest("b", "00", 2, 0), before, ""},
	} {
		got := ""
		if c := CompareContent(test.now, test.before); c != nil {
			got = c.Result
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
