package copies

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/plural"
)

// bucket returns the rows of a bucket.
func (f *finder) bucket(ctx context.Context, t Target) (rows []Row, err error) {
	l, err := f.lifecycle(ctx, t)
	if err != nil {
		return nil, err
	}
	var old *oldVersions
	if f.Exact {
		old = &oldVersions{}
	}
	noncurrent, deleted, err := f.versions(ctx, t, l, old)
	if err != nil {
		return nil, err
	}
	rows = []Row{noncurrent, deleted}
	locked := Row{Kind: Locked}
	noVersions := noncurrent.State == None && deleted.State == None
	if err := f.locks(ctx, t, &locked, noVersions, old); err != nil {
		return nil, err
	}
	rows = append(rows, locked)
	replicated, err := f.replication(ctx, t)
	if err != nil {
		return nil, err
	}
	rows = append(rows, replicated...)
	uploads := Row{Kind: Uploads}
	if err := f.uploads(ctx, t, &uploads, l); err != nil {
		return nil, err
	}
	recovery, err := f.recoveryPoints(ctx, t, bucketARN(t))
	return append(rows, uploads, archivedRow(t), recovery), err
}

// archivedRow returns the row of archived objects, which is known from a pass.
func archivedRow(t Target) Row {
	r := Row{Kind: ArchivedKind, State: None}
	switch a := t.Archived; {
	case a == nil:
		r.State = NotLookedAt
		r.Detail = "No pass has read the bucket, so it is not known whether it has archived " +
			"objects."
	case a.Objects == 0:
		r.Detail = upperFirst(a.Pass) + " found no archived object."
	default:
		r.State, r.Count = Counted, a.Objects
		r.Detail = fmt.Sprintf("%s could not read them. Their keys are not known: restore them, "+
			"then run rotator retry. rotator verify --exceptions lists them.", upperFirst(a.Pass))
	}
	return r
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// bucketARN returns the ARN of the bucket of a target.
func bucketARN(t Target) string {
	if strings.HasPrefix(t.Bucket, "arn:") {
		return t.Bucket
	}
	return "arn:" + partition(t.Region) + ":s3:::" + t.Bucket
}

// partition returns the partition of a Region.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// locks fills in the row of Object Lock. With Exact, it reads the locks of the versions in old.
// Without Exact, old is not used.
func (f *finder) locks(
	ctx context.Context, t Target, r *Row, noVersions bool, old *oldVersions,
) error {
	var out *s3.GetObjectLockConfigurationOutput
	done, err := f.askRow(ctx, r, s3Call("GetObjectLockConfiguration",
		"GetBucketObjectLockConfiguration"), func(ctx context.Context) (err error) {
		out, err = t.S3.GetObjectLockConfiguration(ctx,
			&s3.GetObjectLockConfigurationInput{Bucket: &t.Bucket})
		if hasCode(err, "ObjectLockConfigurationNotFoundError") {
			out = &s3.GetObjectLockConfigurationOutput{}
			return nil
		}
		return err
	})
	if !done || err != nil {
		return err
	}
	c := out.ObjectLockConfiguration
	r.State = None
	switch {
	case c == nil || c.ObjectLockEnabled != types.ObjectLockEnabledEnabled:
		r.Detail = "The bucket has no Object Lock."
		return nil
	case noVersions:
		r.Detail = "The bucket has Object Lock, but no version that is older than the last move."
		return nil
	case old != nil:
		return f.locksOf(ctx, t, r, old)
	}
	r.State = NotLookedAt
	r.Detail = "The bucket has Object Lock, so a version can exist after its lifecycle rule " +
		"would delete it. "
	if c.Rule != nil && c.Rule.DefaultRetention != nil {
		d := c.Rule.DefaultRetention
		r.Detail += fmt.Sprintf("New versions are locked for %s (%s). ", period(d),
			strings.ToLower(string(d.Mode)))
	}
	r.Detail += "The locks and legal holds of single versions are not read: run rotator copies " +
		"--exact, or read an S3 Inventory report."
	return nil
}

// period returns the time of a default retention in words.
func period(d *types.DefaultRetention) string {
	if years := aws.ToInt32(d.Years); years > 0 {
		return plural.Count(int64(years), "year")
	}
	return plural.Count(int64(aws.ToInt32(d.Days)), "day")
}

// replication returns a row for each destination bucket, or one row.
func (f *finder) replication(ctx context.Context, t Target) ([]Row, error) {
	var out *s3.GetBucketReplicationOutput
	row := Row{Kind: Replicated}
	done, err := f.askRow(ctx, &row, s3Call("GetBucketReplication", "GetReplicationConfiguration"),
		func(ctx context.Context) (err error) {
			out, err = t.S3.GetBucketReplication(ctx,
				&s3.GetBucketReplicationInput{Bucket: &t.Bucket})
			if hasCode(err, "ReplicationConfigurationNotFoundError") {
				out = &s3.GetBucketReplicationOutput{}
				return nil
			}
			return err
		})
	if !done || err != nil {
		return []Row{row}, err
	}
	var rows []Row
	if c := out.ReplicationConfiguration; c != nil {
		for _, rule := range c.Rules {
			if overlaps(replicationPrefix(rule), t.Prefix) && rule.Destination != nil {
				rows = append(rows, f.replicaOf(t, rule))
			}
		}
	}
	if len(rows) == 0 {
		row.State = None
		row.Detail = "No replication rule matches the prefix. A rule that was removed can have " +
			"copied objects before."
		rows = []Row{row}
	}
	return rows, nil
}

// replicaOf returns the row of the destination of a replication rule.
func (f *finder) replicaOf(t Target, rule types.ReplicationRule) Row {
	arn := aws.ToString(rule.Destination.Bucket)
	name := arn[strings.LastIndexByte(arn, ':')+1:]
	r := Row{Kind: Replicated, API: "GetBucketReplication", Place: name, State: NotLookedAt}
	status := "copies"
	if rule.Status != types.ReplicationRuleStatusEnabled {
		status = "is disabled, but can have copied"
	}
	r.Detail = fmt.Sprintf("A replication rule %s objects of %s to this bucket", status, t.place())
	if account := aws.ToString(rule.Destination.Account); account != "" {
		r.Detail += " in account " + account
	}
	r.Detail += "."
	for _, other := range f.Targets {
		if other.Bucket == name && strings.HasPrefix(t.Prefix, other.Prefix) {
			r.Detail += fmt.Sprintf(" It is target %s of this job, so passes read it, and it has "+
				"rows of its own.", other.Name)
			r.State = None
			return r
		}
	}
	r.Detail += " What it contains was not checked. A move of an object is replicated, but old " +
		"versions stay. Make the bucket a target of a job."
	return r
}

func replicationPrefix(rule types.ReplicationRule) string {
	switch {
	case rule.Filter == nil:
		//lint:ignore SA1019 S3 returns old rules in this form
		return aws.ToString(rule.Prefix)
	case rule.Filter.And != nil:
		return aws.ToString(rule.Filter.And.Prefix)
	}
	return aws.ToString(rule.Filter.Prefix)
}

// overlaps reports whether some keys can have both prefixes.
func overlaps(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) }

