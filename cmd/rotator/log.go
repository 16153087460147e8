package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"rotator/internal/config"
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
	c := &jobFlags{streams: std, output: "text"}
	cmd := &cobra.Command{
		Use:   "export [-f job.yaml | FILE...]",
		Short: "Print the plain lines of the audit log",
		Long: `Print the plain JSON Lines of the audit log, in the form of docs/audit-log.md.
Their chain of hashes can be verified with standard tools. The lines are verified while they
are printed; export ends with 1 at the first damaged line.

Without FILE, the logs of the job in the directory of audit_log are printed one after the
other, including those that were copied from other machines. FILE is a log, which is read
with all its segments, or one segment. Export calls no service.`,
	}
	cmd.Flags().StringVarP(&c.file, "file", "f", "job.yaml", "job file")
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		c.stop.names(cmd.Name(), c.file)
		if len(files) == 0 {
			return inCommand(cmd.Name(), c.onJob(cmd.Context(), exportJob))
		}
		if cmd.Flags().Changed("file") {
			return usagef("-f and FILE cannot be combined")
		}
		return inCommand(cmd.Name(), c.exportLogs(cmd.Context(), files))
	}
	return cmd
}

// exportJob prints the logs of a job.
func exportJob(ctx context.Context, c *jobFlags, job *config.Job) error {
	files, err := logsOf(job)
	switch {
	case err != nil:
		return &storageError{what: "read the audit log", err: err}
	case len(files) == 0:
		return problem(job, "audit_log", fmt.Sprintf(
			"no audit log exists at %s; rotator run creates it", job.AuditLog))
	}
	return c.exportLogs(ctx, files)
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

// exportLogs prints the plain lines of files.
func (c *jobFlags) exportLogs(ctx context.Context, files []string) error {
	out := bufio.NewWriterSize(c.out, 64<<10)
	for _, file := range files {
		err := auditlog.Export(file, &untilStopped{ctx, out})
		var chain *auditlog.ChainError
		switch {
		case errors.As(err, &chain):
			return errors.Join(out.Flush(), &outcomeError{code: exitInternal,
				text: fmt.Sprintf("the audit log is not intact: %v", err)})
		case errors.Is(err, fs.ErrNotExist), auditlog.IsForeign(err):
			return usagef("%v", err)
		case errors.Is(err, fs.ErrPermission):
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
