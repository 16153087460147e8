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
// and when rotator sent its last request. Without a checkpoint nothing is known.
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
	r.c.logger.Warn("the records of this job cannot be read, so requests of rotator itself may " +
		"count as those of another caller: " + r.c.secrets.Text(r.c.headline(err)))
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

// own returns what the records have about the requests of rotator. The ids of requests are not
// in the records yet.
func (r *jobRecords) own(ctx context.Context) watch.Own {
	if r.passes == nil {
		return watch.Own{}
	}
	last, err := r.lastRequest(ctx)
	if err != nil {
		r.unknown(err)
		return watch.Own{}
	}
	return watch.Own{Last: last}
}

// lastRequest returns a time after which rotator sent no request, in whole seconds because
// CloudTrail has no fractions, or zero.
func (r *jobRecords) lastRequest(ctx context.Context) (last time.Time, err error) {
	pass, err := r.passes.Last(ctx)
	switch {
	case errors.Is(err, checkpoint.ErrNotFound):
	case err != nil:
		return last, err
	default:
		if last, err = r.ofPass(ctx, pass); err != nil {
			return last, err
		}
	}
	for read, err := range r.passes.ReadPasses(ctx) {
		if err != nil {
			return last, err
		}
		last = later(last, read.Ended)
		break // the newest one
	}
	if last.IsZero() {
		return last, nil
	}
	return last.Truncate(time.Second).Add(time.Second), nil
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
