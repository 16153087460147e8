package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/evidence"
	"rotator/internal/plural"
	"rotator/internal/report"
	"rotator/internal/report/auditlog"
)

// logCheck verifies the audit logs of a pass: those that are readable here, and those that were
// uploaded.
type logCheck struct {
	job   *config.Job
	store *evidence.Store // nil if nothing is uploaded
	began time.Time       // of the pass
	logs  []markedLog
	marks []auditlog.Mark // of all logs
	read  []readLog
	moves *auditlog.Moves
	wrong []string // what is damaged or missing
}

// markedLog is a log with the lines that the checkpoint has recorded. last is the last one.
type markedLog struct {
	last  checkpoint.AuditLog
	marks []auditlog.Mark
}

// readLog is a log that was read, as far as it is intact.
type readLog struct {
	name     string // path or place
	id       string
	uploaded bool
	*auditlog.Extent
}

// checkedLogs are audit logs in which checkLogs found nothing wrong.
type checkedLogs struct {
	notes  []string
	proven string // the result of report.CompareMoves
	result *report.LogCheck
}

// checkLogs verifies every audit log of a pass, that each log contains every line that the
// checkpoint has recorded, and that the logs prove the number of moved slots. The error names each
// log that is damaged or lacks lines.
func (c *jobFlags) checkLogs(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job, record checkpoint.Pass,
) (checked checkedLogs, err error) {
	moved, err := passes.Moved(ctx, record) // before the logs, so that they have all of these moves
	if err != nil {
		return checked, &storageError{what: "read the checkpoint", err: err}
	}
	known, err := passes.Logs(ctx, record)
	if err != nil {
		return checked, &storageError{what: "read the checkpoint", err: err}
	}
	check := &logCheck{
		job:   job,
		began: record.Started,
		moves: auditlog.NewMoves(record.Number, record.Started, clockError),
	}
	check.group(known)
	if check.store, _, err = c.evidenceStore(ctx, job); err != nil {
		return checked, err
	}
	if err := check.readHere(); err != nil {
		return checked, err
	}
	unread := check.readUploaded(ctx)
	damaged := len(check.wrong) > 0
	for _, log := range check.logs {
		check.compare(log)
	}
	checked.notes, checked.result = check.notes(), check.result()
	switch {
	case unread != nil && !damaged && len(check.wrong) > 0:
		return checked, unread // the missing lines can be in the uploaded logs
	case len(check.wrong) > 0:
		return checked, &outcomeError{code: exitInternal, text: fmt.Sprintf(
			"the audit log is not intact: %s", strings.Join(check.wrong, "; "))}
	case unread != nil:
		checked.notes = append(checked.notes, fmt.Sprintf("every line that the checkpoint has "+
			"recorded is on this machine; the uploaded audit logs could not be read: %s",
			c.secrets.Text(c.headline(unread))))
	}
	checked.proven, err = report.CompareMoves(record.Number, moved, check.logged())
	if err != nil {
		return checked, &outcomeError{code: exitInternal, text: err.Error()}
	}
	return checked, nil
}

// addTo adds the result to a summary.
func (l checkedLogs) addTo(s *report.Summary) {
	s.LogCheck, s.Notes = l.result, append(s.Notes, l.notes...)
	if l.proven != "" {
		s.Notes = append(s.Notes, l.proven)
	}
}

// result returns the result of a check that found nothing wrong.
func (k *logCheck) result() *report.LogCheck {
	r := &report.LogCheck{Intact: len(k.logs) > 0, Logs: len(k.logs)}
	for _, log := range k.logs {
		r.Lines += log.last.Lines
	}
	return r
}

