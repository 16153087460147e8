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

// Partitions returns one partition: all keys under the prefix.
func (b *Bucket) Partitions(context.Context) ([]scan.Partition, error) {
	spec, err := json.Marshal(keyRange{Prefix: b.config.Prefix})
	return []scan.Partition{{Name: fmt.Sprintf("keys under %q", b.config.Prefix), Spec: spec}}, err
}

// Page lists the keys after the cursor, which is the last key of the previous page. A
// continuation token is not used, because its lifetime is not documented. Items are not
// loaded. Every key is an item, including empty objects that represent folders, except keys
// that Config.Globs excludes and the objects of rotator's probes.
func (b *Bucket) Page(
	ctx context.Context, p scan.Partition, cursor scan.Cursor,
) (scan.Page, error) {
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
	if !page.Last && b.config.Connections > 0 { // a bucket with one page needs few connections
		b.connectOnce.Do(func() { b.connect(ctx, r.Prefix, string(page.Next)) })
	}
	return page, nil
}

// page converts a listing after the key last to a page. S3 returns keys in the order of their
// UTF-8 bytes (API_ListObjectsV2). With any other order, rotator would skip objects or list
// them forever, so page returns an error. A server that returns a key twice in a row, or the key
// last again, names one object: it is one item.
func (b *Bucket) page(r keyRange, last string, out *s3.ListObjectsV2Output) (scan.Page, error) {
	page := scan.Page{
		Last:     !aws.ToBool(out.IsTruncated),
		Included: b.config.Globs.Counters(),
	}
	if !page.Last && len(out.Contents) == 0 {
		return scan.Page{}, fmt.Errorf("the server reports more keys after %q but returns none",
			last)
	}
	before := last
	for _, object := range out.Contents {
		key, err := decodeKey(out.EncodingType, aws.ToString(object.Key))
		if err != nil {
			return scan.Page{}, err
		}
		switch {
		case out.EncodingType != types.EncodingTypeUrl && isAmbiguous(key):
			return scan.Page{}, &scan.MissingError{Field: "s3", Detail: fmt.Sprintf(
				"this server does not support EncodingType=url, and key %q can stand for a key "+
					"that XML cannot represent; rename the object, or use a server that encodes "+
					"keys", key)}
		case !strings.HasPrefix(key, r.Prefix):
			return scan.Page{}, fmt.Errorf("the server returned key %q, which does not begin "+
				"with %q",
				key, r.Prefix)
		case key == last:
			continue
		case key < last:
			return scan.Page{}, fmt.Errorf("the server returned key %q after key %q, which is not "+
				"the order of S3", key, last)
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
	if !page.Last && last == before {
		return scan.Page{}, fmt.Errorf("the server reports more keys after %q but returns only "+
			"this key", last)
	}
	if !page.Last {
		page.Next = scan.Cursor(last)
	}
	return page, nil
}

// belowPrefix returns the part of the key after the last slash of the prefix, like the path
// of a file below a directory.
func belowPrefix(prefix, key string) string { return key[strings.LastIndexByte(prefix, '/')+1:] }

// full reports whether a page has the maximum number of items. If a filter leaves out many
// keys, more keys are listed than a page may have items.
func (b *Bucket) full(page scan.Page) bool {
	return b.config.PageLimit > 0 && len(page.Items) >= int(b.config.PageLimit)
}

// maxListKeys is the maximum number of keys in one response of S3 (API_ListObjectsV2).
const maxListKeys = 1000

// adaptListing sets the number of keys of the next listing. If a filter leaves out most keys,
// it lists more, so that a bucket with few selected objects needs few requests.
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

// isAmbiguous reports whether a key in unencoded XML can stand for a different stored key.
// Many servers replace characters that XML cannot contain by U+FFFD, and an XML parser
// converts a carriage return to a line feed (XML 1.0, 2.11). Such a key cannot be a cursor,
// and its object would appear to be deleted.
func isAmbiguous(key string) bool { return strings.ContainsAny(key, "\n\ufffd") }

// decodeKey decodes a key if the server honored EncodingType=url.
func decodeKey(encoding types.EncodingType, key string) (string, error) {
	if encoding != types.EncodingTypeUrl {
		return key, nil
	}
	return url.QueryUnescape(key)
}
