package main

import (
	"strings"
	"testing"
)

// TestProgressStatesTheWait: the progress of a run without a share of the rate states what the run
// waits for.
func TestProgressStatesTheWait(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		now  reading
		want string
	}{
		{reading{limit: 100, needsRate: true}, "working"},
		{reading{needsWork: true}, "waiting for work"},
		{reading{needsRate: true}, "waiting for a share of the rate"},
		{reading{}, "working"},
	} {
		if got := test.now.doing(); !strings.HasPrefix(got, test.want) {
			t.Errorf("%+v: %s, want %s", test.now, got, test.want)
		}
	}
}
