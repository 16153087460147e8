package copies

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

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
	for {
		var page *backup.ListRecoveryPointsByResourceOutput
		done, err := f.askRow(ctx, &r, call{"AWS Backup", "ListRecoveryPointsByResource",
			"backup:ListRecoveryPointsByResource"}, func(ctx context.Context) (err error) {
			page, err = t.Backup.ListRecoveryPointsByResource(ctx, in)
			if none := (*types.ResourceNotFoundException)(nil); errors.As(err, &none) {
				page = &backup.ListRecoveryPointsByResourceOutput{}
				return nil
			}
			return err
		})
		if !done || err != nil {
			return r, err
		}
		for _, p := range page.RecoveryPoints {
			if !f.isOld(aws.ToTime(p.CreationDate)) {
				later++
				continue
			}
			vaults[aws.ToString(p.BackupVaultName)] = true
			r.add(Item{
				Name: aws.ToString(p.BackupVaultName) + " " + aws.ToString(p.RecoveryPointArn),
				At:   utc(p.CreationDate),
			})
		}
		if page.NextToken == nil {
			break
		}
		in.NextToken = page.NextToken
	}
	r.NoEnd = false // the list does not have the ends
	r.conclude(later)
	if r.State == Counted {
		r.Detail = fmt.Sprintf("In %s. The list has no dates of deletion: see the lifecycle of "+
			"each recovery point.", strings.Join(slices.Sorted(maps.Keys(vaults)), ", "))
	}
	r.Detail = strings.TrimSpace(r.Detail + " Vaults of other accounts are not listed.")
	return r, nil
}
