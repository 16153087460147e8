package awsspec

import (
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

func dynamodbCopyCases() []dynamodbCase {
	return []dynamodbCase{
		{"ContinuousBackups/disabled, or enabled with a recovery period", dynamodbRecovery},
		{"Backups/listed for their table in pages until they are deleted", dynamodbBackups},
		{"Exports/only with point-in-time recovery, listed and described", dynamodbExports},
		{"Streams/DescribeTable has the view type and the ARN", dynamodbStream},
		{"KinesisStreamingDestination/no destination by default", dynamodbKinesis},
	}
}

// API_DescribeContinuousBackups, API_UpdateContinuousBackups.
func dynamodbRecovery(p *dynamodbProbe) {
	table := p.table(false)
	_, err := p.DescribeContinuousBackups(p.ctx, &dynamodb.DescribeContinuousBackupsInput{
		TableName: aws.String("rotator-nobody"),
	})
	p.want("TableNotFoundException", err)
	out, err := p.DescribeContinuousBackups(p.ctx, &dynamodb.DescribeContinuousBackupsInput{
		TableName: table,
	})
	p.must(err)
	d := out.ContinuousBackupsDescription
	p.same("backups", d.ContinuousBackupsStatus, types.ContinuousBackupsStatusEnabled)
	p.same("recovery", d.PointInTimeRecoveryDescription.PointInTimeRecoveryStatus,
		types.PointInTimeRecoveryStatusDisabled)
	p.recovery(table, 7)
	out, err = p.DescribeContinuousBackups(p.ctx, &dynamodb.DescribeContinuousBackupsInput{
		TableName: table,
	})
	p.must(err)
	r := out.ContinuousBackupsDescription.PointInTimeRecoveryDescription
	p.same("recovery", r.PointInTimeRecoveryStatus, types.PointInTimeRecoveryStatusEnabled)
	p.same("days", aws.ToInt32(r.RecoveryPeriodInDays), int32(7))
	if d := time.Since(aws.ToTime(r.EarliestRestorableDateTime)).Abs(); d > time.Hour {
		p.Errorf("the earliest restorable time is %v", r.EarliestRestorableDateTime)
	}
}

// recovery enables point-in-time recovery.
func (p *dynamodbProbe) recovery(table *string, days int32) {
	p.Helper()
	_, err := p.UpdateContinuousBackups(p.ctx, &dynamodb.UpdateContinuousBackupsInput{
		TableName: table,
		PointInTimeRecoverySpecification: &types.PointInTimeRecoverySpecification{
			PointInTimeRecoveryEnabled: aws.Bool(true),
			RecoveryPeriodInDays:       &days,
		},
	})
	p.must(err)
}

// API_CreateBackup, API_ListBackups, API_DeleteBackup.
func dynamodbBackups(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{"pk": "a"})
	var made []string
	for _, name := range []string{"one", "two", "three"} {
		out, err := p.CreateBackup(p.ctx, &dynamodb.CreateBackupInput{
			TableName:  table,
			BackupName: &name,
		})
		p.must(err)
		made = append(made, aws.ToString(out.BackupDetails.BackupArn))
	}
	list := func() (names []string) {
		in := &dynamodb.ListBackupsInput{
			TableName:  table,
			BackupType: types.BackupTypeFilterAll,
			Limit:      aws.Int32(2),
		}
		for range 5 {
			page, err := p.ListBackups(p.ctx, in)
			p.must(err)
			if len(page.BackupSummaries) > 2 {
				p.Errorf("a page has %d backups, want at most 2", len(page.BackupSummaries))
			}
			for _, b := range page.BackupSummaries {
				names = append(names, aws.ToString(b.BackupName))
				p.same("type", b.BackupType, types.BackupTypeUser)
				p.same("expiry", b.BackupExpiryDateTime, (*time.Time)(nil))
			}
			if page.LastEvaluatedBackupArn == nil {
				break
			}
			in.ExclusiveStartBackupArn = page.LastEvaluatedBackupArn
		}
		return names
	}
	p.same("backups", len(list()), 3)
	_, err := p.DeleteBackup(p.ctx, &dynamodb.DeleteBackupInput{BackupArn: &made[0]})
	p.must(err)
	p.same("backups after one was deleted", len(list()), 2)
	_, err = p.DeleteBackup(p.ctx, &dynamodb.DeleteBackupInput{BackupArn: &made[0]})
	p.want("BackupNotFoundException", err)
}

