package verdict

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// ways returns the exact binomial coefficient.
func ways(n, k int64) *big.Int { return new(big.Int).Binomial(n, k) }

// probability returns the exact probability that the samples of all parts overlook the wrong
// slots.
func probability(parts []Part, wrong []int64) *big.Rat {
	p := big.NewRat(1, 1)
	for i, part := range parts {
		if wrong[i] > part.Population-part.Checked {
			return new(big.Rat)
		}
		p.Mul(p, new(big.Rat).SetFrac(ways(part.Population-wrong[i], part.Checked),
			ways(part.Population, part.Checked)))
	}
	return p
}

// bruteForce tries all numbers of wrong slots in all parts.
func bruteForce(parts []Part, alpha *big.Rat) (most int64) {
	wrong := make([]int64, len(parts))
	var try func(i int, sum int64)
	try = func(i int, sum int64) {
		if i == len(parts) {
			if probability(parts, wrong).Cmp(alpha) >= 0 {
				most = max(most, sum)
			}
			return
		}
		for n := range parts[i].Population + 1 {
			wrong[i] = n
			try(i+1, sum+n)
		}
		wrong[i] = 0
	}
	try(0, 0)
	return most
}

// The bound of known samples, computed again with exact integers.
func TestMostWrongOfKnownSamples(t *testing.T) {
	for _, test := range []struct {
		population, checked, at95, at99 int64
	}{
		{21_658, 1_000, 63, 97},
		{100_000, 1_000, 297, 457},
		{5_000_000, 50_000, 298, 458},
		{1_000, 1_000, 0, 0},
		{20, 10, 3, 5},
		{20, 19, 1, 1}, // the probability is exactly 5%
		{100, 99, 0, 1},
		{1, 1, 0, 0},
		{7, 0, 7, 7},
	} {
		for _, level := range []struct {
			alpha float64
			exact *big.Rat
			want  int64
		}{{0.05, big.NewRat(1, 20), test.at95}, {0.01, big.NewRat(1, 100), test.at99}} {
			part := Part{Population: test.population, Checked: test.checked}
			if got := MostWrong([]Part{part}, level.alpha); got != level.want {
				t.Errorf("%+v at %v: at most %d wrong, want %d", part, level.alpha, got,
					level.want)
			}
			isPossible := func(m int64) bool {
				if m > part.Population-part.Checked {
					return false
				}
				return exactRatio(part, m).Cmp(level.exact) >= 0
			}
			if !isPossible(level.want) || isPossible(level.want+1) {
				t.Errorf("%+v at %v: %d is not the exact bound", part, level.alpha, level.want)
			}
		}
	}
}

// exactRatio returns C(n-m, k) / C(n, k) as the product of m factors.
func exactRatio(p Part, m int64) *big.Rat {
	top, bottom := big.NewInt(1), big.NewInt(1)
	for j := range m {
		top.Mul(top, big.NewInt(p.Population-p.Checked-j))
		bottom.Mul(bottom, big.NewInt(p.Population-j))
	}
	return new(big.Rat).SetFrac(top, bottom)
}

// The joint bound of several samples is neither the sum nor the largest of the single bounds.
func TestMostWrongOfMergedSamples(t *testing.T) {
	for _, test := range []struct {
		parts []Part
		want  int64
	}{
		{[]Part{{20, 10, 0}, {20, 10, 0}}, 4},
		{[]Part{{4, 2, 0}, {4, 2, 0}}, 3},
		{[]Part{{21_658, 1_000, 0}, {100_000, 1_000, 0}}, 297},
		{[]Part{{5, 0, 0}, {20, 10, 0}}, 8},
		{nil, 0},
	} {
		if got := MostWrong(test.parts, 0.05); got != test.want {
			t.Errorf("%+v: at most %d wrong, want %d", test.parts, got, test.want)
		}
	}
}

func TestMostWrongEqualsBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var parts []Part
		for range rapid.IntRange(1, 3).Draw(t, "parts") {
			n := rapid.Int64Range(0, 14).Draw(t, "population")
			k := rapid.Int64Range(0, n).Draw(t, "checked")
			parts = append(parts, Part{Population: n, Checked: k})
		}
		got, want := MostWrong(parts, 0.05), bruteForce(parts, big.NewRat(1, 20))
		if got != want {
			t.Fatalf("%+v: at most %d wrong, want %d", parts, got, want)
		}
	})
}

// Large populations are computed in little time, and one part equals the same part next to an
// empty one.
func TestMostWrongOfLargePopulations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, 1_000_000_000).Draw(t, "population")
		k := rapid.Int64Range(0, n).Draw(t, "checked")
		one := []Part{{Population: n, Checked: k}}
		single, merged := MostWrong(one, 0.05), MostWrong(append(one, Part{}), 0.05)
		if difference := max(single-merged, merged-single); difference > 1+single/1000 {
			t.Fatalf("n %d, k %d: single %d, merged %d", n, k, single, merged)
		}
		more := MostWrong([]Part{{Population: n, Checked: min(k+1, n)}}, 0.05)
		if more > single+single/1000 {
			t.Fatalf("n %d: %d checks give %d, one more gives %d", n, k, single, more)
		}
	})
}

// TestImplausibleSamples: samples that no pass draws have a bound, too, and it is found soon.
func TestImplausibleSamples(t *testing.T) {
	t.Parallel()
	many := make([]Part, 5000)
	for i := range many {
		many[i] = Part{Population: 1 << 40, Checked: 1}
	}
	for _, parts := range [][]Part{
		{{Population: 1 << 61, Checked: 1}, {Population: 1 << 61, Checked: 1}},
		{{Population: 1 << 61}, {Population: 5, Checked: 5}},
		{{Population: 1 << 40, Checked: 1 << 20}, {Population: 1 << 30, Checked: 1 << 20}},
		many,
	} {
		unchecked := int64(0)
		for _, p := range parts {
			unchecked += p.Population - p.Checked
		}
		s := Joint(parts)
		if s == nil || s.AtMostWrong == nil || *s.AtMostWrong < 0 || *s.AtMostWrong > unchecked {
			t.Errorf("%d parts: %+v", len(parts), s)
		}
	}
}
