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

func TestDigits(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1000: "-1,000",
		-999: "-999", 22000: "22,000", 1234567: "1,234,567",
		-5000000: "-5,000,000", 123456789012: "123,456,789,012"} {
		if got := Digits(n); got != want {
			t.Errorf("Digits(%d) = %q, want %q", n, got, want)
		}
	}
}