// uploads fills in the row of incomplete multipart uploads.
func (f *finder) uploads(ctx context.Context, t Target, r *Row, l lifecycle) error {
	r.API = "ListMultipartUploads, GetBucketLifecycleConfiguration"
	in := &s3.ListMultipartUploadsInput{
		Bucket:       &t.Bucket,
		Prefix:       aws.String(t.Prefix),
		EncodingType: types.EncodingTypeUrl,
	}
	last := time.Time{}
	for {
		var page *s3.ListMultipartUploadsOutput
		done, err := f.askRow(ctx, r, s3Call("ListMultipartUploads", "ListBucketMultipartUploads"),
			func(ctx context.Context) (err error) {
				page, err = t.S3.ListMultipartUploads(ctx, in)
				return err
			})
		if !done || err != nil {
			return err
		}
		for _, u := range page.Uploads {
			r.Count++
			if at := aws.ToTime(u.Initiated); at.After(last) {
				last = at
			}
		}
		key := decoded(page.NextKeyMarker, page.EncodingType)
		if !aws.ToBool(page.IsTruncated) || key == aws.ToString(in.KeyMarker) &&
			aws.ToString(page.NextUploadIdMarker) == aws.ToString(in.UploadIdMarker) {
			break
		}
		in.KeyMarker, in.UploadIdMarker = &key, page.NextUploadIdMarker
	}
	if r.Count == 0 {
		r.State = None
		return nil
	}
	r.Detail = "An upload that is completed makes a new object, which can contain an old " +
		"ciphertext."
	f.endBy(r, l, l.uploads, last, "incomplete uploads")
	return nil
}
