package s3scan

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/scan"
)

// keyRange is the Spec of a partition.
type keyRange struct {
	Prefix string `json:"prefix"`
}

// Partitions returns the one key range of the prefix.
func (b *Bucket) Partitions(context.Context) ([]scan.Partition, error) {
	spec, err := json.Marshal(keyRange{Prefix: b.config.Prefix})
	return []scan.Partition{{Name: fmt.Sprintf("keys under %q", b.config.Prefix), Spec: spec}}, err
}

// Page lists the keys behind the cursor, which is the last key of the page
// before: how long a continuation token lives is documented nowhere. Items are
// not loaded. Every key is an item, also those of empty objects that stand for
// folders, but for those that Config.Globs leaves out and the objects of our own probes.
func (b *Bucket) Page(ctx context.Context, p scan.Partition, cursor scan.Cursor) (scan.Page, error) {
	var r keyRange
	if err := json.Unmarshal(p.Spec, &r); err != nil {
		return scan.Page{}, fmt.Errorf("read the partition of bucket %s: %w", b.config.Bucket, err)
	}
	in := &s3.ListObjectsV2Input{
		Bucket:       &b.config.Bucket,
		Prefix:       &r.Prefix,
		EncodingType: types.EncodingTypeUrl,
	}
	if len(cursor) > 0 {
		in.StartAfter = aws.String(string(cursor))
	}
	if limit := max(b.listLimit.Load(), b.config.PageLimit); limit > 0 {
		in.MaxKeys = &limit
	}
	out, err := b.config.Client.ListObjectsV2(ctx, in)
	if err != nil {
		return scan.Page{}, fmt.Errorf("list bucket %s: %w", b.config.Bucket, err)
	}
	page, err := b.page(r, string(cursor), out)
	if err != nil {
		return scan.Page{}, fmt.Errorf("list bucket %s: %w", b.config.Bucket, err)
	}
	b.adaptListing(len(out.Contents), len(page.Items))
	if !page.Last && b.config.Connections > 0 { // few objects need few connections
		b.connectOnce.Do(func() { b.connect(ctx, r.Prefix, string(page.Next)) })
	}
	return page, nil
}

// page makes a page of what was listed behind a key. Keys come in the order of
// their UTF-8 bytes (API_ListObjectsV2); a server that gives another order would
// have us miss some, or list for ever.
func (b *Bucket) page(r keyRange, last string, out *s3.ListObjectsV2Output) (scan.Page, error) {
	page := scan.Page{
		Last:     !aws.ToBool(out.IsTruncated),
		Included: b.config.Globs.Counters(),
	}
	if !page.Last && len(out.Contents) == 0 {
		return scan.Page{}, fmt.Errorf("the server says that there is more behind key %q, and "+
			"names no key", last)
	}
	for _, object := range out.Contents {
		key, err := decodeKey(out.EncodingType, aws.ToString(object.Key))
		if err != nil {
			return scan.Page{}, err
		}
		switch {
		case out.EncodingType != types.EncodingTypeUrl && isAmbiguous(key):
			return scan.Page{}, &scan.MissingError{Field: "s3", Detail: fmt.Sprintf(
				"this server lists keys as XML text, without EncodingType=url, and key %q may "+
					"stand for another one that XML cannot hold; rename the object, or use a "+
					"server that encodes keys", key)}
		case !strings.HasPrefix(key, r.Prefix):
			return scan.Page{}, fmt.Errorf("the server names key %q, which does not begin with %q",
				key, r.Prefix)
		case key <= last:
			return scan.Page{}, fmt.Errorf("the server names key %q behind key %q, against the "+
				"order of S3", key, last)
		}
		if b.full(page) {
			page.Last = false
			break
		}
		last = key
		switch {
		case isProbeKey(r.Prefix, key):
			b.noteProbe(r.Prefix)
		case b.config.Globs.Any() && !b.config.Globs.Selects(belowPrefix(r.Prefix, key)):
			page.Excluded++
		default:
			b.config.Globs.Count(page.Included, belowPrefix(r.Prefix, key))
			page.Items = append(page.Items, scan.Item{Ref: refOf(key)})
		}
	}
	if !page.Last {
		page.Next = scan.Cursor(last)
	}
	return page, nil
}

// belowPrefix returns the part of the key after the last slash of the prefix,
// like the path of a file below a directory.
func belowPrefix(prefix, key string) string { return key[strings.LastIndexByte(prefix, '/')+1:] }

// full reports whether a page has the maximum number of items. If a filter
// leaves out many keys, more keys are listed than a page may have items.
func (b *Bucket) full(page scan.Page) bool {
	return b.config.PageLimit > 0 && len(page.Items) >= int(b.config.PageLimit)
}

// mostKeys is the maximum number of keys in one response of S3
// (API_ListObjectsV2).
const maxListKeys = 1000

// adapt sets the number of keys in the next listing. If a filter leaves out
// most keys, it lists more, so that a bucket with few selected objects needs
// few requests.
func (b *Bucket) adaptListing(listed, wanted int) {
	limit := b.config.PageLimit
	if limit <= 0 || !b.config.Globs.Any() || listed == 0 {
		return
	}
	next := max(b.listLimit.Load(), limit)
	switch {
	case wanted*2 < listed:
		next = min(next*2, maxListKeys)
	case wanted >= int(limit):
		next = max(next/2, limit)
	}
	b.listLimit.Store(next)
}

// doubtful says that a key in plain XML may not be the one that is stored: what
// XML cannot hold is written as U+FFFD by many servers, and a carriage return is
// read as a line feed (XML 1.0, 2.11). Such a key is no place to go on from, and
// its object would be taken for one that is gone.
func isAmbiguous(key string) bool { return strings.ContainsAny(key, "\n\ufffd") }

// decodeKey undoes EncodingType=url, where the server honoured it.
func decodeKey(encoding types.EncodingType, key string) (string, error) {
	if encoding != types.EncodingTypeUrl {
		return key, nil
	}
	return url.QueryUnescape(key)
}
