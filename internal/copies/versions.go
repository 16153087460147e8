package copies

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/plural"
)

// versionCount counts versions of one kind. Old versions are those that were written before the
// last move.
type versionCount struct {
	old, later, bytes int64
	// superseded is when the last of the old versions became noncurrent.
	superseded time.Time
}

// versionWalk counts the versions of the keys under a prefix. The state of the current key is kept
// between two pages, because its versions can be on both.
type versionWalk struct {
	isOld                        func(time.Time) bool
	current, noncurrent, deleted versionCount

	old *oldVersions // collects the old noncurrent versions; nil if they are not needed

	key      string
	begun    bool
	marked   bool      // the latest entry of key is a delete marker
	previous time.Time // LastModified of the previous, newer entry of key
}

// versionEntry is a version or a delete marker.
type versionEntry struct {
	key, version   string
	at             time.Time
	size           int64
	latest, marker bool
}

// entriesOf returns the versions and delete markers of a page in the order of S3: by key, then the
// newest first.
func entriesOf(page *s3.ListObjectVersionsOutput) (list []versionEntry) {
	for _, v := range page.Versions {
		list = append(list, versionEntry{
			key:     decoded(v.Key, page.EncodingType),
			version: aws.ToString(v.VersionId),
			at:      aws.ToTime(v.LastModified),
			size:    aws.ToInt64(v.Size),
			latest:  aws.ToBool(v.IsLatest),
		})
	}
	for _, m := range page.DeleteMarkers {
		list = append(list, versionEntry{
			key:    decoded(m.Key, page.EncodingType),
			at:     aws.ToTime(m.LastModified),
			latest: aws.ToBool(m.IsLatest),
			marker: true,
		})
	}
	slices.SortStableFunc(list, func(a, b versionEntry) int {
		newest := 0
		if a.latest != b.latest {
			newest = 1
			if a.latest {
				newest = -1
			}
		}
		return cmp.Or(cmp.Compare(a.key, b.key), newest, b.at.Compare(a.at))
	})
	return list
}

// decoded returns a key of a list. S3 encodes keys only if the request asks for it.
func decoded(key *string, encoding types.EncodingType) string {
	text := aws.ToString(key)
	if encoding != types.EncodingTypeUrl {
		return text
	}
	if plain, err := url.QueryUnescape(text); err == nil {
		return plain
	}
	return text
}

// add counts one entry.
func (w *versionWalk) add(e versionEntry) {
	if !w.begun || e.key != w.key {
		w.key, w.begun, w.marked, w.previous = e.key, true, e.marker, e.at
	}
	superseded := w.previous
	w.previous = e.at
	c := &w.noncurrent
	switch {
	case e.marker:
		return
	case e.latest:
		c = &w.current
	case w.marked:
		c = &w.deleted
	}
	if !w.isOld(e.at) {
		c.later++
		return
	}
	if !e.latest {
		w.old.add(e)
	}
	c.old++
	c.bytes += e.size
	if superseded.After(c.superseded) {
		c.superseded = superseded
	}
}

// versions returns the rows of noncurrent and delete-marked versions, and collects these versions
// in old, which may be nil. Passes read the current versions, so these have no row.
func (f *finder) versions(
	ctx context.Context, t Target, l lifecycle, old *oldVersions,
) (noncurrent, deleted Row, err error) {
	noncurrent, deleted = Row{Kind: Noncurrent}, Row{Kind: DeleteMarked}
	var status *s3.GetBucketVersioningOutput
	why, err := f.ask(ctx, s3Call("GetBucketVersioning", "GetBucketVersioning"),
		func(ctx context.Context) (err error) {
			status, err = t.S3.GetBucketVersioning(ctx,
				&s3.GetBucketVersioningInput{Bucket: &t.Bucket})
			return err
		})
	if err != nil {
		return noncurrent, deleted, err
	}
	rows := []*Row{&noncurrent, &deleted}
	if why == nil && status.Status == "" {
		for _, r := range rows {
			r.State, r.API = None, "GetBucketVersioning"
			r.Detail = "The bucket has never had versioning."
		}
		return noncurrent, deleted, nil
	}
	walk := &versionWalk{isOld: f.isOld, old: old}
	why, err = f.walk(ctx, t, walk)
	if err != nil {
		return noncurrent, deleted, err
	}
	for i, c := range []versionCount{walk.noncurrent, walk.deleted} {
		rows[i].API = "ListObjectVersions, GetBucketLifecycleConfiguration"
		rows[i].Count, rows[i].Bytes = c.old, c.bytes
		if why != nil {
			rows[i].API = "ListObjectVersions"
			why.mark(rows[i])
			if c.old > 0 {
				rows[i].Detail += fmt.Sprintf(" Before that, %s found.",
					plural.Count(c.old, "version")+plural.Form(c.old, " was", " were"))
			}
			continue
		}
		if c.later > 0 {
			rows[i].Detail = fmt.Sprintf("%d more %s written after the last move.", c.later,
				plural.Form(c.later, "was", "were"))
		}
		if c.old == 0 {
			rows[i].State = None
			continue
		}
		f.endBy(rows[i], l, l.noncurrent, c.superseded, "noncurrent versions")
	}
	for _, r := range rows {
		r.Detail = strings.TrimSpace(r.Detail)
	}
	return noncurrent, deleted, nil
}

// walk reads all pages. Each page is tried again on its own.
func (f *finder) walk(ctx context.Context, t Target, w *versionWalk) (*unseen, error) {
	in := &s3.ListObjectVersionsInput{
		Bucket:       &t.Bucket,
		Prefix:       aws.String(t.Prefix),
		EncodingType: types.EncodingTypeUrl,
	}
	for {
		var page *s3.ListObjectVersionsOutput
		why, err := f.ask(ctx, s3Call("ListObjectVersions", "ListBucketVersions"),
			func(ctx context.Context) (err error) {
				page, err = t.S3.ListObjectVersions(ctx, in)
				return err
			})
		if err != nil || why != nil {
			return why, err
		}
		for _, e := range entriesOf(page) {
			w.add(e)
		}
		if !aws.ToBool(page.IsTruncated) {
			return nil, nil
		}
		key, version := decoded(page.NextKeyMarker, page.EncodingType), page.NextVersionIdMarker
		if key == aws.ToString(in.KeyMarker) &&
			aws.ToString(version) == aws.ToString(in.VersionIdMarker) {
			return &unseen{"", "S3 returned the same page of ListObjectVersions twice."}, nil
		}
		in.KeyMarker, in.VersionIdMarker = &key, version
	}
}
