package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"rotator/internal/config"
	"rotator/internal/evidence"
	"rotator/internal/report/auditlog"
)

func newLogCommand(std streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Read the audit log",
		Long: `Read the audit log of a job. Its files contain the lines in a compact form: the
open file JOB.audit.jsonl, and the compressed segments JOB.audit.jsonl.NNNNNN.zst beside it.
rotator report --check verifies them.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return usagef("no command was given; for example: rotator log export")
		},
	}
	cmd.AddCommand(newLogExportCommand(std))
	return cmd
}

func newLogExportCommand(std streams) *cobra.Command {
	c := &jobFlags{streams: std, output: formText, forms: []string{formText}}
	cmd := &cobra.Command{
		Use:   "export [-f job.yaml | FILE...]",
		Short: "Print the plain lines of the audit log",
		Long: `Print the plain JSON Lines of the audit log, in the form of docs/audit-log.md.
Their chain of hashes can be verified with standard tools. The lines are verified while they
are printed; export ends with 1 at the first damaged line.

Without FILE, the logs of the job in the directory of audit_log are printed one after the
other, including those that were copied from other machines, and then the uploaded logs
(evidence in the job file) that are not in this directory. With --local, uploaded logs are
left out and no service is called. FILE is a log, which is read with all its segments, or
one segment.`,
	}
	local := false
	cmd.Flags().BoolVar(&local, "local", false, "print only the logs on this machine")
	cmd.Flags().StringVarP(&c.file, "file", "f", "job.yaml", "job file")
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		c.stop.names(cmd.Name(), c.file)
		if len(files) == 0 {
			return inCommand(cmd.Name(), c.onJob(cmd.Context(),
				func(ctx context.Context, c *jobFlags, job *config.Job) error {
					return exportJob(ctx, c, job, local)
				}))
		}
		if cmd.Flags().Changed("file") {
			return usagef("-f and FILE cannot be combined")
		}
		return inCommand(cmd.Name(), c.exportLogs(cmd.Context(), sourcesOf(files)))
	}
	return cmd
}

// exportJob prints the logs of a job: those that are readable here, and unless local is set those
// that were uploaded and are not here.
func exportJob(ctx context.Context, c *jobFlags, job *config.Job, local bool) error {
	files, err := logsOf(job)
	if err != nil {
		return &storageError{what: "read the audit log", err: err}
	}
	var uploaded []logSource
	if !local {
		if uploaded, err = c.uploadedLogs(ctx, job, files); err != nil {
			return err
		}
	}
	if len(files)+len(uploaded) == 0 {
		return problem(job, "audit_log", fmt.Sprintf(
			"no audit log exists at %s; rotator run creates it", job.AuditLog))
	}
	return c.exportLogs(ctx, append(sourcesOf(files), uploaded...))
}

// logSource writes the plain lines of one log.
type logSource func(w io.Writer) error

// sourcesOf returns the logs, or single segments, at paths.
func sourcesOf(paths []string) (sources []logSource) {
	for _, path := range paths {
		sources = append(sources, func(w io.Writer) error { return auditlog.Export(path, w) })
	}
	return sources
}

// uploadedLogs returns the uploaded logs of a job that are not among files.
func (c *jobFlags) uploadedLogs(
	ctx context.Context, job *config.Job, files []string,
) (sources []logSource, err error) {
	store, ok, err := c.evidenceStore(ctx, job)
	if err != nil || !ok {
		return nil, err
	}
	logs, err := store.Logs(ctx)
	if err != nil {
		return nil, &storageError{what: "list the uploaded audit logs", err: err}
	}
	here := map[string]bool{}
	for _, file := range files {
		here[auditlog.IDOf(file)] = true
	}
	for _, log := range logs {
		if here[log.ID] {
			continue
		}
		sources = append(sources, func(w io.Writer) error {
			return auditlog.ExportSegments(store.Segments(ctx, log), w)
		})
	}
	return sources, nil
}

// logsOf returns the paths of the audit logs of a job that are readable here, including those that
// were copied from other machines.
func logsOf(job *config.Job) (files []string, err error) {
	for n := 1; n <= maxLogs; n++ {
		path := numbered(job.AuditLog, n)
		exists, err := auditlog.Exists(path)
		if err != nil {
			return nil, err
		}
		if exists {
			files = append(files, path)
		}
	}
	return append(files, slices.Sorted(slices.Values(copiedLogs(job.AuditLog)))...), nil
}

// exportLogs prints the plain lines of logs.
func (c *jobFlags) exportLogs(ctx context.Context, logs []logSource) error {
	out := bufio.NewWriterSize(c.out, 64<<10)
	for _, write := range logs {
		err := write(&untilStopped{ctx, out})
		var chain *auditlog.ChainError
		service := (*evidence.ServiceError)(nil)
		switch {
		case errors.As(err, &chain):
			return errors.Join(out.Flush(), &outcomeError{code: exitInternal,
				text: fmt.Sprintf("the audit log is not intact: %v", err)})
		case errors.Is(err, fs.ErrNotExist), auditlog.IsForeign(err):
			return usagef("%v", err)
		case errors.Is(err, fs.ErrPermission), errors.As(err, &service):
			return &storageError{what: "read the audit log", err: err}
		case err != nil:
			return err
		}
	}
	return out.Flush()
}

// untilStopped is a writer that fails after its context has ended.
type untilStopped struct {
	ctx context.Context
	out *bufio.Writer
}

func (u *untilStopped) Write(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.out.Write(p)
}
