package main

import (
	"testing"

	"rotator/internal/trial"
)

func TestSmoke(t *testing.T) {
	w := trial.Start(t, trial.Config{})
	r := w.Must(t, []int{3}, "run", "-o", "json")
	t.Log(r)
	w.Check(t, r.Summary)
	w.Guards(t)
	w.Secrets(t)
	r = w.Must(t, []int{3}, "verify", "-o", "json")
	t.Log(r.MaxRSS)
}