// logged returns what the logs prove about moved slots.
func (k *logCheck) logged() report.Logged {
	l := report.Logged{
		Writes: k.moves.Writes(),
		Slots:  k.moves.Slots(),
		Before: k.moves.Before(),
	}
	if k.moves.Full() {
		l.Writes, l.Slots = k.moves.Most, k.moves.Most // at least
		l.Missing = fmt.Sprintf("they have more than %s, and no more are compared",
			plural.Count(k.moves.Most, "write"))
	}
	for _, log := range k.logs {
		if log.last.ID == "" {
			l.Missing = "an earlier version of rotator worked on the pass, and did not record " +
				"every log"
		}
	}
	return l
}

// group adds the recorded lines, by log. It leaves out logs without recorded lines.
func (k *logCheck) group(known []checkpoint.AuditLog) {
	for _, l := range known {
		if l.Lines == 0 {
			continue
		}
		k.marks = append(k.marks, markOf(l))
		at := slices.IndexFunc(k.logs, func(m markedLog) bool {
			return m.last.ID == l.ID && (l.ID != "" ||
				m.last.Host == l.Host && m.last.Name == l.Name)
		})
		if at < 0 {
			k.logs = append(k.logs, markedLog{last: l})
			at = len(k.logs) - 1
		}
		log := &k.logs[at]
		log.marks = append(log.marks, markOf(l))
		if l.Lines > log.last.Lines {
			log.last = l
		}
	}
	slices.SortStableFunc(k.logs, func(a, b markedLog) int {
		return cmp.Or(cmp.Compare(a.last.Host, b.last.Host), cmp.Compare(a.last.Dir, b.last.Dir),
			cmp.Compare(a.last.Name, b.last.Name), cmp.Compare(a.last.ID, b.last.ID))
	})
}

// path returns the path at which a log is expected here.
func (m markedLog) path(job *config.Job) string {
	return logFile{m.last.Host, m.last.Name}.path(job)
}

// readHere verifies the logs at the paths where those of the pass are expected, and reads the
// other logs of the job that have one of their ids.
func (k *logCheck) readHere() error {
	var paths []string
	ids := map[string]bool{}
	for _, log := range k.logs {
		paths, ids[log.last.ID] = append(paths, log.path(k.job)), true
	}
	others, err := logsOf(k.job)
	if err != nil {
		return &storageError{what: "read the audit log", err: err}
	}
	for _, path := range others {
		if id := auditlog.IDOf(path); id != "" && ids[id] {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		extent, err := k.moves.Measure(path, k.marks...)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			k.wrong = append(k.wrong, err.Error())
			continue
		}
		k.read = append(k.read, readLog{name: path, id: extent.ID, Extent: extent})
	}
	return nil
}

// clockError is the maximum difference between the clocks of a run and of S3.
const clockError = time.Hour

// readUploaded verifies the uploaded logs that the checkpoint names or that may have lines of the
// pass. If the checkpoint names a log without its id, all of them are read.
func (k *logCheck) readUploaded(ctx context.Context) error {
	if k.store == nil {
		return nil
	}
	logs, err := k.store.Logs(ctx)
	if err != nil {
		return &storageError{what: "list the uploaded audit logs", err: err}
	}
	named := map[string]bool{}
	for _, log := range k.logs {
		named[log.last.ID] = true
	}
	for _, log := range logs {
		if !named[""] && !named[log.ID] && log.Uploaded().Before(k.began.Add(-clockError)) {
			continue
		}
		if err := k.readLog(ctx, log); err != nil {
			return err
		}
	}
	return nil
}

// readLog verifies one uploaded log.
func (k *logCheck) readLog(ctx context.Context, log evidence.Log) error {
	name := k.store.Place() + log.ID
	extent, err := k.moves.MeasureSegments(k.store.Segments(ctx, log), k.marks...)
	service := (*evidence.ServiceError)(nil)
	if errors.As(err, &service) {
		return &storageError{what: "read the uploaded audit logs", err: err}
	}
	if err == nil && extent.ID != "" && extent.ID != log.ID {
		err = fmt.Errorf("its first line is that of log %s", extent.ID)
	}
	if err != nil {
		k.wrong = append(k.wrong, fmt.Sprintf("%s: %v", name, err))
		return nil
	}
	here := slices.ContainsFunc(k.read, func(r readLog) bool {
		return r.id == log.ID && r.Lines >= extent.Lines
	})
	for _, gap := range extent.Gaps {
		if !here {
			k.wrong = append(k.wrong, fmt.Sprintf("%s: lines %d to %d are missing; the first "+
				"missing segment is %d", name, gap.From, gap.Upto, gap.Segment))
		}
	}
	k.read = append(k.read, readLog{name: name, id: log.ID, uploaded: true, Extent: extent})
	return nil
}

