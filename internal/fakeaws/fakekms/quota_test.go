package fakekms

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestQuotaWindow: take returns true exactly if it returned true fewer times than the limit
// in the second before.
func TestQuotaWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		gaps := rapid.SliceOfN(rapid.IntRange(0, 600), 1, 50).Draw(t, "gaps (ms)")
		var q quota
		q.set(limit)
		now := time.Unix(1_700_000_000, 0)
		var taken []time.Time
		for _, gap := range gaps {
			now = now.Add(time.Duration(gap) * time.Millisecond)
			recent := 0
			for _, at := range taken {
				if now.Sub(at) < time.Second {
					recent++
				}
			}
			got := q.take("111122223333", now)
			if got != (recent < limit) {
				t.Fatalf("take with %d of %d requests in the last second: %v", recent, limit, got)
			}
			if got {
				taken = append(taken, now)
			}
		}
		if !q.take("444455556666", now) {
			t.Fatal("a request counts for another account")
		}
	})
}
