package copies

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"rotator/internal/plural"
)

// retention sets the end of the row of Kinesis data streams from their retention periods. The items
// of the row are the streams. If a retention period cannot be read, the maximum is assumed.
func (f *finder) retention(ctx context.Context, t Target, r *Row, names []string) error {
	list := strings.Join(names, ", ")
	if t.Kinesis == nil {
		r.Detail = fmt.Sprintf("%s can keep a record for up to 365 days. Kinesis was not "+
			"called, because the job file sets an endpoint. To read the retention, run aws "+
			"kinesis describe-stream-summary --stream-name %s", list, names[0])
		f.until(r, f.moved.Add(kinesisKeeps), "No Kinesis data stream keeps a record that long.")
		return nil
	}
	r.API += ", DescribeStreamSummary"
	longest := time.Duration(0)
	for i := range r.Items {
		keeps, why, err := f.retentionOf(ctx, t, r.Items[i].Name)
		if err != nil {
			return err
		}
		if why != nil {
			r.MissingPermission = why.permission
			r.Detail = fmt.Sprintf("%s can keep a record for up to 365 days. The retention cannot "+
				"be read: %s", list, lowerFirst(why.sentence))
			f.until(r, f.moved.Add(kinesisKeeps),
				"No Kinesis data stream keeps a record that long.")
			return nil
		}
		r.Items[i].Until = f.moved.Add(keeps).UTC()
		longest = max(longest, keeps)
	}
	r.Detail = fmt.Sprintf("%s: a record is kept for at most %s. Consumers can have copied it.",
		list, inHours(longest))
	f.until(r, f.moved.Add(longest), "The records that are older than the last move no longer "+
		"exist. Consumers can have copied them.")
	return nil
}

// retentionOf returns how long a stream keeps a record, or 0 if the stream does not exist.
func (f *finder) retentionOf(
	ctx context.Context, t Target, arn string,
) (keeps time.Duration, why *unseen, err error) {
	why, err = f.ask(ctx, call{"Kinesis", "DescribeStreamSummary", "kinesis:DescribeStreamSummary"},
		func(ctx context.Context) error {
			out, err := t.Kinesis.DescribeStreamSummary(ctx,
				&kinesis.DescribeStreamSummaryInput{StreamARN: &arn})
			if errors.As(err, new(*types.ResourceNotFoundException)) {
				return nil
			}
			if err != nil || out.StreamDescriptionSummary == nil {
				return err
			}
			hours := aws.ToInt32(out.StreamDescriptionSummary.RetentionPeriodHours)
			keeps = time.Duration(hours) * time.Hour
			return nil
		})
	return keeps, why, err
}

// inHours returns a time in days, or in hours if it is not a number of days.
func inHours(d time.Duration) string {
	hours := int64(d / time.Hour)
	if hours > 0 && hours%24 == 0 {
		return plural.Count(hours/24, "day")
	}
	return plural.Count(hours, "hour")
}
