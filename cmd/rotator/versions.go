package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/plural"
	"rotator/internal/reencrypt"
	"rotator/internal/report"
	"rotator/internal/rotate"
	"rotator/internal/scan/s3scan"
)

// versionTargets returns the targets whose old versions are read, each with a lister of its old
// versions and without a writer.
func (s *session) versionTargets() (list []rotate.Target) {
	for i, t := range s.targets(false) {
		if bucket, ok := t.Lister.(*s3scan.Bucket); ok && s.job.Targets[i].ReadsVersions() {
			t.Lister = bucket.OldVersions()
			list = append(list, t)
		}
	}
	return list
}

// readVersions decides about all slots in old versions of objects, as a read-only pass does.
// worked is the error that ended it early.
func (s *session) readVersions(ctx context.Context) (worked, err error) {
	targets := s.versionTargets()
	if len(targets) == 0 {
		return nil, nil
	}
	worked, err = s.walkVersions(ctx, targets, s.exact)
	if wrong := (*reencrypt.HeaderError)(nil); err == nil && errors.As(worked, &wrong) {
		worked, err = s.walkVersions(ctx, targets, true)
	}
	s.summary.Ended = time.Now().UTC()
	if worked != nil {
		s.summary.Status = report.Stopped
	}
	return worked, err
}

func (s *session) walkVersions(
	ctx context.Context, targets []rotate.Target, exact bool,
) (worked, err error) {
	p, err := s.openPass(ctx, checkpoint.NewMemory(), targets, checkpoint.TrackOptions{}, false)
	if err != nil {
		return nil, err
	}
	config := s.engineConfig(targets, checkpoint.Pass{}, readOnlyRecorder{})
	config.Exact = exact
	engine := rotate.New(config)
	stop := s.progress(engine, p.tracker)
	worked = engine.Run(ctx, p.tracker, p.partitions)
	stop()
	worked = s.withKeyState(ctx, worked)
	before := s.headers // of the objects themselves
	s.count(engine)
	s.headers = before
	s.versions, err = p.passes.Totals(ctx, p.record)
	return worked, err
}

// versionsOf returns the counts of the old versions of a target, or nil if they were not read.
func (s *session) versionsOf(target string) *checkpoint.Counts {
	if c, read := s.versions[target]; read {
		return &c
	}
	return nil
}

// oldVersionsLeft returns an *outcomeError if old versions of objects are under a source key, or
// nil.
func (s *session) oldVersionsLeft() error {
	n := s.summary.OldVersionsLeft()
	if n == 0 {
		return nil
	}
	return &outcomeError{code: exitRemaining, text: fmt.Sprintf(
		"%s of objects %s under a source key; no run moves %s, so keep the key until a lifecycle "+
			"rule has deleted %[3]s", plural.Count(n, "old version"), plural.Form(n, "is", "are"),
		plural.Form(n, "it", "them"))}
}
