package copies_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/copies"
	"rotator/internal/fakeaws/fault"
)

// lockedBucket makes a bucket with Object Lock the only target. It has one object with two
// versions. lock changes the first one, which is then noncurrent.
func (w *world) lockedBucket(lock func(*s3.PutObjectInput)) {
	w.Helper()
	_, err := w.s3.CreateBucket(w.Context(), &s3.CreateBucketInput{
		Bucket:                     aws.String("locked"),
		ObjectLockEnabledForBucket: aws.Bool(true),
	})
	w.must(err)
	w.config.Exact = true
	w.config.Targets = []copies.Target{{Name: "objects", Bucket: "locked", S3: w.s3}}
	for n := range 2 {
		in := &s3.PutObjectInput{
			Bucket: aws.String("locked"),
			Key:    aws.String("k"),
			Body:   strings.NewReader("x"),
		}
		if n == 0 {
			lock(in)
		}
		_, err := w.s3.PutObject(w.Context(), in)
		w.must(err)
	}
}

// TestLocksThatCannotBeRead: a call for a lock that is throttled or cut is stated in the row.
func TestLocksThatCannotBeRead(t *testing.T) {
	for _, operation := range []string{"s3:GetObjectRetention", "s3:GetObjectLegalHold"} {
		for name, f := range map[string]fault.Fault{
			"throttled": {Kind: fault.Throttle},
			"cut":       {Kind: fault.HalfResponse},
			"reset":     {Kind: fault.Reset},
		} {
			t.Run(operation+" "+name, func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.lockedBucket(func(*s3.PutObjectInput) {})
					w.server.Faults().Set(operation, f)
					got := row(w.find(), "objects", copies.Locked)
					if got.State != copies.CannotSee || got.Detail == "" ||
						got.MissingPermission != "" {
						t.Errorf("the row is %+v, want one that states the failure", got)
					}
				})
			})
		}
	}
}

// TestLocksOfVersions: with Exact, the locks of each old version are read: no lock, one with an
// end, and a legal hold, which has none. A call that fails is stated in the row.
func TestLocksOfVersions(t *testing.T) {
	end := time.Date(2000, 1, 31, 0, 0, 0, 0, time.UTC)
	retain := func(in *s3.PutObjectInput) {
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = s3types.ObjectLockModeGovernance, &end
	}
	hold := func(in *s3.PutObjectInput) {
		in.ObjectLockLegalHoldStatus = s3types.ObjectLockLegalHoldStatusOn
	}
	for name, test := range map[string]struct {
		lock   func(*s3.PutObjectInput)
		denied string
		want   copies.Row
	}{
		"no lock":      {func(*s3.PutObjectInput) {}, "", copies.Row{State: copies.None}},
		"a retention":  {retain, "", copies.Row{State: copies.Counted, Count: 1, Until: end}},
		"a legal hold": {hold, "", copies.Row{State: copies.Counted, Count: 1, NoEnd: true}},
		"retention denied": {retain, "s3:GetObjectRetention", copies.Row{State: copies.CannotSee,
			MissingPermission: "s3:GetObjectRetention"}},
		"hold denied": {retain, "s3:GetObjectLegalHold", copies.Row{State: copies.CannotSee,
			MissingPermission: "s3:GetObjectLegalHold"}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.lockedBucket(test.lock)
				if test.denied != "" {
					w.server.Faults().Set(test.denied, fault.Fault{Kind: fault.Refusal,
						Answer: fault.Answer{Status: 403, Code: "AccessDenied"}})
				}
				got := row(w.find(), "objects", copies.Locked)
				if got.State != test.want.State || got.Count != test.want.Count ||
					!got.Until.Equal(test.want.Until) || got.NoEnd != test.want.NoEnd ||
					got.MissingPermission != test.want.MissingPermission {
					t.Errorf("the row is %+v, want %+v", got, test.want)
				}
			})
		})
	}
}
