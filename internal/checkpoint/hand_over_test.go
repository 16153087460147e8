package checkpoint

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// fullPage completes a page of n items. pages is the number of pages of the partition.
func fullPage(t *testing.T, tracker *Tracker, partition, at, pages int, items int64) {
	t.Helper()
	ticket, err := tracker.Begin(t.Context(), partition)
	if err != nil {
		t.Fatal(err)
	}
	counts := Counts{Items: ItemCounts{Seen: items}}
	ticket.Complete([]byte(strconv.Itoa(at+1)), at+1 == pages, counts, nil)
}

// TestLittleWorkIsNotHandedOver: a run hands over a partition only if it has work left for
// several seconds. It estimates this from the size of partitions that are done, also by other
// runs. If no size is known, it hands over.
func TestLittleWorkIsNotHandedOver(t *testing.T) {
	const pages, items = 10, 50 // of each partition; one page a second is completed
	for name, c := range map[string]struct {
		done      int // partitions that are done
		byAnother bool
		left      int // pages of the last two partitions together
		want      bool
	}{
		"no partition is done":      {0, false, 2, true},
		"little is left":            {1, false, 2, false},
		"much is left":              {1, false, 10, true},
		"another run did the first": {1, true, 2, false},
		"another run, much left":    {1, true, 10, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				passes, pass := begin(t, 2+c.done)
				giver, _, stopGiver := worker(t, passes, pass, "giver")
				other := giver
				if c.byAnother {
					var stopOther func()
					other, _, stopOther = worker(t, passes, pass, "other")
					defer stopOther()
				}
				finish := finishOne(t, other, c.done)
				claims := claimTwo(t, giver)
				for page := range pages {
					if finish >= 0 {
						fullPage(t, other, finish, page, pages, items)
					}
					if page < pages-c.left/2 {
						for _, claim := range claims {
							fullPage(t, giver, claim.Index, page, pages, items)
						}
						time.Sleep(time.Second)
					}
				}
				time.Sleep(time.Second) // until the pages are saved
				taker, _, stopTaker := worker(t, passes, pass, "taker")
				go func() { _, _, _ = taker.Claim(t.Context()) }()
				got := false
				select {
				case <-claims[0].HandOver:
					got = true
				case <-claims[1].HandOver:
					got = true
				case <-time.After(5 * time.Second):
				}
				if got != c.want {
					t.Errorf("a partition was handed over: %v, want %v", got, c.want)
				}
				stopTaker()
				stopGiver()
			})
		})
	}
}

// finishOne lets a run claim a partition that it will finish, and returns it, or -1.
func finishOne(t *testing.T, tracker *Tracker, n int) int {
	t.Helper()
	if n == 0 {
		return -1
	}
	c, ok, err := tracker.Claim(t.Context())
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	return c.Index
}

func claimTwo(t *testing.T, tracker *Tracker) (claims [2]Claim) {
	t.Helper()
	for i := range claims {
		c, ok, err := tracker.Claim(t.Context())
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		claims[i] = c
	}
	return claims
}
