package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"rotator/internal/config"
	"rotator/internal/evidence"
	"rotator/internal/plural"
	"rotator/internal/report/auditlog"
)

const (
	// useEvidence is the name of requests for uploaded segments in notices.
	useEvidence = "evidence"
	// evidenceTimeout is the maximum time of one request for a segment, with its retries.
	evidenceTimeout = 30 * time.Second
	// uploadGrace is the maximum time for which the end of a run waits for uploads.
	uploadGrace = 20 * time.Second
)

// evidenceStore returns the place of the uploaded segments of a job. ok is false if there is none.
func (s streams) evidenceStore(
	ctx context.Context, job *config.Job,
) (store *evidence.Store, ok bool, err error) {
	place, ok := job.EvidenceLocation()
	if !ok {
		return nil, false, nil
	}
	base, err := s.loadAWS(ctx, job.Workers, requestTimeout)
	if err != nil {
		return nil, false, err
	}
	cfg := withTarget(base, place.Region, place.Endpoint, place.RoleARN)
	cfg.APIOptions = append(slices.Clip(cfg.APIOptions), s.outages.Install(useEvidence))
	return evidence.New(stateBucket(cfg), place.Bucket, place.Prefix, job.Job, evidenceTimeout),
		true, nil
}

// checkEvidence returns an error with the line of the job file if evidence names a bucket that does
// not exist. Otherwise a run would notice it only when it uploads its first segment.
func (s streams) checkEvidence(ctx context.Context, job *config.Job) error {
	if job.Evidence == "" {
		return nil // it is the bucket of the checkpoint, or none
	}
	ctx, cancel := context.WithTimeout(ctx, hintTime)
	defer cancel()
	store, ok, err := s.evidenceStore(ctx, job)
	if err != nil || !ok {
		return nil // startUploads logs the error
	}
	if err := store.Check(ctx); err != nil {
		return problem(job, "evidence", err.Error())
	}
	return nil
}

// startUploads begins to upload the closed segments of the audit log in the background. If they
// stay on this machine although other machines share the checkpoint, it logs this.
func (s *state) startUploads(ctx context.Context, job *config.Job) {
	store, ok, err := s.evidenceStore(ctx, job)
	switch {
	case err != nil:
		s.warnUpload(err)
	case ok:
		s.uploads = evidence.Start(ctx, store, s.logPath(), s.log.ID, s.warnUpload)
		s.log.Closed = s.uploads.Wake
	case job.Evidence == "" && job.CheckpointLocation().Shared():
		s.logger.Info("the audit log stays on this machine; set evidence: s3://BUCKET/PREFIX in " +
			"the job file to upload it, or evidence: local to confirm this")
	}
}

// logPath returns the path of the audit log.
func (s *state) logPath() string { return filepath.Join(s.dir, s.name) }

// warnUpload logs why a segment was not uploaded.
func (s *state) warnUpload(err error) {
	s.logger.Warn("the audit log was not uploaded completely; no line is missing here: " +
		s.secrets.Text(err.Error()))
}

// uploadEvidence closes the open segment of the audit log and uploads the segments that are not
// uploaded yet, also those of runs that ended in this directory. A failure does not change the
// result of the run; a note states what was not uploaded.
func (s *session) uploadEvidence(ctx context.Context, state *state) {
	if state.uploads == nil {
		return
	}
	state.uploads.Stop()
	ctx, cancel := context.WithTimeout(ctx, uploadGrace)
	defer cancel()
	err := state.log.CloseSegment()
	if err == nil {
		err = state.log.Unclosed()
	}
	s.noteUpload(state.name, err)
	left, err := state.uploads.Upload(ctx, state.logPath(), state.log.ID())
	s.noteUpload(state.name, err, left...)
	for n := 1; n <= maxLogs; n++ {
		path := numbered(s.job.AuditLog, n)
		if filepath.Base(path) == state.name {
			continue
		}
		left, err := state.uploadSibling(ctx, s.job.Job, path)
		s.noteUpload(filepath.Base(path), err, left...)
	}
}

// noteUpload adds a note that a part of a log was not uploaded because of err, if it is not nil.
func (s *session) noteUpload(log string, err error, left ...string) {
	if err == nil {
		return
	}
	what := "its end"
	if n := len(left); n > 0 {
		what = fmt.Sprintf("%s, the first is %s,", plural.Count(int64(n), "segment"), left[0])
	}
	s.summary.Notes = append(s.summary.Notes, fmt.Sprintf(
		"audit log %s: %s could not be uploaded (%s). No line is missing; the next run in this "+
			"directory tries again", log, what, s.secrets.Text(err.Error())))
}

// uploadSibling uploads another log in the directory of the audit log, unless a run uses it.
func (s *state) uploadSibling(
	ctx context.Context, job, path string,
) (left []string, err error) {
	if exists, err := auditlog.Exists(path); err != nil || !exists {
		return nil, err
	}
	if id, ok := auditlog.AllClosed(path, job); ok {
		return s.uploads.Upload(ctx, path, id)
	}
	log, err := auditlog.Open(path, job)
	if errors.Is(err, auditlog.ErrBusy) || auditlog.IsForeign(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	if err := errors.Join(log.CloseSegment(), log.Unclosed()); err != nil {
		return nil, err
	}
	return s.uploads.Upload(ctx, path, log.ID())
}
