package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"go.uber.org/zap"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/evidence"
	"rotator/internal/report"
	"rotator/internal/report/auditlog"
)

// state holds the checkpoint and the audit log of a run.
type state struct {
	streams
	store checkpoint.Store
	log   *auditlog.Log
	name  string // of the audit log's file
	dir   string // of the audit log, as an absolute path
	// uploads uploads the segments of the audit log; nil if they stay here.
	uploads *evidence.Uploader
	// broken are the audit logs that lack a line that the checkpoint has recorded.
	broken []checkpoint.AuditLog
	lock   *checkpoint.Lock // nil if the checkpoint is shared
	// worker is the id of this process among those that share the checkpoint.
	worker string
	lease  time.Duration // 0 if the checkpoint is not shared
}

// openState opens the checkpoint and the audit log, and creates them if necessary.
func openState(ctx context.Context, c *jobFlags, job *config.Job) (*state, error) {
	s := &state{streams: c.streams, worker: rand.Text(), dir: filepath.Dir(job.AuditLog)}
	if dir, err := filepath.Abs(s.dir); err == nil {
		s.dir = dir
	}
	if err := c.checkEvidence(ctx, job); err != nil {
		return nil, err
	}
	opened := s.openFile
	if job.CheckpointLocation().Shared() {
		s.lease = time.Duration(job.Lease)
		opened = s.openShared
	}
	if err := opened(ctx, job); err != nil {
		s.close()
		return nil, err
	}
	s.log.SegmentSize = int64(job.AuditLogSegment)
	s.startUploads(ctx, job)
	if torn := s.log.Torn(); torn > 0 {
		c.logger.Warn("removed the last line of the audit log, which is incomplete because of a "+
			"crash",
			zap.Int("bytes", torn))
	}
	return s, nil
}

// openFile opens a checkpoint in a file. It takes the lock, which one run can hold at a time.
func (s *state) openFile(_ context.Context, job *config.Job) (err error) {
	path := job.CheckpointLocation().File
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return &storageError{what: "create the directory of the checkpoint", err: err}
	}
	s.lock, err = checkpoint.AcquireLock(path)
	if locked := (*checkpoint.LockedError)(nil); errors.As(err, &locked) {
		return err
	}
	if err != nil {
		return &storageError{what: "lock the checkpoint", err: err}
	}
	if s.store, err = checkpoint.CreateFile(path); err != nil {
		return &storageError{what: "open the checkpoint", err: err}
	}
	s.name = filepath.Base(job.AuditLog)
	if s.log, err = auditlog.Open(job.AuditLog, job.Job); err != nil {
		return logProblem(job, err)
	}
	return nil
}

// logProblem returns the error of an audit log. If the file is not an audit log of the job, it
// is a problem of the job file.
func logProblem(job *config.Job, err error) error {
	if auditlog.IsForeign(err) {
		return problem(job, "audit_log", err.Error())
	}
	return &storageError{what: "open the audit log", err: err}
}

// openShared opens a checkpoint that several runs share.
func (s *state) openShared(ctx context.Context, job *config.Job) (err error) {
	if s.store, err = s.sharedStore(ctx, job, patienceBefore(job)); err != nil {
		return beforePass(err)
	}
	if probed, ok := s.store.(*checkpoint.S3); ok {
		if err := probed.CheckConditions(ctx); err != nil {
			return beforePass(storeProblem(job, "test the checkpoint", err))
		}
	}
	if err := os.MkdirAll(filepath.Dir(job.AuditLog), 0o700); err != nil {
		return &storageError{what: "create the directory of the audit log", err: err}
	}
	return s.openLog(job)
}

// maxLogs is the maximum number of runs of one job with audit logs in one directory.
const maxLogs = 64

// openLog opens the first audit log that no active run holds. It reads the others, because
// they have the intents of runs that have ended.
func (s *state) openLog(job *config.Job) error {
	path := job.AuditLog
	for n := 1; n <= maxLogs && s.log == nil; n++ {
		log, err := auditlog.Open(numbered(path, n), job.Job)
		if errors.Is(err, auditlog.ErrBusy) || n > 1 && auditlog.IsForeign(err) {
			continue
		}
		if err != nil {
			return logProblem(job, err)
		}
		s.log, s.name = log, filepath.Base(numbered(path, n))
	}
	if s.log == nil {
		return &storageError{what: "open the audit log", err: fmt.Errorf(
			"%s and its numbered siblings are in use by %d runs, which is the maximum", path,
			maxLogs)}
	}
	for n := 1; n <= maxLogs; n++ {
		if sibling := numbered(path, n); filepath.Base(sibling) != s.name {
			if err := s.log.Beside(sibling); err != nil {
				return &storageError{what: "read the audit log of another run", err: err}
			}
		}
	}
	return nil
}

// numbered returns the name of the n-th audit log in a directory. n starts at 1.
func numbered(path string, n int) string {
	if n == 1 {
		return path
	}
	end := filepath.Ext(path)
	return fmt.Sprintf("%s.%d%s", strings.TrimSuffix(path, end), n, end)
}

func (s *state) close() {
	if s.uploads != nil {
		s.uploads.Stop()
	}
	if s.log != nil {
		_ = s.log.Close()
	}
	if s.lock != nil {
		_ = s.lock.Release()
	}
}

