package checkpoint

import (
	"context"
	"errors"
	"maps"
	"time"
)

// workingParts is the number of times that Working reads the member list within a lease.
const workingParts = 20

// Working reports whether a process that can write is working on the last pass of a job with a
// shared checkpoint: a run or a retry, but not an audit or a verify. It returns the number of the
// pass, or 0. The list can still contain a process that was killed. If it contains any, Working
// calls waits, and waits until an entry changes, but at most for a lease.
func (p *Passes) Working(
	ctx context.Context, lease time.Duration, waits func(),
) (pass int, err error) {
	began := time.Now()
	first, err := p.writers(ctx)
	if err != nil || len(first.heartbeats) == 0 {
		return 0, err
	}
	waits()
	for time.Since(began) <= lease {
		if err := pause(ctx, lease/workingParts); err != nil {
			return 0, err
		}
		now, err := p.writers(ctx)
		switch {
		case err != nil:
			return 0, err
		case len(now.heartbeats) == 0:
			return 0, nil
		case now.pass != first.pass || now.changedSince(first):
			return now.pass, nil
		}
	}
	return 0, nil
}

// writers are the members of a pass that can write, with their heartbeats.
type writers struct {
	pass       int
	heartbeats map[string]int64
}

// changedSince reports whether a member joined, or renewed its entry, after an earlier read.
func (w writers) changedSince(before writers) bool {
	for id, heartbeat := range w.heartbeats {
		if last, known := before.heartbeats[id]; !known || last != heartbeat {
			return true
		}
	}
	return false
}

// writers reads the members that can write. Of a pass that has finished, these are its retries.
// Entries of an earlier version count.
func (p *Passes) writers(ctx context.Context) (w writers, err error) {
	var r memberList
	_, err = p.fetch(ctx, p.memberListID(), "roster", &r)
	if errors.Is(err, ErrNotFound) {
		return w, nil
	}
	if err == nil && r.Form > memberListForm {
		err = &SchemaError{ID: p.memberListID(), Schema: r.Form, Known: memberListForm}
	}
	if err != nil {
		return w, err
	}
	w = writers{pass: r.Of, heartbeats: map[string]int64{}}
	if r.Form == 0 {
		w.pass = r.Pass
	}
	last, err := p.Pass(ctx, w.pass)
	if errors.Is(err, ErrNotFound) || errors.As(err, new(*PrunedError)) {
		return w, nil
	}
	if err != nil {
		return w, err
	}
	ended := last.Status == Finished
	for id, m := range r.Members {
		if m.Writes || !m.Observer && !ended {
			w.heartbeats[id] = m.Heartbeat
		}
	}
	maps.Copy(w.heartbeats, r.Former)
	if !ended {
		maps.Copy(w.heartbeats, r.Workers)
	}
	return w, nil
}
