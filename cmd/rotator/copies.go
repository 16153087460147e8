package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/backup"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/spf13/cobra"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/copies"
	"rotator/internal/verdict"
	"rotator/internal/version"
)

// copiesPatience is how long one call of copies is retried.
const copiesPatience = 10 * time.Second

func newCopiesCommand(std streams) *cobra.Command {
	var exact bool
	cmd := jobCommand(std, "copies", "Report the copies of old ciphertexts that passes do not read",
		`Ask S3, DynamoDB, AWS Backup and Kinesis, for each target, about copies that can contain
ciphertexts as they were before the last move: old versions of objects, replication,
incomplete uploads, point-in-time recovery, backups, exports, streams and replicas.
Copies only reads, and needs only the permissions in deploy/iam/copies.json. If one of
them is missing, the result states what cannot be seen, and the exit code stays 0.

The old key must not be deleted while such a copy can be needed. See docs/copies.md.

Exit codes: 0 the result is complete, whatever it contains. For other codes see
docs/exit-codes.md.`,
		func(ctx context.Context, c *jobFlags, job *config.Job) error {
			c.exact = exact
			result, err := findCopies(ctx, c, job)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return result.JSON(c.out)
			}
			return result.Text(c.out)
		})
	cmd.Flags().BoolVar(&exact, "exact", false,
		"read the locks of each old version in buckets with Object Lock "+
			"(two requests for each version)")
	return cmd
}

// findCopies asks about the copies of all targets. It logs what cannot be seen.
func findCopies(ctx context.Context, c *jobFlags, job *config.Job) (*copies.Result, error) {
	base, err := c.loadAWS(ctx, job.Workers, requestTimeout)
	if err != nil {
		return nil, err
	}
	patience := min(copiesPatience, time.Duration(job.MaxOutage))
	c.outages.SetPatience(patience)
	ask := copies.Config{
		Job:      job.Job,
		Version:  version.String(),
		LastMove: lastMove(ctx, c, job),
		Patience: patience,
		Exact:    c.exact,
	}
	archived := archivedIn(ctx, c, job)
	for _, target := range job.Targets {
		one := copiesOf(base, target)
		one.Archived = archived[target.Name]
		ask.Targets = append(append(ask.Targets, one), replicasOf(base, target)...)
	}
	result, err := copies.Find(ctx, ask)
	if err != nil {
		return nil, err
	}
	for i := range result.Rows {
		r := &result.Rows[i]
		r.Detail = c.secrets.Text(r.Detail)
		if r.State == copies.CannotSee {
			c.logger.Warn(fmt.Sprintf("%s: cannot see %s: %s", r.Target, r.Kind.Name(), r.Detail))
		}
	}
	return result, nil
}

// copiesOf returns a target with its clients. AWS Backup and Kinesis are not asked about a target
// of another endpoint.
func copiesOf(base aws.Config, target config.Target) copies.Target {
	t := copies.Target{Name: target.Name}
	points := func(region, endpoint, role string) {
		if endpoint == "" {
			others := withTarget(base, region, "", role)
			t.Backup, t.Kinesis = backup.NewFromConfig(others), kinesis.NewFromConfig(others)
		}
	}
	switch {
	case target.DynamoDB != nil:
		d := target.DynamoDB
		cfg := withTarget(base, d.Region, d.Endpoint, d.RoleARN)
		t.Table, t.Region, t.DynamoDB = d.Table, cfg.Region, tableClient(cfg)
		t.Regions = d.Regions
		points(d.Region, d.Endpoint, d.RoleARN)
	case target.S3 != nil:
		o := target.S3
		cfg := withTarget(base, o.Region, o.Endpoint, o.RoleARN)
		t.Bucket, t.Prefix, t.Region = o.Bucket, o.Prefix, cfg.Region
		t.S3 = objectClient(cfg, o.Bucket)
		points(o.Region, o.Endpoint, o.RoleARN)
	default:
		t.Root = target.Files.Root
	}
	return t
}

// replicasOf returns the replicas of a global table in the Regions that the job file names.
func replicasOf(base aws.Config, target config.Target) (list []copies.Target) {
	if target.DynamoDB == nil {
		return nil
	}
	for _, region := range target.DynamoDB.Regions {
		table := *target.DynamoDB
		table.Region = region
		// An ARN contains a Region. The table name alone also names the replica.
		table.Table = table.Table[strings.LastIndexByte(table.Table, '/')+1:]
		replica := copiesOf(base, config.Target{Name: target.Name, DynamoDB: &table})
		replica.Replica = true
		list = append(list, replica)
	}
	return list
}

// lastMove returns a time after which rotator moved no ciphertext. Without readable records, it is
// zero: all copies then count.
func lastMove(ctx context.Context, c *jobFlags, job *config.Job) time.Time {
	store, err := c.openExisting(ctx, job)
	if err == nil {
		var last time.Time
		last, err = checkpoint.NewPasses(store, job.Job).LastMove(ctx, time.Now().UTC())
		if err == nil {
			return last
		}
	}
	c.logger.Warn("the records of this job cannot be read, so all copies count, and their ends " +
		"count from now: " + c.secrets.Text(c.headline(err)))
	return time.Time{}
}

// archivedIn returns the archived objects that the newest pass of the job file found, by target. It
// is empty if no such pass can be read.
func archivedIn(
	ctx context.Context, c *jobFlags, job *config.Job,
) map[string]*copies.Archived {
	found := map[string]*copies.Archived{}
	store, err := c.openExisting(ctx, job)
	if err != nil {
		return found // lastMove logs it
	}
	h, _, err := readHistory(ctx, checkpoint.NewPasses(store, job.Job), job, nil)
	if err != nil {
		return found
	}
	newest := slices.IndexFunc(h, func(k storedPass) bool {
		return k.pass.Complete && !k.pass.OtherJob
	})
	if newest < 0 {
		return found
	}
	for _, target := range h[newest].summary.Targets {
		a := &copies.Archived{Pass: h[newest].pass.Name()}
		for _, r := range target.Reasons {
			if r.Reason == "archived" {
				a.Objects += r.Slots
			}
		}
		found[target.Name] = a
	}
	return found
}

// factsOfCopies returns the rows as a verdict needs them, or nil without a result. The row for
// copies elsewhere is left out, because every verdict states it.
func factsOfCopies(r *copies.Result) []verdict.Copy {
	if r == nil {
		return nil
	}
	list := []verdict.Copy{}
	for _, row := range r.Rows {
		if row.Kind == copies.Elsewhere {
			continue
		}
		list = append(list, verdict.Copy{
			Kind:    row.Kind.Name(),
			Place:   row.Place,
			State:   verdict.CopyState(row.State),
			Count:   row.Count,
			Until:   row.Until,
			NoEnd:   row.NoEnd,
			Missing: row.MissingPermission,
		})
	}
	return list
}
