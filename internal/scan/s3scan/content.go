package s3scan

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rotator/internal/scan"
)

// Properties returns the properties of an object that a write keeps, by name: headers, storage
// class, encryption, holds, tags and ACL. It requests the tags of every object, because a missing
// tag count does not prove that there are none. It leaves out the retention, which a write
// removes once it has ended, and everything that changes with each write: ETag, version,
// Last-Modified, size and checksum.
func (b *Bucket) Properties(ctx context.Context, item scan.Item) (map[string]string, error) {
	key, err := keyOf(item.Ref)
	if err != nil {
		return nil, err
	}
	read, ok := item.Token.(*snapshot)
	if !ok {
		return nil, fmt.Errorf("item %q was not read from bucket %s", item.Ref, b.config.Bucket)
	}
	found := read.properties.kept()
	if found["tags"], _, err = b.tags(ctx, key); err != nil {
		return nil, goneError(err)
	}
	acl, _, err := b.grants(ctx, key)
	if err != nil {
		return nil, goneError(err)
	}
	acl.addTo(found)
	return found, nil
}

// kept returns the properties that a write keeps, except tags and ACL.
func (p properties) kept() map[string]string {
	return map[string]string{
		"cache-control":       p.cacheControl,
		"content-disposition": p.disposition,
		"content-encoding":    p.encoding,
		"content-language":    p.language,
		"content-type":        p.contentType,
		"expires":             p.expires,
		"redirect":            p.redirect,
		"storage-class":       string(p.class),
		"encryption":          string(p.encryption),
		"kms-key":             p.kmsKey,
		"bucket-key":          strconv.FormatBool(p.bucketKey),
		"legal-hold":          string(p.legalHold),
		"event-hold":          string(p.eventHold),
		"hold-days":           strconv.Itoa(int(p.holdDays)),
		"hold-years":          strconv.Itoa(int(p.holdYears)),
	}
}

// addTo adds the grants to the properties of an object. Their order has no meaning.
func (g grants) addTo(found map[string]string) {
	for name, grantees := range map[string]string{
		"acl-full": g.full, "acl-read": g.read, "acl-read-acp": g.readACP,
		"acl-write-acp": g.writeACP,
	} {
		found[name] = strings.Join(slices.Sorted(strings.SplitSeq(grantees, ", ")), ", ")
	}
}
