package copies

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/plural"
)

const (
	// streamKeeps is how long a stream keeps a record.
	streamKeeps = 24 * time.Hour
	// kinesisKeeps is the longest retention of a Kinesis data stream.
	kinesisKeeps = 365 * 24 * time.Hour
	// defaultWindow is the window of point-in-time recovery if DynamoDB states none, in days.
	defaultWindow = 35
)

// table returns the rows of a table.
func (f *finder) table(ctx context.Context, t Target) ([]Row, error) {
	stream := Row{Kind: Stream}
	var out *dynamodb.DescribeTableOutput
	_, err := f.askRow(ctx, &stream, tableCall("DescribeTable"), func(ctx context.Context) error {
		var err error
		out, err = t.DynamoDB.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &t.Table})
		return err
	})
	if err != nil {
		return nil, err
	}
	replicas := []Row{stream}
	replicas[0].Kind = Replicas
	arn := ""
	if strings.HasPrefix(t.Table, "arn:") {
		arn = t.Table
	}
	if out != nil && out.Table != nil {
		arn = aws.ToString(out.Table.TableArn)
		f.stream(&stream, out.Table)
		replicas = replicasOf(t, out.Table)
	}
	var rows []Row
	for _, of := range []struct {
		kind Kind
		ask  func(context.Context, Target, *Row) error
	}{
		{Recovery, f.recovery},
		{Backups, f.backups},
		{Exports, func(ctx context.Context, t Target, r *Row) error {
			return f.exports(ctx, t, arn, r)
		}},
	} {
		r := Row{Kind: of.kind}
		if err := of.ask(ctx, t, &r); err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	kinesis := Row{Kind: Kinesis}
	if err := f.kinesis(ctx, t, &kinesis); err != nil {
		return nil, err
	}
	rows = append(rows, stream, kinesis)
	if t.Replica {
		replicas = nil // the row of the table in the job file lists all Regions
	}
	points, err := f.recoveryPoints(ctx, t, arn)
	return append(append(rows, replicas...), points), err
}

// stream fills in the row of the stream of a table. Its records can contain the items before and
// after a move.
func (f *finder) stream(r *Row, d *types.TableDescription) {
	spec := d.StreamSpecification
	switch {
	case spec == nil && d.LatestStreamArn == nil:
		r.State, r.Detail = None, "The table has no stream."
		return
	case spec != nil && spec.StreamViewType == types.StreamViewTypeKeysOnly:
		r.State, r.Detail = None, "The records of the stream contain only keys."
		return
	}
	view := "of a stream that was disabled"
	if spec != nil {
		view = "with the view type " + string(spec.StreamViewType)
	}
	r.Count = 1
	r.Detail = fmt.Sprintf("Records %s exist for 24 hours. Consumers can have copied them.", view)
	f.until(r, f.moved.Add(streamKeeps), "All records that are older than the last move are "+
		"gone. Consumers can have copied them.")
}

// replicasOf returns a row for each replica of a global table, or one row.
func replicasOf(t Target, d *types.TableDescription) (rows []Row) {
	for _, replica := range d.Replicas {
		region := aws.ToString(replica.RegionName)
		if region == t.Region {
			continue
		}
		r := Row{
			Kind:  Replicas,
			Place: t.place() + " in " + region,
			State: NotLookedAt,
			API:   "DescribeTable",
			Detail: "A move is replicated, but the replica has backups, exports and a stream of " +
				"its own. Add the Region to regions in the job file.",
		}
		if slices.Contains(t.Regions, region) {
			r.State = None
			r.Detail = "A move is replicated. The backups, exports and stream of the replica " +
				"have rows of their own."
		}
		rows = append(rows, r)
	}
	if len(rows) == 0 {
		rows = []Row{{
			Kind:   Replicas,
			State:  None,
			API:    "DescribeTable",
			Detail: "The table has no replica in another Region.",
		}}
	}
	return rows
}

