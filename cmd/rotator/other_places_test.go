package main

import (
	"strings"
	"testing"
)

const (
	sameAccountRole  = "arn:aws:iam::111122223333:role/reader"
	otherAccountRole = "arn:aws:iam::444455556666:role/reader"
)

// TestResumedElsewhere: a run resumes a pass with another role. If the role is of another account,
// the pass is no proof, because it reads two places.
func TestResumedElsewhere(t *testing.T) {
	const doubt = "target customers was read with account 111122223333"
	for _, test := range []struct {
		name, role string
		doubted    bool
	}{
		{"a role of the same account", sameAccountRole, false},
		{"a role of another account", otherAccountRole, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newCrashBench(t, 5, 1000)
			b.begin(t)
			b.edit(t, "{table: customers", `{role_arn: "`+test.role+`", table: customers`)
			s, _, log := b.rotator(t, exitDone, "run")
			if s.Pass != 1 || s.Slots.Rotated != 5 {
				t.Errorf("the pass was not resumed: pass %d, %+v", s.Pass, s.Slots)
			}
			notes := strings.Join(s.Notes, "\n")
			for where, text := range map[string]string{"notes": notes, "stderr": log} {
				if strings.Contains(text, doubt) != test.doubted {
					t.Errorf("%s: %s", where, text)
				}
			}
			s, _, log = b.rotator(t, exitDone, "run") // a pass of its own, which reads one place
			if len(s.Verdicts) != 1 || s.Verdicts[0].Reason != "can-be-disabled" {
				t.Errorf("the next pass: %+v\n%s", s.Verdicts, log)
			}
		})
	}
}
