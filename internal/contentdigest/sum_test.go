package contentdigest

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func digestOf(n int) Digest { return sha256.Sum256(fmt.Append(nil, n)) }

func sumOf(numbers ...int) string {
	var s Sum
	for _, n := range numbers {
		s.Add(digestOf(n))
	}
	return s.Text()
}

// TestSumGolden pins the sum: with another sum, Scheme must change too.
func TestSumGolden(t *testing.T) {
	for want, got := range map[string]string{
		"17d80ed9a7451f0cf2c90d3d3b7f8660502b33e4b6bc86ae56537341b880b6b1": sumOf(),
		"62edba1c7228f2d53a78eec2a1f66805fa9848f80fb29a79d728e078975e18e5": sumOf(1, 2),
	} {
		if got != want {
			t.Errorf("sum %s, want %s", got, want)
		}
	}
}

// TestSumOrder: neither the order of the items nor their division into parts has an influence.
func TestSumOrder(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		numbers := rapid.SliceOfN(rapid.IntRange(0, 5), 0, 12).Draw(r, "numbers")
		order := rapid.Permutation(numbers).Draw(r, "order")
		at := rapid.IntRange(0, len(order)).Draw(r, "at")
		var first, second Sum
		for _, n := range order[:at] {
			first.Add(digestOf(n))
		}
		for _, n := range order[at:] {
			second.Add(digestOf(n))
		}
		first.Merge(&second)
		if first.Text() != sumOf(numbers...) {
			r.Fatalf("the sums of %v and %v differ", numbers, order)
		}
	})
}

// TestSumOfMultisets: different multisets have different sums, also those that an XOR of the
// digests does not distinguish.
func TestSumOfMultisets(t *testing.T) {
	seen := map[string][]int{}
	for _, numbers := range [][]int{{}, {1}, {2}, {1, 1}, {2, 2}, {1, 2}, {1, 1, 2}, {1, 2, 2},
		{1, 1, 1}, {1, 1, 1, 1}, {3, 3}} {
		text := sumOf(numbers...)
		if other, ok := seen[text]; ok {
			t.Errorf("%v and %v have the same sum", numbers, other)
		}
		seen[text] = numbers
	}
}
