package report

import (
	"fmt"

	"rotator/internal/checkpoint"
	"rotator/internal/plural"
)

// Logged is what the audit logs prove about the moved slots of a pass.
type Logged struct {
	Writes, Slots int64
	// Before is true if the logs have lines from before the pass that may be those of another pass
	// with the same number.
	Before bool
	// Missing states why the logs may not contain all writes. It is "" if they do.
	Missing string
}

// MovesError is the error of a pass whose count of moved slots differs from its audit logs.
type MovesError struct {
	Pass            int
	Counted, Proven int64
}

func (e *MovesError) Error() string {
	return fmt.Sprintf("pass %d counts %s as moved, but the audit logs prove %d: the records of "+
		"the checkpoint or the logs were changed, or this is a bug", e.Pass, slots(e.Counted),
		e.Proven)
}

// CompareMoves compares the count of moved slots of a pass with its audit logs, and returns what
// they prove, or why that cannot be checked. It returns "" if nothing was moved. The error is a
// *MovesError.
//
// A pass never counts more slots than the logs prove, because a log is durable before a count is
// saved. It can count fewer: if a run ended before it saved a page, a later run counts the slots of
// the page by what it finds there.
func CompareMoves(pass int, m checkpoint.Moved, l Logged) (proven string, err error) {
	wrong := &MovesError{Pass: pass, Counted: m.Slots, Proven: l.Slots}
	cannot := func(why string) (string, error) {
		return fmt.Sprintf("pass %d counts %s as moved, which cannot be compared with the audit "+
			"logs: %s", pass, slots(m.Slots), why), nil
	}
	switch {
	case m.Slots == 0 && l.Slots == 0:
		return "", nil
	case l.Missing != "":
		return cannot(l.Missing)
	case m.LogsLeftOut:
		return cannot("the checkpoint names only the newest logs of a partition or pass, and " +
			"there may be earlier ones")
	case m.Slots > l.Slots && m.Slots-l.Slots <= m.ByRetries:
		return cannot(fmt.Sprintf("the logs prove %d, and retries have moved %d; the checkpoint "+
			"does not name the log of a retry that was killed", l.Slots, m.ByRetries))
	case m.Slots > l.Slots, m.Slots < l.Slots && m.Once && !l.Before:
		return "", wrong
	}
	proven = fmt.Sprintf("pass %d counts %s as moved, and the audit logs prove that: they have %s",
		pass, slots(m.Slots), plural.Count(l.Writes, "write"))
	if again := l.Writes - l.Slots; again > 0 {
		proven += fmt.Sprintf(", of which %d moved a slot again", again)
	}
	if more := l.Slots - m.Slots; more > 0 {
		proven += fmt.Sprintf(". They prove %s more, which the pass counts with other "+
			"outcomes: if a run ends before it saves a page, a later run counts what it finds "+
			"there", slots(more))
	}
	return proven, nil
}
