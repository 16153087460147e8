package copies

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// lifecycle is what the lifecycle rules of a bucket delete under a prefix.
type lifecycle struct {
	why        *unseen // the rules could not be read
	noncurrent deadline
	uploads    deadline
}

// deadline is after how many days a rule deletes copies. days is 0 without a rule that covers all
// of them; partly then has the reasons why other rules do not.
type deadline struct {
	rule   string
	days   int32
	partly []string
}

// add takes a rule into account.
func (d *deadline) add(rule types.LifecycleRule, days int32, prefix, keeps string) {
	why := notCovered(rule, prefix)
	if why == "" {
		why = keeps
	}
	switch {
	case days <= 0:
	case why != "":
		d.partly = append(d.partly, fmt.Sprintf("rule %s %s", ruleName(rule), why))
	case d.days == 0 || days < d.days:
		d.rule, d.days = ruleName(rule), days
	}
}

func ruleName(rule types.LifecycleRule) string {
	if id := aws.ToString(rule.ID); id != "" {
		return id
	}
	return "without a name"
}

// end returns when S3 deletes a copy whose time counts from t: at the next midnight in UTC after
// the days have passed (Lifecycle rules: how S3 calculates how long an object has been
// noncurrent).
func (d *deadline) end(t time.Time) time.Time {
	end := t.UTC().AddDate(0, 0, int(d.days))
	midnight := end.Truncate(24 * time.Hour)
	if midnight.Before(end) {
		midnight = midnight.AddDate(0, 0, 1)
	}
	return midnight
}

// set sets the end of the copies of a row. last is the time from which the deadline of the last
// one counts; what names the copies.
func (f *finder) endBy(r *Row, l lifecycle, d deadline, last time.Time, what string) {
	r.State = Counted
	switch {
	case l.why != nil:
		r.MissingPermission = l.why.permission
		r.Detail += " The dates of their deletion cannot be read: " + lowerFirst(l.why.sentence)
	case d.days > 0:
		r.Until = d.end(last)
		r.Detail += fmt.Sprintf(" Lifecycle rule %s deletes %s after %d days.", d.rule, what,
			d.days)
		if !r.Until.After(f.now) {
			r.Until = f.now.Truncate(24*time.Hour).AddDate(0, 0, 1)
			r.Detail += " They are due; S3 deletes them with a delay."
		}
	default:
		r.NoEnd = true
		r.Detail += fmt.Sprintf(" No lifecycle rule deletes all %s under the prefix", what)
		if len(d.partly) > 0 {
			r.Detail += ": " + strings.Join(d.partly, "; ")
		}
		r.Detail += "."
	}
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// notCovered returns why a rule does not apply to all objects under the prefix, or "".
func notCovered(rule types.LifecycleRule, prefix string) string {
	//lint:ignore SA1019 S3 returns old rules in this form
	of := aws.ToString(rule.Prefix)
	tags, sizes := false, false
	if filter := rule.Filter; filter != nil {
		of = aws.ToString(filter.Prefix)
		tags = filter.Tag != nil
		sizes = filter.ObjectSizeGreaterThan != nil || filter.ObjectSizeLessThan != nil
		if and := filter.And; and != nil {
			of = aws.ToString(and.Prefix)
			tags = len(and.Tags) > 0
			sizes = and.ObjectSizeGreaterThan != nil || and.ObjectSizeLessThan != nil
		}
	}
	switch {
	case rule.Status != types.ExpirationStatusEnabled:
		return "is disabled"
	case !strings.HasPrefix(prefix, of):
		return "covers only " + of
	case tags:
		return "covers only objects with certain tags, which are not read"
	case sizes:
		return "covers only objects of certain sizes"
	}
	return ""
}

// lifecycle reads the lifecycle rules of a bucket.
func (f *finder) lifecycle(ctx context.Context, t Target) (l lifecycle, err error) {
	var out *s3.GetBucketLifecycleConfigurationOutput
	const none = "NoSuchLifecycleConfiguration"
	l.why, err = f.ask(ctx, s3Call("GetBucketLifecycleConfiguration", "GetLifecycleConfiguration"),
		func(ctx context.Context) (err error) {
			out, err = t.S3.GetBucketLifecycleConfiguration(ctx,
				&s3.GetBucketLifecycleConfigurationInput{Bucket: &t.Bucket})
			if hasCode(err, none) {
				return nil
			}
			return err
		})
	if err != nil || l.why != nil || out == nil {
		return l, err
	}
	for _, rule := range out.Rules {
		if n := rule.NoncurrentVersionExpiration; n != nil {
			keeps := ""
			if k := aws.ToInt32(n.NewerNoncurrentVersions); k > 0 {
				keeps = fmt.Sprintf("keeps the newest %d of each key", k)
			}
			l.noncurrent.add(rule, aws.ToInt32(n.NoncurrentDays), t.Prefix, keeps)
		}
		if a := rule.AbortIncompleteMultipartUpload; a != nil {
			l.uploads.add(rule, aws.ToInt32(a.DaysAfterInitiation), t.Prefix, "")
		}
	}
	return l, nil
}
