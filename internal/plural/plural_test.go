package plural

import "testing"

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0 slots", 1: "1 slot", 2: "2 slots", 11: "11 slots"} {
		if got := Count(n, "slot"); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
		if got := Form(n, "remains", "remain"); (got == "remains") != (n == 1) {
			t.Errorf("Form(%d) = %q", n, got)
		}
	}
}
