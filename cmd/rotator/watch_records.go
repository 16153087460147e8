package main

import (
	"context"
	"errors"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/watch"
)

// jobRecords reads from the checkpoint of a job what watch needs: the ARNs of the source keys,
// and the last requests of rotator. Without a checkpoint nothing is known.
type jobRecords struct {
	c      *jobFlags
	job    *config.Job
	passes *checkpoint.Passes // nil without a checkpoint
}

// openRecords opens the checkpoint of a job for reading. It logs why there is none.
func openRecords(ctx context.Context, c *jobFlags, job *config.Job) *jobRecords {
	r := &jobRecords{c: c, job: job}
	store, err := c.openExisting(ctx, job)
	if err != nil {
		r.unknown(err)
		return r
	}
	r.passes = checkpoint.NewPasses(store, job.Job)
	return r
}

// unknown logs that records could not be read.
func (r *jobRecords) unknown(err error) {
	r.warn("the records of this job cannot be read, so requests of rotator itself may count as "+
		"those of another caller", err)
}

// warn logs an error.
func (r *jobRecords) warn(text string, err error) {
	r.c.logger.Warn(text + ": " + r.c.secrets.Text(r.c.headline(err)))
}

// sources returns the source keys with the ARNs that the last pass had for them. An alias may name
// another key today.
func (r *jobRecords) sources(ctx context.Context) (list []watch.Source) {
	arns := map[string]string{}
	if r.passes != nil {
		last, err := r.passes.Last(ctx)
		if err != nil && !errors.Is(err, checkpoint.ErrNotFound) {
			r.unknown(err)
		}
		for _, key := range last.Sources {
			arns[key.Given] = key.ARN
		}
	}
	for _, given := range r.job.Source.Keys {
		list = append(list, watch.Source{Given: given, ARN: arns[given]})
	}
	return list
}

// own returns what the records and the audit logs have about the requests of rotator.
func (r *jobRecords) own(ctx context.Context) watch.Own {
	if r.passes == nil {
		return watch.Own{}
	}
	o := ownRequests{ids: map[string]bool{}}
	err := o.ofRuns(ctx, r)
	if err == nil {
		err = o.ofReads(ctx, r)
	}
	if err != nil {
		r.unknown(err)
		return watch.Own{}
	}
	if !o.last.IsZero() { // CloudTrail has no fractions of a second
		o.last = o.last.Truncate(time.Second).Add(time.Second)
	}
	return watch.Own{RequestIDs: o.ids, Gaps: o.gaps, Last: o.last}
}

// ofPass returns the time of the last save of a pass.
func (r *jobRecords) ofPass(ctx context.Context, pass checkpoint.Pass) (time.Time, error) {
	last := later(pass.Started, pass.Ended)
	for t, target := range pass.Targets {
		for i := range target.Partitions {
			progress, err := r.passes.Progress(ctx, pass.Number, t, i)
			if err != nil {
				return last, err
			}
			last = later(last, progress.Saved)
		}
	}
	return last, nil
}

// later returns the later one of two times.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
