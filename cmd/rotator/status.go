package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/printable"
	"rotator/internal/report"
	"rotator/internal/version"
)

func newStatusCommand(std streams) *cobra.Command {
	return jobCommand(std, "status", "Print the progress of the last run",
		`Print the progress of the last pass of rotator run, and of its partitions. Status reads
only the checkpoint and calls no service other than that of the checkpoint. It can be used
while a run is working; the counts are those of the last save. The verdict is that of
report: it takes all stored passes into account.`, statusJob)
}

func lastPass(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job,
) (checkpoint.Pass, error) {
	record, err := passes.Last(ctx)
	if errors.Is(err, checkpoint.ErrNotFound) {
		text := fmt.Sprintf("the checkpoint has no pass of rotator run for job %s; rotator run "+
			"starts one", job.Job)
		if read, err := passes.LastReadPass(ctx); err == nil && read > 0 {
			text += ". To print the newest result of audit and verify: " +
				readPassCommand(job, read)
		}
		return record, problem(job, "job", text)
	}
	if err != nil {
		return record, &storageError{what: "read the checkpoint", err: err}
	}
	return record, nil
}

// partitionStatus is one line of status.
type partitionStatus struct {
	Target    string    `json:"target"`
	Partition string    `json:"partition"`
	Done      bool      `json:"done"`
	Slots     int64     `json:"slots"`
	Saved     time.Time `json:"saved,omitzero"`
	// Owner is the id of the run that works on it, if the checkpoint is shared.
	Owner string `json:"owner,omitempty"`
}

// statusResult is the summary of the pass so far, and its partitions.
type statusResult struct {
	*report.Summary
	Partitions []partitionStatus `json:"partitions"`
}

func statusJob(ctx context.Context, c *jobFlags, job *config.Job) error {
	store, err := c.openExisting(ctx, job)
	if err != nil {
		return err
	}
	passes := checkpoint.NewPasses(store, job.Job)
	record, err := lastPass(ctx, passes, job)
	if err != nil {
		return err
	}
	summary, err := recorded(ctx, passes, record, job, "status")
	if err != nil {
		return err
	}
	if err := addsUp(summary); err != nil {
		return err
	}
	rules := verdictFlags{maxAge: defaultMaxAge} // those of report
	if err := rules.judgeStored(ctx, c, passes, job, summary, false); err != nil {
		return err
	}
	result := statusResult{Summary: summary}
	for t, target := range record.Targets {
		for i, p := range target.Partitions {
			progress, err := passes.Progress(ctx, record.Number, t, i)
			if err != nil {
				return &storageError{what: "read the checkpoint", err: err}
			}
			result.Partitions = append(result.Partitions, partitionStatus{
				Target:    target.Name,
				Partition: p.Name,
				Done:      progress.Done,
				Slots:     progress.Counts.Slots.Seen,
				Saved:     progress.Saved,
				Owner:     progress.Owner,
			})
		}
	}
	return c.printStatus(result)
}

func (c *jobFlags) printStatus(result statusResult) error {
	if c.output == "json" {
		encoder := json.NewEncoder(c.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(result)
	}
	if err := result.Text(c.out); err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "\nTARGET\tPARTITION\tDONE\tSLOTS\tSAVED\tOWNER")
	for _, p := range result.Partitions {
		saved := "never"
		if !p.Saved.IsZero() {
			saved = p.Saved.Format(time.RFC3339)
		}
		_, _ = printable.Fprintf(w, "%s\t%s\t%v\t%d\t%s\t%s\n",
			p.Target, p.Partition, p.Done, p.Slots, saved,
			cmp.Or(p.Owner, "-"))
	}
	return w.Flush()
}

// recordsOf reads the records of the partitions of a pass.
func recordsOf(
	ctx context.Context, passes *checkpoint.Passes, record checkpoint.Pass,
) (*checkpoint.Records, error) {
	records, err := passes.Records(ctx, record)
	if err != nil {
		return nil, &storageError{what: "read the checkpoint", err: err}
	}
	return records, nil
}

// figuresOf returns the figures of a pass from its records, without its ledger.
func figuresOf(
	ctx context.Context,
	records *checkpoint.Records,
	record checkpoint.Pass,
	job *config.Job,
	command string,
) (*report.Summary, error) {
	totals, err := records.Totals(ctx)
	if err != nil {
		return nil, &storageError{what: "read the checkpoint", err: err}
	}
	s := &report.Summary{
		Job:                 job.Job,
		Command:             command,
		Version:             version.String(),
		Mode:                report.Mode(cmp.Or(record.Mode, job.Mode)),
		Pass:                record.Number,
		Status:              report.Stopped,
		Started:             record.Started,
		Ended:               record.Ended,
		DestinationKey:      record.Destination.ARN,
		DestinationMaterial: record.Destination.Material,
	}
	s.KMS = report.KMS{
		Requests:  record.Requests,
		Throttled: record.Throttled,
		Header:    record.Header,
		Shared:    record.Shared,
	}
	s.SetSamples(samplesOf(record))
	s.KMS.Checked = s.Sample.Checked
	if record.Status == checkpoint.Finished {
		s.Status = report.Complete
	}
	infos, err := recordedInfos(job, record)
	if err != nil {
		return nil, err
	}
	s.AsOf, s.Account, s.Caller = record.Started, record.Account, record.Caller
	s.SetSources(record.Sources, record.Any)
	s.SetTargets(infos, totals)
	s.ResolveTokens(func(token string) string { return record.TokenKeys[token] })
	s.SetHeaders(record.Headers)
	for _, doubt := range record.Doubts {
		s.Doubt(doubt)
	}
	return s, nil
}

// recorded returns the summary of a pass from its records.
func recorded(
	ctx context.Context,
	passes *checkpoint.Passes,
	record checkpoint.Pass,
	job *config.Job,
	command string,
) (*report.Summary, error) {
	records, err := recordsOf(ctx, passes, record)
	if err != nil {
		return nil, err
	}
	s, err := figuresOf(ctx, records, record, job, command)
	if err != nil {
		return nil, err
	}
	if err := addExamples(records.Ledger(ctx), s); err != nil {
		return nil, err
	}
	tally := recordedTally(job, record)
	if err := addLedger(tally, records.Ledger(ctx)); err != nil {
		return nil, err
	}
	setAccepted(s, job, tally)
	s.Conclude()
	return s, judgeRecorded(job, s, record.Fingerprint)
}

// samplesOf returns the samples of the runs of a pass.
func samplesOf(record checkpoint.Pass) (samples []checkpoint.Sample) {
	for _, run := range record.Samples {
		samples = append(samples, run.Sample)
	}
	return samples
}

// addExamples adds examples of exceptions from the ledger to the summary.
func addExamples(ledger iter.Seq2[checkpoint.Chunk, error], s *report.Summary) error {
	var examples report.Examples
	if examples.Enough(s.Reasons) {
		return nil // there are no exceptions
	}
	for chunk, err := range ledger {
		if err != nil {
			return &storageError{what: "read the ledger", err: err}
		}
		for _, entry := range chunk.Entries {
			examples.Add(entry)
		}
		if examples.Enough(s.Reasons) {
			break
		}
	}
	s.SetExamples(&examples)
	return nil
}
