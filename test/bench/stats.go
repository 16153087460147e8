package main

import (
	"cmp"
	"slices"
)

// middle returns the median of the values, and the zero value if there are none. Of an even
// number of values it returns the upper of the two in the middle.
func middle[T cmp.Ordered](values []T) (median T) {
	if len(values) == 0 {
		return median
	}
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// ratios returns the ratios of two candidates, one for each round.
func ratios(over, under []measured) (each []float64) {
	for round := range min(len(over), len(under)) {
		each = append(each, over[round].perItem()/under[round].perItem())
	}
	return each
}

// settleSeconds is the number of seconds in which a client finds its rate. The steady state
// begins after them.
const settleSeconds = 3

// steady adds up the seconds of the steady state. It leaves out the last second, which is
// never complete.
func steady(seconds []second) (sum second, n int) {
	for i := settleSeconds; i < len(seconds)-1; i++ {
		sum.Served += seconds[i].Served
		sum.Throttled += seconds[i].Throttled
		n++
	}
	return sum, n
}
