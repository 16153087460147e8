package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
)

// stopPatience is the documented maximum time from a stop signal to the end of a command, whether
// or not services respond.
const stopPatience = 10 * time.Second

// away makes the service of a checkpoint give no usable response.
func away(w *harness.Env, c harness.Config, f fault.Fault) {
	reads, writes := w.StateOperations()
	if c.Checkpoint == harness.InBucket {
		f.Of = ofBucket("state")
	}
	w.Fault(reads, f)
	w.Fault(writes, f)
}

// outages returns the ways in which a service can be unavailable.
func outages() map[string]fault.Fault {
	return map[string]fault.Fault{
		"server errors": {Kind: fault.InternalError},
		"resets":        {Kind: fault.Reset},
		"no answer":     {Delay: time.Minute},
	}
}

// claimed is a number of requests after which a run has claimed most of its partitions. While its
// checkpoint is unavailable, a run has only the work that it has claimed.
const claimed = 60

// unsaved is a number of requests after which at least one item was moved. On a busy machine
// a run may have claimed few partitions, so this number is small.
const unsaved = 5

// terminatedInOutage: SIGTERM while the service of the checkpoint is unavailable ends a command in
// time with 75, because the outage was shorter than max_outage. A message reports that not
// everything was saved. The next run finds what was written.
func terminatedInOutage(t *testing.T, c harness.Config) {
	c.Rate, c.MaxOutage, c.Segments = 40, "5m", 8
	var stopping []stoppedCommand
	for name, f := range outages() {
		w := newTrial(t, c)
		p := runs(w).Begin(t)
		until(t, "the first requests", requestsSent(w, claimed))
		away(w, c, f)
		until(t, "requests whose outcome is not saved", requestsSent(w, unsaved))
		stopping = append(stopping, sendStop(t, name, w, p))
	}
	back := outageThatEnds(t, c)
	retry := retryInOutage(t, c)
	for _, p := range stopping {
		r := p.end(t)
		if r.Summary != nil || !strings.Contains(r.Log, "not everything could be saved") {
			t.Errorf("%s: want no result, and a message that not everything was saved: %s",
				p.name, r)
		}
		calm(t, p.world)
		p.world.CountsVary() // slots that were written but not saved
		if r := toTheEnd(t, p.world); r.Summary.Pass != 1 {
			t.Errorf("%s: pass %d ended, want pass 1", p.name, r.Summary.Pass)
		}
		p.world.Must(t, []int{exitDone}, "report", "--check")
	}
	back(t)
	retry(t)
	stoppedBeforeThePass(t, c)
}

// outageThatEnds: if the service becomes available in time, everything is saved, and nothing else
// is reported.
func outageThatEnds(t *testing.T, c harness.Config) (ended func(*testing.T)) {
	w := newTrial(t, c)
	p := runs(w).Begin(t)
	until(t, "the first requests", requestsSent(w, claimed))
	away(w, c, fault.Fault{Kind: fault.InternalError})
	until(t, "requests whose outcome is not saved", requestsSent(w, unsaved))
	stopping := sendStop(t, "an outage that ends", w, p)
	time.AfterFunc(2*time.Second, func() { w.Server.Faults().Clear("") })
	return func(t *testing.T) {
		if r := stopping.end(t); r.Summary == nil ||
			strings.Contains(r.Log, "not everything could be saved") {
			t.Errorf("the outage ended in time: want a result and no warning: %s", r)
		}
		calm(t, w)
		toTheEnd(t, w) // with the same counts as without an outage
	}
}

// retryInOutage: the same for a retry. The slots that it moved stay in the ledger until the next
// retry.
func retryInOutage(t *testing.T, c harness.Config) (ended func(*testing.T)) {
	c.Items, c.Objects = map[harness.Kind]int{harness.Ordinary: 40}, map[harness.Kind]int{}
	w := newTrial(t, c)
	deniedOnce(t, w)
	p := w.Command("retry", "-o", "json").Begin(t)
	until(t, "the first requests", requestsSent(w, 10))
	away(w, c, fault.Fault{Kind: fault.InternalError})
	stopping := sendStop(t, "a retry", w, p)
	return func(t *testing.T) {
		if r := stopping.end(t); r.Summary != nil ||
			!strings.Contains(r.Log, "not everything could be saved") {
			t.Errorf("retry: want no result, and a message that not everything was saved: %s", r)
		}
		calm(t, w)
		w.Check(t, w.Must(t, []int{exitDone}, "retry", "-o", "json").Summary)
	}
}

// stoppedBeforeThePass: the same for commands that have not read the pass yet.
func stoppedBeforeThePass(t *testing.T, c harness.Config) {
	w := newTrial(t, c)
	reads, writes := w.StateOperations()
	for _, command := range []string{"run", "retry", "status"} {
		away(w, c, fault.Fault{Kind: fault.InternalError})
		before := w.Requests(reads) + w.Requests(writes)
		p := w.Command(command, "-o", "json").Begin(t)
		until(t, "a request to the checkpoint", func() bool {
			return w.Requests(reads)+w.Requests(writes) > before
		})
		if r := sendStop(t, command, w, p).end(t); r.Out != "" {
			t.Errorf("%s prints a result before it has read the pass: %s", command, r)
		}
		w.Server.Faults().Clear("")
	}
	calm(t, w)
	toTheEnd(t, w)
}

// calm ends all faults, and makes the next run fast.
func calm(t *testing.T, w *harness.Env) {
	t.Helper()
	w.Server.Faults().Clear("")
	replaceInJob(t, w, "rate: 40", "rate: 5000")
}

// deniedOnce runs a pass in which every slot is denied and gets into the ledger. Later requests are
// allowed.
func deniedOnce(t *testing.T, w *harness.Env) {
	t.Helper()
	w.Server.KMS().SetPolicy(func(c fakekms.Call) bool {
		return c.Action != "kms:ReEncryptFrom" || c.EncryptionContext["tenant"] == ""
	})
	w.Must(t, []int{exitExceptions}, "run", "-o", "json")
	w.Server.KMS().SetPolicy(nil)
}

// stoppedCommand is a command that was sent SIGTERM.
type stoppedCommand struct {
	name    string
	world   *harness.Env
	process *harness.Process
	before  time.Duration // minimum age of the process when the signal was sent
}

func sendStop(t *testing.T, name string, w *harness.Env, p *harness.Process) stoppedCommand {
	t.Helper()
	p.Signal(t, syscall.SIGTERM)
	return stoppedCommand{name, w, p, p.Age()}
}

// end waits for the process, and checks the properties of every command that gets a stop signal
// while the service of its checkpoint is unavailable.
func (p stoppedCommand) end(t *testing.T) harness.Result {
	t.Helper()
	r := p.process.End(t)
	if took := r.Took - p.before; took > stopPatience+slack() {
		t.Errorf("%s took %s to stop: %s", p.name, took.Round(time.Millisecond), r)
	}
	stopped(t, p.world, r, exitInterrupted)
	if strings.Contains(r.Log, "writable") ||
		strings.Contains(r.Log, "progress up to the last save") {
		t.Errorf("%s: the hint is for another error: %s", p.name, r)
	}
	return r
}
