package main

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/evidence"
	"rotator/internal/report/auditlog"
)

const (
	// ownIDs is the maximum number of request ids that are read from one audit log, and the
	// number of ids of read-only passes after which older ones are not read.
	ownIDs = 1000
	// ownReads is the maximum number of read-only passes whose ids are read.
	ownReads = 20
	// ownLogs is the maximum number of uploaded audit logs that are read.
	ownLogs = 64
)

// ownRequests collects the requests that rotator sent with the source keys of a job.
type ownRequests struct {
	ids  map[string]bool
	gaps time.Time // before this time, ids may lack requests
	last time.Time // of the last request
}

// gap notes that requests before a time may be missing.
func (o *ownRequests) gap(before time.Time) { o.gaps = later(o.gaps, before) }

// ofRuns adds the requests of runs: their ids from the audit logs here and from the uploaded ones,
// and the time of the last one from the last pass.
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
	uploaded, err := o.ofUploaded(ctx, r, files)
	if err != nil {
		r.warn("the uploaded audit logs cannot be read", err)
		o.gap(ended)
	}
	logs, err := r.passes.Logs(ctx, pass)
	for _, log := range logs {
		if !slices.Contains(files, logFile{log.Host, log.Name}.path(r.job)) &&
			uploaded[log.ID] < log.Lines {
			o.gap(ended) // the log, or its end, is on another machine
		}
	}
	return err
}

// ofUploaded adds the last requests in the newest uploaded audit logs that are not among files. It
// returns the last lines of these logs, by id.
func (o *ownRequests) ofUploaded(
	ctx context.Context, r *jobRecords, files []string,
) (lines map[string]int64, err error) {
	store, ok, err := r.c.evidenceStore(ctx, r.job)
	if err != nil || !ok {
		return nil, err
	}
	logs, err := store.Logs(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(logs, func(a, b evidence.Log) int {
		return b.Uploaded().Compare(a.Uploaded())
	})
	here := map[string]bool{}
	for _, file := range files {
		here[auditlog.IDOf(file)] = true
	}
	lines = map[string]int64{}
	for _, log := range logs {
		switch {
		case here[log.ID]:
			continue
		case len(lines) == ownLogs:
			o.gap(log.Uploaded())
			return lines, nil
		case int64(len(log.Objects)) != log.Objects[len(log.Objects)-1].Number:
			o.gap(log.Uploaded()) // segments are missing
		}
		requests, more, last, err := auditlog.LastRequestsIn(store.Segments(ctx, log), ownIDs)
		o.add(requests, more)
		if err != nil {
			return lines, err
		}
		lines[log.ID] = last
	}
	return lines, nil
}

// ofLog adds the last requests in an audit log.
func (o *ownRequests) ofLog(file string) error {
	requests, more, err := auditlog.LastRequests(file, ownIDs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	o.add(requests, more)
	return err
}

// add adds the last requests in an audit log. more reports whether the log has earlier ones.
func (o *ownRequests) add(requests []auditlog.Request, more bool) {
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
