package rotate_test

import (
	"maps"
	"testing"

	"rotator/internal/checkpoint"
	"rotator/internal/reencrypt"
	"rotator/internal/report"
	"rotator/internal/report/auditlog"
	"rotator/internal/verdict"
)

// checkSums checks the sums of a result, also those that only records of this version have: each
// moved slot has the key that it was under, and each slot that could not be moved has an origin.
func checkSums(t *testing.T, what string, s *report.Summary) {
	t.Helper()
	if err := s.Check(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	pass := s.VerdictPass()
	for _, target := range pass.Targets {
		slots, old := target.Slots, target.Keys[oldKey]
		var moved, origins int64
		for _, k := range target.Keys {
			moved += k.Moved
		}
		for _, n := range target.Origins {
			origins += n
		}
		left := old.Slots - old.Moved - old.Unreadable
		if moved != slots.Rotated || old.Moved != slots.Rotated {
			t.Errorf("%s: %d slots were moved, %d according to their keys", what, slots.Rotated,
				moved)
		}
		if origins != slots.Failed+slots.Conflict {
			t.Errorf("%s: %+v, but %d slots have an origin", what, slots, origins)
		}
		if left < slots.Remaining || left > slots.Remaining+slots.Failed+slots.Conflict {
			t.Errorf("%s: %+v, but %d slots are left under the source key", what, slots, left)
		}
	}
	checkVerdict(t, what, s, pass)
}

// logged returns what the audit logs of all machines prove about the moves of a pass.
func (h *history) logged(pass checkpoint.Pass) report.Logged {
	moves := auditlog.NewMoves(pass.Number, pass.Started, 0)
	for _, disk := range h.disks {
		disk.mu.Lock()
		for _, l := range disk.lines {
			if l.written {
				moves.Add(l.record)
			}
		}
		disk.mu.Unlock()
	}
	return report.Logged{Writes: moves.Writes(), Slots: moves.Slots(), Before: moves.Before()}
}

// checkMoves checks that the audit logs prove the count of moved slots, as report --check does. It
// also checks that a larger count is refused.
func (h *history) checkMoves(t *testing.T, passes *checkpoint.Passes, pass checkpoint.Pass) {
	t.Helper()
	logged := h.logged(pass)
	counted, err := passes.Moved(t.Context(), pass)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := report.CompareMoves(pass.Number, counted, logged); err != nil {
		t.Errorf("%v: %+v, %+v", err, counted, logged)
	}
	if counted.Slots > logged.Slots || counted.LogsLeftOut {
		t.Errorf("pass %d counts %+v, but the logs of all machines prove %+v", pass.Number, counted,
			logged)
	}
	h.countMoves(counted, logged)
	counted.Slots = logged.Slots + counted.ByRetries + 1
	if _, err := report.CompareMoves(pass.Number, counted, logged); err == nil {
		t.Errorf("pass %d: %+v is accepted, but the logs prove %+v", pass.Number, counted, logged)
	}
}

// countMoves counts the relations of a count and the logs that histories must have.
func (h *history) countMoves(counted checkpoint.Moved, logged report.Logged) {
	switch {
	case logged.Slots > counted.Slots:
		h.count("logs prove more moves")
	case counted.Once && logged.Slots > 0:
		h.count("moves of one run")
	}
	if logged.Writes > logged.Slots {
		h.count("moved again")
	}
}

// checkVerdict checks that no verdict rests on figures that have ciphertexts under the source key.
func checkVerdict(t *testing.T, what string, s *report.Summary, pass verdict.Pass) {
	t.Helper()
	v := verdict.Decide(verdict.Input{
		Now:         pass.Started,
		Destination: newKey,
		Key:         verdict.Key{ARN: oldKey, Symmetric: true, State: "Enabled"},
		Passes:      []verdict.Pass{pass},
	})
	blocks := s.Slots.Remaining + s.Slots.Rotated
	for _, target := range pass.Targets {
		blocks += target.Origins[oldKey] + target.Origins[string(checkpoint.OriginUnknown)]
	}
	if v.Exit == 0 && blocks > 0 {
		t.Errorf("%s: %+v, but the verdict is %s", what, s.Slots, v.Sentence)
	}
	if v.Exit != 4 && s.Slots.Remaining > 0 {
		t.Errorf("%s: %+v, but the verdict is %s", what, s.Slots, v.Sentence)
	}
}

// checkLedger compares the reasons and origins of ledger entries with the counts of their pass.
func checkLedger(
	t *testing.T, pass int, entries []checkpoint.LedgerEntry, counts checkpoint.Counts,
) {
	t.Helper()
	reasons, origins := map[string]int64{}, map[checkpoint.Origin]int64{}
	for _, e := range entries {
		reasons[e.Outcome+"/"+e.Reason]++
		if e.Origin != "" {
			origins[e.Origin]++
		}
	}
	if !maps.Equal(reasons, nonNil(counts.Reasons)) ||
		!maps.Equal(origins, nonNil(counts.Origins)) {
		t.Errorf("pass %d: the ledger has the reasons %v and origins %v, but the counts are %v "+
			"and %v", pass, reasons, origins, counts.Reasons, counts.Origins)
	}
}

func simSources() []checkpoint.Key {
	return []checkpoint.Key{{ARN: oldKey, Given: oldKey, Algorithm: reencrypt.Symmetric}}
}

func nonNil[K comparable](m map[K]int64) map[K]int64 {
	if m == nil {
		return map[K]int64{}
	}
	return m
}

// checkStoredRead stores the counts of an audit as a read-only pass, as the audit command does, and
// checks the sums of what is read from the checkpoint.
func (h *history) checkStoredRead(t *testing.T, name string, totals map[string]checkpoint.Counts) {
	t.Helper()
	passes := checkpoint.NewPasses(h.store, "job")
	stored, err := passes.StoreReadPass(t.Context(), checkpoint.ReadPass{
		Command: "audit",
		Status:  checkpoint.Finished,
		Targets: []checkpoint.ReadTarget{{Name: "target", Counts: totals["target"]}},
	})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	read, err := passes.ReadPass(t.Context(), stored.Number)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	s := &report.Summary{Status: report.Complete, ReadPass: read.Number}
	s.SetSources(simSources(), false)
	s.SetTargets([]report.TargetInfo{{Name: "target"}}, read.Totals())
	s.Conclude()
	checkSums(t, name, s)
	if s.Slots.Rotated != 0 {
		t.Errorf("%s: a read-only pass counts %+v", name, s.Slots)
	}
}
