package report

import (
	"errors"
	"strings"
	"testing"

	"rotator/internal/checkpoint"
)

// TestCompareMoves: a count that the logs do not prove is refused with both figures, and nothing
// is claimed about a pass whose logs may be incomplete.
func TestCompareMoves(t *testing.T) {
	t.Parallel()
	type moved = checkpoint.Moved
	forty := Logged{Writes: 40, Slots: 40}
	for name, test := range map[string]struct {
		counted moved
		logged  Logged
		want    string // part of what is proven; "" for an error
	}{
		"nothing":           {moved{}, Logged{}, "nothing"},
		"equal":             {moved{Slots: 40}, forty, "they have 40 writes"},
		"moved again":       {moved{Slots: 40}, Logged{Writes: 43, Slots: 40}, "of which 3 moved"},
		"one more counted":  {moved{Slots: 41}, Logged{Writes: 43, Slots: 40}, ""},
		"all more counted":  {moved{Slots: 1}, Logged{}, ""},
		"one more proven":   {moved{Slots: 39}, forty, "prove 1 slot more"},
		"by the only run":   {moved{Slots: 39, Once: true}, forty, ""},
		"by another pass":   {moved{Slots: 39, Once: true}, Logged{40, 40, true, ""}, "1 slot mo"},
		"killed retry":      {moved{Slots: 42, ByRetries: 2}, forty, "retries have moved 2"},
		"more than retries": {moved{Slots: 43, ByRetries: 2}, forty, ""},
		"logs left out":     {moved{Slots: 40, LogsLeftOut: true}, forty, "only the newest logs"},
		"missing":           {moved{Slots: 40}, Logged{40, 40, false, "why"}, "audit logs: why"},
	} {
		proven, err := CompareMoves(7, test.counted, test.logged)
		wrong := (*MovesError)(nil)
		switch {
		case test.want == "" && (!errors.As(err, &wrong) || wrong.Counted != test.counted.Slots ||
			wrong.Proven != test.logged.Slots):
			t.Errorf("%s: %q, %v, want an error with both figures", name, proven, err)
		case test.want == "nothing" && (proven != "" || err != nil):
			t.Errorf("%s: %q, %v, want nothing", name, proven, err)
		case test.want != "" && test.want != "nothing" &&
			(err != nil || !strings.Contains(proven, test.want)):
			t.Errorf("%s: %q, %v, want %q", name, proven, err, test.want)
		}
	}
}
