package fault

import "testing"

// TestDraw: how many requests are hit, and which, is as it was set.
func TestDraw(t *testing.T) {
	hits := func(f Fault, requests int) (n int, first int) {
		i := New(1)
		i.Set("s3:GetObject", f)
		for r := range requests {
			if i.draw("s3:GetObject").Kind == Throttle {
				if n == 0 {
					first = r
				}
				n++
			}
		}
		return n, first
	}
	if n, _ := hits(Fault{Kind: Throttle}, 10); n != 10 {
		t.Errorf("all: %d of 10", n)
	}
	if n, first := hits(Fault{Kind: Throttle, Skip: 3, Times: 2}, 10); n != 2 || first != 3 {
		t.Errorf("two, after three: %d from %d on", n, first)
	}
	if n, _ := hits(Fault{Kind: Throttle, Share: 0.25}, 4000); n < 900 || n > 1100 {
		t.Errorf("a quarter: %d of 4000", n)
	}
	i := New(1)
	i.Set("*", Fault{Kind: Throttle})
	i.Set("s3:PutObject", Fault{})
	if i.draw("s3:GetObject").Kind != Throttle || i.draw("s3:PutObject").Kind != None {
		t.Error("* stands for operations that have no fault of their own, and no others")
	}
	i.Clear("")
	if i.draw("s3:GetObject").Kind != None || i.Counts()["s3:GetObject"] != 2 {
		t.Error("Clear takes all faults off, and no counts")
	}
}
