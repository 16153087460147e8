package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/evidence/pack"
	"rotator/internal/report/auditlog"
	"rotator/internal/report/document"
)

// namedLog is an audit log with its name in a pack.
type namedLog struct {
	name  string
	write logSource
}

// logsForPack returns the audit logs of a job: those that are readable here, and uploaded ones that
// are not. Those of the last pass, and of the given pass if it is not 0, must be intact and
// complete. It adds to the notes which moves they prove.
func (c *jobFlags) logsForPack(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job, pass int, notes *[]string,
) (logs []namedLog, err error) {
	record, err := passes.Last(ctx)
	if errors.Is(err, checkpoint.ErrNotFound) {
		return nil, nil // nothing has been written
	}
	if err != nil {
		return nil, &storageError{what: "read the checkpoint", err: err}
	}
	records := []checkpoint.Pass{record}
	if pass > 0 && pass != record.Number {
		if record, err = keptPass(ctx, passes, job, pass); err != nil {
			return nil, err
		}
		records = append(records, record)
	}
	for _, record := range records {
		checked, err := c.checkLogs(ctx, passes, job, record)
		if err != nil {
			return nil, err
		}
		if checked.proven != "" {
			*notes = append(*notes, checked.proven)
		}
	}
	files, err := logsOf(job)
	if err != nil {
		return nil, &storageError{what: "read the audit log", err: err}
	}
	for i, source := range sourcesOf(files) {
		name := filepath.Base(files[i])
		if dir := filepath.Dir(files[i]); dir != filepath.Dir(job.AuditLog) {
			name = filepath.Base(dir) + "." + name
		}
		logs = append(logs, namedLog{name, source})
	}
	uploaded, err := c.uploadedLogs(ctx, job, files)
	if err != nil {
		return nil, err
	}
	for i, source := range uploaded {
		logs = append(logs, namedLog{fmt.Sprintf("uploaded-%d.jsonl", i+1), source})
	}
	return uniqueNames(logs), nil
}

// uniqueNames gives each log a name that a pack can have and no other log has.
func uniqueNames(logs []namedLog) []namedLog {
	other := regexp.MustCompile(`[^A-Za-z0-9._-]`)
	var known []string
	for i := range logs {
		base := strings.TrimSuffix(strings.TrimSuffix(logs[i].name, ".jsonl"), ".audit")
		base = strings.TrimLeft(other.ReplaceAllString(base, "_"), ".-")
		name := base + ".audit.jsonl"
		for n := 2; slices.Contains(known, name); n++ {
			name = fmt.Sprintf("%s.%d.audit.jsonl", base, n)
		}
		logs[i].name = name
		known = append(known, name)
	}
	return logs
}

// addLogs adds the plain lines of logs to a pack.
func addLogs(ctx context.Context, w *pack.Writer, logs []namedLog) (list []pack.Log, err error) {
	list = []pack.Log{}
	for _, log := range logs {
		last := &lastLine{}
		err := w.Add(log.name, func(out io.Writer) error {
			last.out, last.ctx = out, ctx
			return logError(log.write(last))
		})
		if err != nil {
			return nil, err
		}
		list = append(list, pack.Log{File: log.name, Lines: last.lines, Head: last.hash()})
	}
	return list, nil
}

// logError returns the error of an audit log that cannot be exported.
func logError(err error) error {
	var chain *auditlog.ChainError
	switch {
	case errors.As(err, &chain):
		return &outcomeError{code: exitInternal,
			text: fmt.Sprintf("the audit log is not intact: %v", err)}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), auditlog.IsForeign(err):
		return &storageError{what: "read the audit log", err: err}
	}
	return err
}

// lastLine counts lines and keeps the last one. Each Write is one line with its newline.
type lastLine struct {
	ctx   context.Context
	out   io.Writer
	lines int64
	text  []byte
}

func (l *lastLine) Write(p []byte) (int, error) {
	if err := l.ctx.Err(); err != nil {
		return 0, err
	}
	l.lines++
	l.text = append(l.text[:0], p...)
	return l.out.Write(p)
}

// hash returns the hash of the last line, or "" if there is none.
func (l *lastLine) hash() string {
	var line struct{ Hash string }
	_ = json.Unmarshal(l.text, &line) // "" if there is none
	return line.Hash
}

// headsOf returns the logs that the checkpoint has recorded, for a pack without logs.
func headsOf(d *document.Document) []pack.Log {
	list := []pack.Log{}
	for _, l := range d.Logs {
		list = append(list, pack.Log{Host: l.Host, Name: l.Name, Lines: l.Lines, Head: l.Head})
	}
	return list
}
