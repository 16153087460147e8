package copies

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/backup"
	"github.com/aws/aws-sdk-go-v2/service/backup/types"
)

// recoveryPoints returns the row of AWS Backup for a table or bucket. arn is "" if it is not
// known.
func (f *finder) recoveryPoints(ctx context.Context, t Target, arn string) (Row, error) {
	r := Row{Kind: AWSBackup, API: "ListRecoveryPointsByResource"}
	switch {
	case arn == "":
		r.State = CannotSee
		r.Detail = "The ARN of the table could not be read."
		return r, nil
	case t.Backup == nil:
		r.State, r.API = NotLookedAt, ""
		r.Detail = "AWS Backup was not asked, because the job file sets an endpoint: " +
			"aws backup list-recovery-points-by-resource --resource-arn " + arn
		return r, nil
	}
	in := &backup.ListRecoveryPointsByResourceInput{ResourceArn: &arn}
	later, vaults := int64(0), map[string]bool{}
	ends := &backupEnds{}
	for {
		page, done, err := f.pageOfPoints(ctx, t, in, &r)
		if !done || err != nil {
			return r, err
		}
		for _, p := range page.RecoveryPoints {
			if !f.isOld(aws.ToTime(p.CreationDate)) {
				later++
				continue
			}
			vaults[aws.ToString(p.BackupVaultName)] = true
			end, err := f.endOfPoint(ctx, t, p, ends)
			if err != nil {
				return r, err
			}
			r.add(Item{
				Name:  aws.ToString(p.BackupVaultName) + " " + aws.ToString(p.RecoveryPointArn),
				At:    utc(p.CreationDate),
				Until: end,
			})
		}
		if page.NextToken == nil {
			break
		}
		in.NextToken = page.NextToken
	}
	if r.Count > 0 {
		r.API += ", DescribeRecoveryPoint"
	}
	r.conclude(later)
	if r.State == Counted {
		r.Detail = fmt.Sprintf("In %s.", strings.Join(slices.Sorted(maps.Keys(vaults)), ", "))
		ends.mark(&r)
	}
	r.Detail = strings.TrimSpace(r.Detail + " Vaults of other accounts are not listed.")
	return r, nil
}

// pageOfPoints returns one page of recovery points. It is empty if AWS Backup does not know the
// table. If the call fails, done is false and the row states why.
func (f *finder) pageOfPoints(
	ctx context.Context, t Target, in *backup.ListRecoveryPointsByResourceInput, r *Row,
) (page *backup.ListRecoveryPointsByResourceOutput, done bool, err error) {
	done, err = f.askRow(ctx, r, call{"AWS Backup", "ListRecoveryPointsByResource",
		"backup:ListRecoveryPointsByResource"}, func(ctx context.Context) (err error) {
		page, err = t.Backup.ListRecoveryPointsByResource(ctx, in)
		if none := (*types.ResourceNotFoundException)(nil); errors.As(err, &none) {
			page = &backup.ListRecoveryPointsByResourceOutput{}
			return nil
		}
		return err
	})
	return page, done, err
}

// maxPoints is the maximum number of recovery points whose deletion dates are read.
const maxPoints = 200

// backupEnds is the state while the deletion dates of recovery points are read.
type backupEnds struct {
	asked int
	why   *unseen // the first call that failed; no call follows it
}

// endOfPoint returns when AWS Backup deletes a recovery point. It returns the zero time if AWS
// Backup does not delete it, or if the date could not be read.
func (f *finder) endOfPoint(
	ctx context.Context, t Target, p types.RecoveryPointByResource, ends *backupEnds,
) (end time.Time, err error) {
	if ends.why != nil || ends.asked == maxPoints {
		ends.asked = maxPoints
		return end, nil
	}
	ends.asked++
	var out *backup.DescribeRecoveryPointOutput
	ends.why, err = f.ask(ctx, call{"AWS Backup", "DescribeRecoveryPoint",
		"backup:DescribeRecoveryPoint"}, func(ctx context.Context) (err error) {
		out, err = t.Backup.DescribeRecoveryPoint(ctx, &backup.DescribeRecoveryPointInput{
			BackupVaultName:  p.BackupVaultName,
			RecoveryPointArn: p.RecoveryPointArn,
		})
		return err
	})
	if err != nil || ends.why != nil || out.CalculatedLifecycle == nil {
		return end, err
	}
	return utc(out.CalculatedLifecycle.DeleteAt), nil
}

// mark adds to a counted row why the deletion date of some recovery points is not known.
func (e *backupEnds) mark(r *Row) {
	switch {
	case e.why != nil:
		r.NoEnd, r.Until, r.MissingPermission = false, time.Time{}, e.why.permission
		r.Detail += " The dates of their deletion cannot be read: " + lowerFirst(e.why.sentence)
	case e.asked == maxPoints && r.Count > maxPoints:
		r.NoEnd, r.Until = false, time.Time{}
		r.Detail += fmt.Sprintf(" The dates of deletion of only %d were read.", maxPoints)
	case r.NoEnd:
		r.Detail += " Some have no date of deletion."
	}
}