// recovery fills in the row of point-in-time recovery.
func (f *finder) recovery(ctx context.Context, t Target, r *Row) error {
	var out *dynamodb.DescribeContinuousBackupsOutput
	done, err := f.askRow(ctx, r, tableCall("DescribeContinuousBackups"),
		func(ctx context.Context) (err error) {
			out, err = t.DynamoDB.DescribeContinuousBackups(ctx,
				&dynamodb.DescribeContinuousBackupsInput{TableName: &t.Table})
			return err
		})
	if !done || err != nil {
		return err
	}
	var d *types.PointInTimeRecoveryDescription
	if b := out.ContinuousBackupsDescription; b != nil {
		d = b.PointInTimeRecoveryDescription
	}
	if d == nil || d.PointInTimeRecoveryStatus != types.PointInTimeRecoveryStatusEnabled {
		r.State, r.Detail = None, "Point-in-time recovery is disabled."
		return nil
	}
	days := int(aws.ToInt32(d.RecoveryPeriodInDays))
	if days == 0 {
		days = defaultWindow
	}
	r.Count = 1
	r.Detail = fmt.Sprintf("Point-in-time recovery can restore the table as it was up to %s ago.",
		plural.Count(int64(days), "day"))
	earliest := aws.ToTime(d.EarliestRestorableDateTime)
	if !earliest.IsZero() && !f.isOld(earliest) {
		f.until(r, time.Time{}, "Point-in-time recovery begins after the last move.")
		return nil
	}
	f.until(r, f.moved.AddDate(0, 0, days), "Point-in-time recovery begins after the last move.")
	return nil
}

// backups fills in the row of on-demand backups. DynamoDB does not list those of AWS Backup.
func (f *finder) backups(ctx context.Context, t Target, r *Row) error {
	in := &dynamodb.ListBackupsInput{
		TableName:  &t.Table,
		BackupType: types.BackupTypeFilterAll,
	}
	later := int64(0)
	for {
		var page *dynamodb.ListBackupsOutput
		done, err := f.askRow(ctx, r, tableCall("ListBackups"), func(ctx context.Context) error {
			var err error
			page, err = t.DynamoDB.ListBackups(ctx, in)
			return err
		})
		if !done || err != nil {
			return err
		}
		for _, b := range page.BackupSummaries {
			switch {
			case b.BackupStatus == types.BackupStatusDeleted:
			case !f.isOld(aws.ToTime(b.BackupCreationDateTime)):
				later++
			default:
				r.add(Item{
					Name:  aws.ToString(b.BackupName),
					At:    utc(b.BackupCreationDateTime),
					Bytes: aws.ToInt64(b.BackupSizeBytes),
					Until: utc(b.BackupExpiryDateTime),
				})
			}
		}
		if page.LastEvaluatedBackupArn == nil {
			break
		}
		in.ExclusiveStartBackupArn = page.LastEvaluatedBackupArn
	}
	r.conclude(later)
	return nil
}

