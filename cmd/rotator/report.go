package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/report/auditlog"
)

func newReportCommand(std streams) *cobra.Command {
	var check, ledger bool
	cmd := jobCommand(std, "report", "Show the evidence of the last pass",
		`Report shows what the last pass counted, from the checkpoint, and asks no service.
With --ledger it lists the slots that could not be moved, with -o json as one JSON
object a line. With --check it also verifies the audit log: every line, the chain
of hashes, and that it goes as far as the checkpoint knows.`,
		func(ctx context.Context, c *common, job *config.Job) error {
			return reportJob(ctx, c, job, check, ledger)
		})
	cmd.Flags().BoolVar(&check, "check", false, "verify the audit log's chain")
	cmd.Flags().BoolVar(&ledger, "ledger", false, "list the slots in the ledger instead")
	cmd.MarkFlagsMutuallyExclusive("check", "ledger")
	return cmd
}

func reportJob(ctx context.Context, c *common, job *config.Job, check, ledger bool) error {
	store, err := openStore(job)
	if err != nil {
		return err
	}
	passes := checkpoint.NewPasses(store, job.Job)
	record, err := lastPass(ctx, passes, job)
	if err != nil {
		return err
	}
	if ledger {
		return c.printLedger(ctx, passes, record)
	}
	summary, err := recorded(ctx, passes, record, job, "report")
	if err != nil {
		return err
	}
	if check {
		lines, err := auditlog.VerifyFile(job.AuditLog, record.AuditLines, record.AuditHead)
		if err != nil {
			return &outcomeError{code: exitInternal, text: fmt.Sprintf("the audit log is not whole: %v", err)}
		}
		summary.Notes = append(summary.Notes, fmt.Sprintf("audit log %s: %d lines, the chain is whole", job.AuditLog, lines))
	}
	if c.output == "json" {
		return summary.JSON(c.out)
	}
	return summary.Text(c.out)
}

func (c *common) printLedger(ctx context.Context, passes *checkpoint.Passes, record checkpoint.Pass) error {
	w := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0)
	encoder := json.NewEncoder(c.out)
	if c.output == "text" {
		fmt.Fprintln(w, "TARGET\tITEM\tSLOT\tOUTCOME\tREASON\tKEY\tATTEMPTS\tDETAIL")
	}
	for chunk, err := range passes.Ledger(ctx, record) {
		if err != nil {
			return &storageError{what: "read the ledger", err: err}
		}
		for _, e := range chunk.Entries {
			if c.output == "json" {
				if err := encoder.Encode(e); err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(w, "%s\t%q\t%s\t%s\t%s\t%s\t%d\t%s\n", e.Target, e.Ref, e.Path, e.Outcome, e.Reason, e.Key, e.Attempts, e.Detail)
		}
	}
	return w.Flush()
}
