package main

import (
	"cmp"
	"slices"
)

// middle is the median; of an even number of values the higher of the two in the
// middle, which flatters nobody who is measured by costs.
func middle[T cmp.Ordered](values []T) (median T) {
	if len(values) == 0 {
		return median
	}
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// ratios are those of two contestants, round by round.
func ratios(over, under []measured) (each []float64) {
	for round := range min(len(over), len(under)) {
		each = append(each, over[round].perItem()/under[round].perItem())
	}
	return each
}

// settled is how many seconds a client has to find its rate: the steady state begins
// with the fourth.
const settled = 3

// steady adds up the seconds from the fourth to the last full one. The very last is
// never full: it ends with the items.
func steady(seconds []second) (sum second, n int) {
	for i := settled; i < len(seconds)-1; i++ {
		sum.Served += seconds[i].Served
		sum.Throttled += seconds[i].Throttled
		n++
	}
	return sum, n
}
