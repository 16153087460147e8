package checkpoint

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestNeeds: while another run holds the only partition, a run needs a partition. Once it has the
// partition, it needs a share of the rate.
func TestNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, pass := begin(t, 1)
		first := join(t, passes, pass, "first")
		stop := runUntil(t, first)
		claimAll(t, first)
		second, _, stopSecond := worker(t, passes, pass, "second")
		defer stopSecond()
		claimed := make(chan error, 1)
		go func() {
			_, _, err := second.Claim(t.Context())
			claimed <- err
		}()
		expect := func(partition, rate bool) {
			t.Helper()
			time.Sleep(2 * time.Second)
			if p, r := second.Needs(); p != partition || r != rate {
				t.Errorf("the second run needs a partition: %v, a share of the rate: %v", p, r)
			}
		}
		if p, r := first.Needs(); p || !r {
			t.Errorf("the first run needs a partition: %v, a share of the rate: %v", p, r)
		}
		expect(true, false)
		stop()
		if err := first.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-claimed; err != nil {
			t.Fatal(err)
		}
		expect(false, true)
	})
}
