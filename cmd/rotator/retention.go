package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"rotator/internal/checkpoint"
	"rotator/internal/columns"
	"rotator/internal/config"
	"rotator/internal/evidence"
)

// defaultKeep is the default of checkpoint prune --keep.
const defaultKeep = 10

// pruneOptions are the flags of checkpoint list and prune.
type pruneOptions struct {
	keep  int
	prune bool // delete, instead of only listing
}

func (o *pruneOptions) addTo(cmd *cobra.Command) {
	cmd.Flags().IntVar(&o.keep, "keep", defaultKeep,
		"keep the last passes of which this number are complete, at least 1")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if o.keep < 1 {
			return usagef("--keep %d: the last complete pass is always kept, so the number must "+
				"be at least 1", o.keep)
		}
		return nil
	}
}

func newListCommand(std streams) *cobra.Command {
	var o pruneOptions
	cmd := jobCommand(std, "list", "List what the checkpoint of the job contains, with sizes",
		`List the passes and read-only passes in the checkpoint of the job, the size of their
records, the audit logs on this machine, the size of the uploaded ones, and what rotator
checkpoint prune would delete.
List changes nothing. It needs permission to list the checkpoint (deploy/iam).`,
		func(ctx context.Context, c *jobFlags, job *config.Job) error {
			return c.retention(ctx, job, o)
		})
	o.addTo(cmd)
	return cmd
}

func newPruneCommand(std streams) *cobra.Command {
	var o pruneOptions
	var dry bool
	cmd := jobCommand(std, "prune", "Delete records of old passes from the checkpoint",
		`Delete the records of old passes and read-only passes of the job. Prune always keeps the
last pass, the last complete passes (--keep), the pass before the last one, and the
read-only passes since then, with the last complete one before them. It also keeps the last
pass that read a target which the job file no longer has. It never deletes an audit log.
In place of each deleted pass it leaves a small record with its number, its times, and the
time and the caller of prune. Prune can work at the same time as runs. If it is interrupted,
run it again.`,
		func(ctx context.Context, c *jobFlags, job *config.Job) error {
			o.prune = !dry
			return c.retention(ctx, job, o)
		})
	o.addTo(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print what would be deleted, and delete nothing")
	return cmd
}

// retentionResult is the result of checkpoint list and prune.
type retentionResult struct {
	Job string `json:"job"`
	checkpoint.Retention
	FileBytes int64         `json:"file_bytes,omitempty"` // of a checkpoint file
	AuditLogs []localLog    `json:"audit_logs"`
	Uploaded  *uploadedLogs `json:"uploaded_logs,omitempty"` // nil if it is unknown
	// Deleted is nil if nothing was to be deleted.
	Deleted *checkpoint.Deleted `json:"deleted,omitempty"`
}

// localLog is an audit log of the job on this machine.
type localLog struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

// uploadedLogs counts the uploaded audit logs of the job.
type uploadedLogs struct {
	Place    string `json:"place"`
	Logs     int    `json:"logs"`
	Segments int    `json:"segments"`
	Bytes    int64  `json:"bytes"`
}

// countUploaded counts the uploaded audit logs of the job. It returns nil if there is no place for
// them, or if the place cannot be listed, which it logs.
func (c *jobFlags) countUploaded(ctx context.Context, job *config.Job) *uploadedLogs {
	store, ok, err := c.evidenceStore(ctx, job)
	if err == nil && !ok {
		return nil
	}
	var logs []evidence.Log
	if err == nil {
		logs, err = store.Logs(ctx)
	}
	if err != nil {
		c.logger.Warn("the uploaded audit logs cannot be listed: " +
			c.secrets.Text(c.headline(err)))
		return nil
	}
	count := &uploadedLogs{Place: store.Place(), Logs: len(logs)}
	for _, log := range logs {
		count.Segments, count.Bytes = count.Segments+len(log.Objects), count.Bytes+log.Bytes()
	}
	return count
}

func (c *jobFlags) retention(ctx context.Context, job *config.Job, o pruneOptions) error {
	store, err := c.openExisting(ctx, job)
	if err != nil {
		return err
	}
	passes := checkpoint.NewPasses(store, job.Job)
	result := retentionResult{Job: job.Job, AuditLogs: localLogs(job),
		Uploaded: c.countUploaded(ctx, job)}
	if result.Retention, err = passes.Retention(ctx, o.keep); err != nil {
		return &storageError{what: "list the checkpoint", err: err}
	}
	if o.prune {
		deleted, err := passes.Prune(ctx, result.Retention, c.pruner(ctx, job))
		if err != nil {
			return &storageError{what: "delete records of the checkpoint", err: err}
		}
		result.Deleted = &deleted
	}
	if place := job.CheckpointLocation(); !place.Shared() {
		if info, err := os.Stat(place.File); err == nil {
			result.FileBytes = info.Size()
		}
	}
	return c.printRetention(result)
}

// pruner returns the ARN of the caller for a shared checkpoint, or the name of the host.
func (c *jobFlags) pruner(ctx context.Context, job *config.Job) string {
	if job.CheckpointLocation().Shared() {
		if base, err := c.loadAWS(ctx, job.Workers, requestTimeout); err == nil {
			if arn, _ := callerOf(ctx, base); arn != "" {
				return arn
			}
		}
	}
	return "host " + hostname()
}

// localLogs returns the audit logs of the job on this machine, and the copies of those of other
// machines.
func localLogs(job *config.Job) []localLog {
	logs := []localLog{}
	paths := copiedLogs(job.AuditLog)
	for n := range maxLogs {
		paths = append(paths, numbered(job.AuditLog, n+1))
	}
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			logs = append(logs, localLog{Path: path, Bytes: info.Size()})
		}
	}
	return logs
}

func (c *jobFlags) printRetention(r retentionResult) error {
	if c.output == "json" {
		encoder := json.NewEncoder(c.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	may, what := checkpoint.Deleted{}, "to be deleted"
	if r.Deleted != nil {
		what = "deleted"
	}
	table := columns.NewTable("PASS", "STATUS", "BEGAN", "ENDED", "RECORDS", "BYTES", "KEPT")
	for _, item := range r.Items {
		name := fmt.Sprint(item.Number)
		if item.Kind == checkpoint.KindReadPass {
			name = "read-only " + name
		}
		kept := "yes: " + item.Kept
		if item.Kept == "" {
			kept = "no: " + what
			may.Records, may.Bytes = may.Records+item.Records, may.Bytes+item.Bytes
		}
		table.Row(name, orDash(string(item.Status)), timeOrDash(item.Began),
			timeOrDash(item.Ended), item.Records, item.Bytes, kept)
	}
	table.Row("other", "-", "-", "-", r.Records, r.Bytes,
		"yes: members, heads, and copies of damaged records")
	for _, log := range r.AuditLogs {
		table.Row(log.Path, "-", "-", "-", "-", log.Bytes, "yes: audit log")
	}
	if u := r.Uploaded; u != nil {
		table.Row(u.Place, "-", "-", "-", u.Segments, u.Bytes, "yes: uploaded audit logs")
	}
	if err := table.Text(c.out); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.out, "\n%s: %d records, %d bytes\n", what, may.Records, may.Bytes)
	if err == nil && r.Deleted != nil && r.Deleted.Conflicts > 0 {
		_, err = fmt.Fprintf(c.out, "left, because another process changed them at the same "+
			"time:\n  %d passes; run prune again\n", r.Deleted.Conflicts)
	}
	return err
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