// track returns the options with which this run saves its progress.
func (s *state) track() checkpoint.TrackOptions {
	return checkpoint.TrackOptions{
		Worker: s.worker,
		Lease:  s.lease,
		BeforeSave: func(context.Context) (checkpoint.AuditLog, error) {
			kept := s.kept() // before Sync, because other lines may be written during it
			return kept, s.log.Sync()
		},
	}
}

// kept returns the current last line of the audit log.
func (s *state) kept() checkpoint.AuditLog {
	kept := checkpoint.AuditLog{Host: hostname(), Dir: s.dir, Name: s.name}
	kept.Lines, kept.Head = s.log.Head()
	kept.ID = s.log.ID() // after Head, because the first lines may be written meanwhile
	return kept
}

// checkAuditLogs passes the lines that the checkpoint has recorded to the audit log.
// It returns a note for each log that lacks such a line.
func (s *state) checkAuditLogs(logs []checkpoint.AuditLog) (notes []string) {
	marks := make([]auditlog.Mark, len(logs))
	for i, l := range logs {
		marks[i] = markOf(l)
		marks[i].Here = l.Host == hostname() && (l.Dir == "" || l.Dir == s.dir)
	}
	advice := "report --check fails; keep the rest of the log as evidence"
	if s.uploads != nil {
		advice = "report --check fails unless the line was uploaded; keep the rest of the log " +
			"as evidence"
	}
	for _, m := range s.log.Believe(marks) {
		s.broken = append(s.broken, logs[slices.Index(marks, m)])
		notes = append(notes, fmt.Sprintf(
			"audit log %s: line %d, which the checkpoint has recorded, is missing: the log was "+
				"truncated, replaced or lost. Nothing in the log is used, and %s",
			m.Name, m.Lines, advice))
	}
	return notes
}

// markOf returns the line of a log that the checkpoint has recorded.
func markOf(l checkpoint.AuditLog) auditlog.Mark {
	return auditlog.Mark{Name: l.Name, Lines: l.Lines, Hash: l.Head, Log: l.ID}
}

// runEnd returns what the run adds to the record of its pass at its end.
func (s *state) runEnd(kms report.KMS, headers headers) checkpoint.RunEnd {
	return checkpoint.RunEnd{
		ID:           s.worker,
		Requests:     kms.Requests,
		Throttled:    kms.Throttled,
		Header:       kms.Header,
		Shared:       kms.Shared,
		Sample:       headers.sample,
		Log:          s.kept(),
		Broken:       s.broken,
		HeadersAgree: headers.agree,
		HeadersWrong: headers.wrong,
	}
}

func hostname() string {
	host, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return host
}

// openExisting opens the checkpoint of a job for reading. It does not create one.
func (s streams) openExisting(ctx context.Context, job *config.Job) (checkpoint.Store, error) {
	place := job.CheckpointLocation()
	if place.Shared() {
		return s.sharedStore(ctx, job, s.checkpointTime(patienceBefore(job)))
	}
	store, err := checkpoint.OpenFile(place.File)
	if errors.Is(err, checkpoint.ErrNotFound) {
		return nil, problem(job, "checkpoint", fmt.Sprintf(
			"no checkpoint exists at %s: no run of this job was started in this directory; "+
				"rotator run creates it", place.File))
	}
	if err != nil {
		return nil, &storageError{what: "open the checkpoint", err: err}
	}
	return store, nil
}

// sharedStore opens a checkpoint in a table or bucket, which must exist.
func (s streams) sharedStore(
	ctx context.Context, job *config.Job, patience time.Duration,
) (checkpoint.Store, error) {
	place := job.CheckpointLocation()
	base, err := s.loadAWS(ctx, job.Workers, requestTimeout)
	if err != nil {
		return nil, err
	}
	s.outages.SetPatience(patience)
	cfg := withTarget(base, place.Region, place.Endpoint, place.RoleARN)
	cfg.APIOptions = append(slices.Clip(cfg.APIOptions), s.outages.Install(useCheckpoint))
	var store interface {
		checkpoint.Store
		Check(context.Context) error
	}
	if place.Table != "" {
		store = checkpoint.NewDynamoDB(stateTable(cfg), place.Table, patience)
	} else {
		store = checkpoint.NewS3(stateBucket(cfg), place.Bucket, place.Prefix, patience)
	}
	if err := store.Check(ctx); err != nil {
		return nil, storeProblem(job, "open the checkpoint", err)
	}
	return store, nil
}

func stateTable(cfg aws.Config) *dynamodb.Client {
	return dynamodb.NewFromConfig(cfg, func(o *dynamodb.Options) { o.Retryer = patientAttempts() })
}

func stateBucket(cfg aws.Config) *s3.Client {
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.Retryer = patientAttempts()
		o.UsePathStyle = o.UsePathStyle || o.BaseEndpoint != nil
	})
}

// storeProblem returns the error of a checkpoint. If its table or bucket does not exist or
// cannot hold a checkpoint, it is a problem of the job file.
func storeProblem(job *config.Job, what string, err error) error {
	var place *checkpoint.LocationError
	if errors.As(err, &place) {
		return problem(job, "checkpoint", place.Error())
	}
	return &storageError{what: what, err: err}
}