// API_ExportTableToPointInTime, API_ListExports, API_DescribeExport.
func dynamodbExports(p *dynamodbProbe) {
	table := p.table(false)
	described, err := p.DescribeTable(p.ctx, &dynamodb.DescribeTableInput{TableName: table})
	p.must(err)
	arn := described.Table.TableArn
	export := &dynamodb.ExportTableToPointInTimeInput{
		TableArn: arn,
		S3Bucket: aws.String("exports"),
		S3Prefix: aws.String("daily"),
	}
	_, err = p.ExportTableToPointInTime(p.ctx, export)
	p.want("PointInTimeRecoveryUnavailableException", err)
	p.recovery(table, 1)
	_, err = p.ExportTableToPointInTime(p.ctx, export)
	p.must(err)
	list, err := p.ListExports(p.ctx, &dynamodb.ListExportsInput{TableArn: arn})
	p.must(err)
	if len(list.ExportSummaries) != 1 {
		p.Fatalf("%d exports are listed, want 1", len(list.ExportSummaries))
	}
	out, err := p.DescribeExport(p.ctx, &dynamodb.DescribeExportInput{
		ExportArn: list.ExportSummaries[0].ExportArn,
	})
	p.must(err)
	p.same("bucket", aws.ToString(out.ExportDescription.S3Bucket), "exports")
	p.same("prefix", aws.ToString(out.ExportDescription.S3Prefix), "daily")
	if d := time.Since(aws.ToTime(out.ExportDescription.ExportTime)).Abs(); d > time.Hour {
		p.Errorf("the export has the time %v", out.ExportDescription.ExportTime)
	}
	_, err = p.DescribeExport(p.ctx, &dynamodb.DescribeExportInput{
		ExportArn: aws.String(*arn + "/export/01700000000000-deadbeef"),
	})
	p.want("ExportNotFoundException", err)
}

// API_UpdateTable, API_DescribeTable: StreamSpecification. The ARN of a disabled stream stays.
func dynamodbStream(p *dynamodbProbe) {
	table := p.table(false)
	describe := func() *types.TableDescription {
		out, err := p.DescribeTable(p.ctx, &dynamodb.DescribeTableInput{TableName: table})
		p.must(err)
		return out.Table
	}
	if d := describe(); d.StreamSpecification != nil || d.LatestStreamArn != nil {
		p.Errorf("a new table has the stream %v, %v", d.StreamSpecification, d.LatestStreamArn)
	}
	set := func(spec *types.StreamSpecification) error {
		_, err := p.UpdateTable(p.ctx, &dynamodb.UpdateTableInput{
			TableName:           table,
			StreamSpecification: spec,
		})
		return err
	}
	images := &types.StreamSpecification{
		StreamEnabled:  aws.Bool(true),
		StreamViewType: types.StreamViewTypeNewAndOldImages,
	}
	p.must(set(images))
	d := describe()
	p.same("view type", d.StreamSpecification.StreamViewType, types.StreamViewTypeNewAndOldImages)
	if !strings.Contains(aws.ToString(d.LatestStreamArn), "/stream/") {
		p.Errorf("the stream has the ARN %v", d.LatestStreamArn)
	}
	p.want("ValidationException", set(images))
	p.must(set(&types.StreamSpecification{StreamEnabled: aws.Bool(false)}))
	if d := describe(); d.StreamSpecification != nil || d.LatestStreamArn == nil {
		p.Errorf("after it was disabled: %v, %v", d.StreamSpecification, d.LatestStreamArn)
	}
}

// API_DescribeKinesisStreamingDestination.
func dynamodbKinesis(p *dynamodbProbe) {
	out, err := p.DescribeKinesisStreamingDestination(p.ctx,
		&dynamodb.DescribeKinesisStreamingDestinationInput{TableName: p.table(false)})
	p.must(err)
	p.same("destinations", len(out.KinesisDataStreamDestinations), 0)
}
