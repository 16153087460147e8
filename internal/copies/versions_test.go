package copies

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"pgregory.net/rapid"
)

// counts are the figures of a versionWalk.
type counts struct{ current, noncurrent, deleted versionCount }

// model counts the entries of all keys without pages. entries has each key's entries, the newest
// first.
func model(entries map[string][]versionEntry, isOld func(time.Time) bool) (c counts) {
	for _, list := range entries {
		for i, e := range list {
			of := &c.noncurrent
			switch {
			case e.marker:
				continue
			case i == 0:
				of = &c.current
			case list[0].marker:
				of = &c.deleted
			}
			if !isOld(e.at) {
				of.later++
				continue
			}
			of.old++
			of.bytes += e.size
			if i > 0 && list[i-1].at.After(of.superseded) {
				of.superseded = list[i-1].at
			}
			if i == 0 && e.at.After(of.superseded) {
				of.superseded = e.at
			}
		}
	}
	return c
}

// pageOf returns entries as S3 lists them: versions and delete markers in two lists.
func pageOf(entries []versionEntry) *s3.ListObjectVersionsOutput {
	page := &s3.ListObjectVersionsOutput{}
	for _, e := range entries {
		if e.marker {
			page.DeleteMarkers = append(page.DeleteMarkers, types.DeleteMarkerEntry{
				Key:          &e.key,
				LastModified: &e.at,
				IsLatest:     &e.latest,
			})
			continue
		}
		page.Versions = append(page.Versions, types.ObjectVersion{
			Key:          &e.key,
			LastModified: &e.at,
			Size:         aws.Int64(e.size),
			IsLatest:     &e.latest,
		})
	}
	return page
}

// The counts do not depend on where the pages end.
func TestVersionWalkEqualsModel(t *testing.T) {
	epoch := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	isOld := func(at time.Time) bool { return at.Before(epoch.Add(10 * time.Hour)) }
	rapid.Check(t, func(t *rapid.T) {
		entries := map[string][]versionEntry{}
		var all []versionEntry
		for i := range rapid.IntRange(0, 4).Draw(t, "keys") {
			key := fmt.Sprintf("key-%d", i)
			at := epoch
			var list []versionEntry
			for range rapid.IntRange(1, 6).Draw(t, "versions") {
				// Times differ by at least a second: equal times have no order in the answer.
				at = at.Add(time.Duration(rapid.IntRange(1, 4*3600).Draw(t, "pause")) * time.Second)
				list = append(list, versionEntry{
					key:    key,
					at:     at,
					size:   int64(rapid.IntRange(0, 9).Draw(t, "size")),
					marker: rapid.Bool().Draw(t, "marker"),
				})
			}
			slices.Reverse(list)
			list[0].latest = true
			entries[key] = list
			all = append(all, list...)
		}
		walk := &versionWalk{isOld: isOld}
		for len(all) > 0 {
			n := rapid.IntRange(1, len(all)).Draw(t, "page")
			for _, e := range entriesOf(pageOf(all[:n])) {
				walk.add(e)
			}
			all = all[n:]
		}
		for i := range entries {
			for j := range entries[i] {
				if entries[i][j].marker {
					entries[i][j].size = 0
				}
			}
		}
		got := counts{walk.current, walk.noncurrent, walk.deleted}
		if want := model(entries, isOld); got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}

// Only an enabled rule that covers the whole prefix and all versions deletes all of them.
func TestLifecycleRules(t *testing.T) {
	prefix := func(p string) *types.LifecycleRuleFilter {
		return &types.LifecycleRuleFilter{Prefix: &p}
	}
	for _, test := range []struct {
		name   string
		rule   types.LifecycleRule
		keeps  string
		covers bool
	}{
		{"whole bucket", types.LifecycleRule{Filter: prefix("")}, "", true},
		{"no filter", types.LifecycleRule{}, "", true},
		{"shorter prefix", types.LifecycleRule{Filter: prefix("in/")}, "", true},
		//lint:ignore SA1019 S3 returns old rules in this form
		{"old form of the prefix", types.LifecycleRule{Prefix: aws.String("in/a/")}, "", true},
		{"longer prefix", types.LifecycleRule{Filter: prefix("in/a/b/")}, "", false},
		//lint:ignore SA1019 S3 returns old rules in this form
		{"old form, longer", types.LifecycleRule{Prefix: aws.String("in/a/b")}, "", false},
		{"other prefix", types.LifecycleRule{Filter: prefix("out/")}, "", false},
		{"disabled", types.LifecycleRule{
			Status: types.ExpirationStatusDisabled,
			Filter: prefix(""),
		}, "", false},
		{"tag", types.LifecycleRule{Filter: &types.LifecycleRuleFilter{
			Tag: &types.Tag{Key: aws.String("k"), Value: aws.String("v")},
		}}, "", false},
		{"prefix and tag", types.LifecycleRule{Filter: &types.LifecycleRuleFilter{
			And: &types.LifecycleRuleAndOperator{
				Prefix: aws.String("in/"),
				Tags:   []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}},
			},
		}}, "", false},
		{"size", types.LifecycleRule{Filter: &types.LifecycleRuleFilter{
			ObjectSizeGreaterThan: aws.Int64(1),
		}}, "", false},
		{"prefix and size", types.LifecycleRule{Filter: &types.LifecycleRuleFilter{
			And: &types.LifecycleRuleAndOperator{ObjectSizeLessThan: aws.Int64(9)},
		}}, "", false},
		{"keeps the newest", types.LifecycleRule{}, "keeps the newest 2 of each key", false},
	} {
		if test.rule.Status == "" {
			test.rule.Status = types.ExpirationStatusEnabled
		}
		var d deadline
		d.add(test.rule, 30, "in/a/", test.keeps)
		if got := d.days == 30; got != test.covers || got == (len(d.partly) == 1) {
			t.Errorf("%s: %+v, want a deadline: %t", test.name, d, test.covers)
		}
	}
	d := deadline{}
	for _, days := range []int32{30, 7, 90} {
		d.add(types.LifecycleRule{Status: types.ExpirationStatusEnabled}, days, "in/", "")
	}
	if d.days != 7 {
		t.Errorf("the first deadline is %d days, want 7", d.days)
	}
}

// S3 deletes at the midnight after the days have passed.
func TestDeadlineEndsAtMidnight(t *testing.T) {
	d := deadline{days: 2}
	for _, test := range []struct{ from, end string }{
		{"2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"},
		{"2026-01-01T00:00:01Z", "2026-01-04T00:00:00Z"},
		{"2026-01-01T23:59:59Z", "2026-01-04T00:00:00Z"},
	} {
		from, err := time.Parse(time.RFC3339, test.from)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.end(from).Format(time.RFC3339); got != test.end {
			t.Errorf("from %s until %s, want %s", test.from, got, test.end)
		}
	}
}
