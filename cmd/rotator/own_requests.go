package main

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/report/auditlog"
)

const (
	// ownIDs is the maximum number of request ids that are read from one audit log, and the
	// number of ids of read-only passes after which older ones are not read.
	ownIDs = 1000
	// ownReads is the maximum number of read-only passes whose ids are read.
	ownReads = 20
)

// ownRequests collects the requests that rotator sent with the source keys of a job.
type ownRequests struct {
	ids  map[string]bool
	gaps time.Time // before this time, ids may lack requests
	last time.Time // of the last request
}

// gap notes that requests before a time may be missing.
func (o *ownRequests) gap(before time.Time) { o.gaps = later(o.gaps, before) }

// ofRuns adds the requests of runs: their ids from the audit logs that are readable here, and the
// time of the last one from the last pass.
func (o *ownRequests) ofRuns(ctx context.Context, r *jobRecords) error {
	pass, err := r.passes.Last(ctx)
	if errors.Is(err, checkpoint.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	ended, err := r.ofPass(ctx, pass)
	if err != nil {
		return err
	}
	o.last = later(o.last, ended)
	files, err := logsOf(r.job)
	if err != nil {
		r.warn("the audit logs cannot be listed", err)
		o.gap(ended)
	}
	for _, file := range files {
		if err := o.ofLog(file); err != nil {
			r.warn("request ids cannot be read", err)
			o.gap(ended)
		}
	}
	logs, err := r.passes.Logs(ctx, pass)
	for _, log := range logs {
		if !slices.Contains(files, logFile{log.Host, log.Name}.path(r.job)) {
			o.gap(ended) // the log is on another machine
		}
	}
	return err
}

// ofLog adds the last requests in an audit log.
func (o *ownRequests) ofLog(file string) error {
	requests, more, err := auditlog.LastRequests(file, ownIDs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var oldest time.Time
	for _, request := range requests {
		if request.ID == "" {
			o.gap(request.At)
		} else {
			o.ids[request.ID] = true
		}
		if oldest.IsZero() || request.At.Before(oldest) {
			oldest = request.At
		}
		o.last = later(o.last, request.At)
	}
	if more {
		o.gap(oldest)
	}
	return err
}

// ofReads adds the requests of the newest read-only passes.
func (o *ownRequests) ofReads(ctx context.Context, r *jobRecords) error {
	reads, ids := 0, 0
	for read, err := range r.passes.ReadPasses(ctx) {
		switch {
		case err != nil && read.Number == 0:
			return err
		case err != nil:
			r.warn("request ids of a read-only pass cannot be read", err)
			o.gap(later(o.last, time.Now()))
			continue
		}
		o.last = later(o.last, read.Ended)
		if reads == ownReads || ids >= ownIDs {
			o.gap(read.Ended)
			break
		}
		if reads++; read.RequestsFrom.IsZero() {
			o.gap(read.Ended) // an earlier version stored it, without ids
		} else if read.RequestsFrom.After(read.Began) {
			o.gap(read.RequestsFrom)
		}
		for _, id := range read.RequestIDs {
			o.ids[id] = true
		}
		ids += len(read.RequestIDs)
	}
	return nil
}