func utc(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// add counts a copy with a name.
func (r *Row) add(i Item) {
	r.Count++
	r.Bytes += i.Bytes
	r.NoEnd = r.NoEnd || i.Until.IsZero()
	if i.Until.After(r.Until) {
		r.Until = i.Until
	}
	if len(r.Items) < maxItems {
		r.Items = append(r.Items, i)
	}
}

// conclude sets the state of a row of copies with names. later is the number of copies that were
// made after the last move.
func (r *Row) conclude(later int64) {
	r.State = Counted
	if r.NoEnd {
		r.Until = time.Time{}
	}
	if r.Count == 0 {
		r.State = None
		if later > 0 {
			r.Detail = fmt.Sprintf("%d were made after the last move.", later)
		}
		return
	}
	var names []string
	for _, i := range r.Items[:min(3, len(r.Items))] {
		names = append(names, i.Name)
	}
	r.Detail = strings.Join(names, ", ")
	if more := r.Count - int64(len(names)); more > 0 {
		r.Detail += fmt.Sprintf(" and %d more", more)
	}
	r.Detail += "."
}

// exports fills in the row of exports to S3.
func (f *finder) exports(ctx context.Context, t Target, arn string, r *Row) error {
	found, done, err := f.listExports(ctx, t, arn, r)
	if !done || err != nil {
		return err
	}
	const limit = " AWS lists exports of the last 90 days only."
	later := int64(0)
	for _, id := range found {
		item, why, err := f.export(ctx, t, id)
		switch {
		case err != nil:
			return err
		case why != nil:
			*r = Row{Kind: Exports, API: "ListExports, DescribeExport", Count: int64(len(found))}
			why.mark(r)
			r.Detail += limit
			return nil
		case !f.isOld(item.At):
			later++
		default:
			r.add(item)
		}
	}
	r.NoEnd = false // the lifecycle of the objects is not known
	r.conclude(later)
	if r.State == Counted {
		r.Detail += " The objects exist until their owner deletes them."
	}
	r.Detail = strings.TrimSpace(r.Detail + limit)
	return nil
}

// listExports returns the ARNs of the exports of a table. Without the ARN of the table, it reads
// the list of all exports.
func (f *finder) listExports(
	ctx context.Context, t Target, arn string, r *Row,
) (found []string, done bool, err error) {
	in := &dynamodb.ListExportsInput{}
	if arn != "" {
		in.TableArn = &arn
	}
	name := t.Table[strings.LastIndexByte(t.Table, '/')+1:]
	for {
		var page *dynamodb.ListExportsOutput
		done, err = f.askRow(ctx, r, tableCall("ListExports"), func(ctx context.Context) error {
			var err error
			page, err = t.DynamoDB.ListExports(ctx, in)
			return err
		})
		if !done || err != nil {
			return nil, done, err
		}
		for _, e := range page.ExportSummaries {
			if id := aws.ToString(e.ExportArn); strings.Contains(id, "/"+name+"/export/") {
				found = append(found, id)
			}
		}
		if page.NextToken == nil {
			return found, true, nil
		}
		in.NextToken = page.NextToken
	}
}

// export returns an export, named by its place in S3. Its time is that of the exported data.
func (f *finder) export(ctx context.Context, t Target, arn string) (Item, *unseen, error) {
	var out *dynamodb.DescribeExportOutput
	why, err := f.ask(ctx, tableCall("DescribeExport"), func(ctx context.Context) (err error) {
		out, err = t.DynamoDB.DescribeExport(ctx, &dynamodb.DescribeExportInput{ExportArn: &arn})
		return err
	})
	if err != nil || why != nil || out.ExportDescription == nil {
		return Item{Name: arn}, why, err
	}
	d := out.ExportDescription
	place := "s3://" + aws.ToString(d.S3Bucket)
	if prefix := aws.ToString(d.S3Prefix); prefix != "" {
		place += "/" + prefix
	}
	item := Item{Name: place, At: utc(d.ExportTime), Bytes: aws.ToInt64(d.BilledSizeBytes)}
	if i := d.IncrementalExportSpecification; i != nil && item.At.IsZero() {
		item.At = utc(i.ExportFromTime)
	}
	return item, nil, nil
}

// kinesis fills in the row of the Kinesis data streams that receive the changes of a table.
func (f *finder) kinesis(ctx context.Context, t Target, r *Row) error {
	var out *dynamodb.DescribeKinesisStreamingDestinationOutput
	done, err := f.askRow(ctx, r, tableCall("DescribeKinesisStreamingDestination"),
		func(ctx context.Context) (err error) {
			out, err = t.DynamoDB.DescribeKinesisStreamingDestination(ctx,
				&dynamodb.DescribeKinesisStreamingDestinationInput{TableName: &t.Table})
			return err
		})
	if !done || err != nil {
		return err
	}
	var names []string
	for _, d := range out.KinesisDataStreamDestinations {
		arn := aws.ToString(d.StreamArn)
		names = append(names, arn[strings.LastIndexByte(arn, '/')+1:])
		r.Items = append(r.Items, Item{Name: arn})
	}
	if len(names) == 0 {
		r.State, r.Detail = None, "No Kinesis data stream receives the changes of the table."
		return nil
	}
	slices.Sort(names)
	r.Count = int64(len(names))
	return f.retention(ctx, t, r, names)
}
