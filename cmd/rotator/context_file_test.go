package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"testing"

	"rotator/internal/report"
)

// TestContextAdded: a row that failed since the file of contexts did not know its
// name is moved by retry once the file does, in the same pass. A wrong context
// fails at KMS, and changes nothing.
func TestContextAdded(t *testing.T) {
	b := newRowBench(t)
	first := b.run(t).Slots
	c := credstashClient()
	missed := b.rows[c.format][slices.IndexFunc(b.rows[c.format], func(r clientRow) bool { return r.refused == "missing-context" })]
	retry := func(contexts string) (s report.Summary) {
		t.Helper()
		b.write(t, "contexts.csv", "name,key,value\ndb/password,env,prod\ndb/password,role,db\nplain,,\n"+contexts)
		cmd := exec.CommandContext(t.Context(), os.Args[0], "retry", "-f", "job.yaml", "-o", "json")
		cmd.Dir = b.dir
		cmd.Env = append(append(os.Environ(), b.server.AWSEnv()...), "ROTATOR_TEST_RUN=1")
		out, _ := cmd.Output()
		if err := json.Unmarshal(out, &s); err != nil {
			t.Fatalf("%v, exit code %d: %s", err, cmd.ProcessState.ExitCode(), out)
		}
		return s
	}
	if s := retry("not/listed,env,dev\n"); s.Slots != first {
		t.Errorf("with a wrong context: %+v", s.Slots)
	}
	if s := retry("not/listed,,\n"); s.Slots.Rotated != first.Rotated+1 || s.Slots.Failed != first.Failed-1 {
		t.Errorf("with the right context: %+v", s.Slots)
	}
	b.disable(t, true)
	missed.row["name"] = textOf("not/listed")
	if got, err := b.read(t.Context(), c, missed); err != nil || got != "k4" {
		t.Errorf("read %q, %v", got, err)
	}
}
