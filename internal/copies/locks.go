package copies

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/plural"
)

// maxLocks is the maximum number of versions whose locks are read.
const maxLocks = 10_000

// oldVersions are the noncurrent versions that were written before the last move.
type oldVersions struct {
	list []versionEntry
	more bool // there are more than maxLocks
}

// add adds a version. A nil list ignores it.
func (o *oldVersions) add(e versionEntry) {
	switch {
	case o == nil:
	case len(o.list) == maxLocks:
		o.more = true
	default:
		o.list = append(o.list, e)
	}
}

// lock is the Object Lock protection of one version.
type lock struct {
	until time.Time // zero without a retention
	held  bool      // by a legal hold
}

// locksOf fills in the row of Object Lock with the locks of the versions. S3 hides locks in the
// response to a HEAD from callers without permission, so each kind of lock is read with its own
// request.
func (f *finder) locksOf(ctx context.Context, t Target, r *Row, old *oldVersions) error {
	r.API += ", GetObjectRetention, GetObjectLegalHold"
	held := int64(0)
	var last time.Time
	for _, e := range old.list {
		l, why, err := f.lockOf(ctx, t, e)
		switch {
		case err != nil:
			return err
		case why != nil:
			r.Count = 0
			why.mark(r)
			return nil
		}
		if l.held {
			held++
		}
		if l.until.After(last) {
			last = l.until
		}
		if l.held || l.until.After(f.now) {
			r.Count++
		}
	}
	switch {
	case old.more:
		r.State, r.Count = NotLookedAt, 0
		r.Detail = fmt.Sprintf("There are more than %d old versions. Only the locks of the first "+
			"%[1]d were read. An S3 Inventory report lists all of them.", maxLocks)
	case r.Count == 0:
		r.State, r.Detail = None, "No old version is locked."
	case held > 0:
		r.State, r.NoEnd = Counted, true
		r.Detail = fmt.Sprintf("%s under a legal hold, which has no end.",
			plural.Count(held, "version")+plural.Form(held, " is", " are"))
	default:
		r.State, r.Until = Counted, last.UTC()
		r.Detail = "The latest date until which a version is locked. A lifecycle rule deletes it " +
			"later."
	}
	return nil
}

// lockOf returns the lock of a version.
func (f *finder) lockOf(
	ctx context.Context, t Target, e versionEntry,
) (l lock, why *unseen, err error) {
	const none = "NoSuchObjectLockConfiguration"
	why, err = f.ask(ctx, s3Call("GetObjectRetention", "GetObjectRetention"),
		func(ctx context.Context) error {
			out, err := t.S3.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{
				Bucket:    &t.Bucket,
				Key:       &e.key,
				VersionId: &e.version,
			})
			if err == nil && out.Retention != nil {
				l.until = aws.ToTime(out.Retention.RetainUntilDate)
			}
			if hasCode(err, none) || hasCode(err, "NoSuchVersion") {
				return nil
			}
			return err
		})
	if why != nil || err != nil {
		return l, why, err
	}
	why, err = f.ask(ctx, s3Call("GetObjectLegalHold", "GetObjectLegalHold"),
		func(ctx context.Context) error {
			out, err := t.S3.GetObjectLegalHold(ctx, &s3.GetObjectLegalHoldInput{
				Bucket:    &t.Bucket,
				Key:       &e.key,
				VersionId: &e.version,
			})
			if err == nil && out.LegalHold != nil {
				l.held = out.LegalHold.Status == types.ObjectLockLegalHoldStatusOn
			}
			if hasCode(err, none) || hasCode(err, "NoSuchVersion") {
				return nil
			}
			return err
		})
	return l, why, err
}