// compare checks that the recorded lines of a log exist.
func (k *logCheck) compare(log markedLog) {
	var lacking []auditlog.Mark
	for _, m := range log.marks {
		if !slices.ContainsFunc(k.read, func(r readLog) bool { return r.Holds(m) }) {
			lacking = append(lacking, m)
		}
	}
	if len(lacking) == 0 {
		return
	}
	worst := slices.MaxFunc(lacking, func(a, b auditlog.Mark) int {
		return cmp.Compare(a.Lines, b.Lines)
	})
	k.wrong = append(k.wrong, k.describe(log, worst))
}

// describe states what is missing from a log that lacks a recorded line.
func (k *logCheck) describe(log markedLog, m auditlog.Mark) string {
	path := log.path(k.job)
	best := readLog{}
	for _, r := range k.read {
		same := r.id == log.last.ID || log.last.ID == "" && r.name == path
		if same && (best.Extent == nil || r.Lines > best.Lines) {
			best = r
		}
	}
	switch {
	case best.Extent != nil && (!best.uploaded || best.HasLine(m)):
		return fmt.Sprintf("%s: %v", best.name, best.Lacks(m))
	case best.Extent != nil:
		return fmt.Sprintf("%s ends at line %d in %s, but the checkpoint has recorded line %d: %s",
			log, best.Lines, best.name, m.Lines, log.advice(path))
	case k.store != nil:
		return fmt.Sprintf("%s is not in %s, but the checkpoint has recorded line %d: %s",
			log, k.store.Place(), m.Lines, log.advice(path))
	case log.last.Host != hostname():
		return fmt.Sprintf("%s was written on %s; copy it to %s and check again", log.last.Name,
			log.last.Host, path)
	}
	return fmt.Sprintf("%s: %s does not exist, or is another log; the checkpoint has recorded "+
		"line %d", path, log, m.Lines)
}

// String names a log by where it was written.
func (m markedLog) String() string {
	name := m.last.Name
	if m.last.Dir != "" {
		name = filepath.Join(m.last.Dir, name)
	}
	text := fmt.Sprintf("the log of the run on %s at %s", m.last.Host, name)
	if m.last.ID != "" {
		text += " (" + m.last.ID + ")"
	}
	return text
}

// advice states where the missing end of a log is.
func (m markedLog) advice(path string) string {
	return fmt.Sprintf("the rest is in the open segment in that directory (start a run there, "+
		"which uploads it, or copy the files of the log to %s, and check again)", path)
}

// notes describes the logs that are intact and complete.
func (k *logCheck) notes() (notes []string) {
	for _, r := range k.read {
		last := auditlog.Mark{}
		for _, m := range k.marks {
			if r.Holds(m) && m.Lines > last.Lines {
				last = m
			}
		}
		recorded := "the checkpoint has recorded no line of it in this pass"
		if last.Lines > 0 {
			recorded = fmt.Sprintf("the checkpoint has recorded line %d with the hash %s",
				last.Lines, last.Hash)
		}
		notes = append(notes, fmt.Sprintf("audit log %s: %s, the chain of hashes is intact; %s",
			r.name, plural.Count(r.Lines, "line"), recorded))
	}
	if len(k.logs) == 0 {
		notes = append(notes,
			"no run of the pass has saved anything yet, so there is no audit log to check")
	}
	return notes
}
