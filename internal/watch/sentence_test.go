package watch

import (
	"testing"
	"time"
)

// TestQuietSinceDisabled: the sentence on a disabled key begins at the time of the disabling, not
// at an earlier begin of the period.
func TestQuietSinceDisabled(t *testing.T) {
	begin := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	k := Key{Given: "alias/old", State: "Disabled", Disabled: begin.Add(time.Hour)}
	k.Trail.Asked, k.Trail.From = begin.Add(2*time.Hour), begin
	k.conclude(begin)
	const want = "alias/old is disabled. No call is known to have been refused since " +
		"2026-11-01T01:00:00Z."
	if k.Sentence != want {
		t.Errorf("%s\nwant %s", k.Sentence, want)
	}
}
