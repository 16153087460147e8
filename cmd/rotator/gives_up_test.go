package main

import (
	"testing"
	"time"

	"rotator/internal/harness"
)

// TestGivesUpIn: if a service stays unavailable, each command gives up when its log has announced
// this, and ends when it has saved its results. For the checkpoint no time is announced, because
// a command can continue without it for some time.
func TestGivesUpIn(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("outages take too long for -short")
	}
	for _, command := range []string{"run", "audit", "verify", "retry"} {
		for _, service := range []string{"KMS", "S3", "credentials", "checkpoint"} {
			t.Run(command+" "+service, func(t *testing.T) {
				t.Parallel()
				givesUpIn(t, command, awayCase{service: service, mode: refusing})
			})
		}
	}
}

func givesUpIn(t *testing.T, command string, c awayCase) {
	config := harness.Config{MaxOutage: "6s", Extra: "lease: 3s"}
	if c.service == "checkpoint" {
		config.Checkpoint = harness.InTable
	}
	config.Items, config.Objects = harness.Mix(4)
	w := newTrial(t, config)
	if command == "retry" {
		w.Must(t, complete(), "run", "-o", "json")
	}
	replaceInJob(t, w, "rate: 5000", "rate: 10")
	args := []string{command, "-o", "json"}
	if command == "audit" || command == "verify" {
		args = append(args, "--exact")
	}
	p := w.Command(args...)
	front := c.put(t, w, p)
	p.Begin(t)
	until(t, "the first requests", requestsSent(w, 10))
	front.set(t, refusing)
	began := time.Now()
	r := p.End(t)
	ended := time.Now()
	announced := false
	t.Log(r.String())
	for _, l := range outageLines(r.Log) {
		in, err := time.ParseDuration(l.GivesUpIn)
		if err != nil {
			continue
		}
		announced = true
		late := ended.Sub(l.Time) - in
		t.Logf("%v after the cut: %s gives up in %s; it ended %v after that", l.Time.Sub(began),
			l.Service, in, late)
		if late < -2*time.Second || late > shutdownGrace+slack() {
			t.Errorf("the command ended %v after the announced time: %s", late, r)
		}
	}
	if announced != (c.service != "checkpoint") || r.Code != exitUnavailable {
		t.Errorf("want exit code %d, announced unless the service is the checkpoint: %s",
			exitUnavailable, r)
	}
}
