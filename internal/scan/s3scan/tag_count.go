package s3scan

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/awserr"
	"rotator/internal/scan"
)

// A recent response to GET or HEAD need not be requested again immediately before a write. It
// contains everything that a write sends again, except the ACL, the annotations and the tags.
// It contains the number of tags, which is sufficient if the number is 0.

// staleAfter is the maximum age of a response on which a write relies, measured from before
// the request. An item can be older because it waited for a rate limiter.
const staleAfter = time.Second

// fresh reports whether the snapshot is recent enough for a write. It must be called
// immediately before the write.
func (r *snapshot) fresh() bool { return time.Since(r.readAt) <= staleAfter }

// sampleEvery is the number of objects without tags of which one is verified with
// GetObjectTagging.
const sampleEvery = 100

// A response has no tag count if the object has no tags, if the caller may not read the tags
// (API_GetObject, x-amz-tagging-count), or if the server does not support it. Therefore a
// missing count means zero tags only if the server is known to report counts to this caller.
const (
	untrusted = unsupported
	trusted   = enforced
)

// knownUntagged reports whether the object is known to have had no tags when it was read. For
// one random object of each sampleEvery it returns false, so that its tags are requested: a
// permission can cover only some objects, or it can be revoked.
func (b *Bucket) knownUntagged(ctx context.Context, read *snapshot) (bool, error) {
	if read.tagCount > 0 {
		return false, nil
	}
	known, err := b.reportsTagCounts(ctx)
	if err != nil || !known {
		return false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	index := b.untaggedSeen % sampleEvery
	if index == 0 {
		b.sampleIndex = rand.IntN(sampleEvery)
	}
	b.untaggedSeen++
	return index != b.sampleIndex, nil
}

// reportsTagCounts reports whether responses to GET and HEAD contain the tag count. AWS
// documents this for callers that may read the tags, which the first successful
// GetObjectTagging proves. Other servers are probed.
func (b *Bucket) reportsTagCounts(ctx context.Context) (bool, error) {
	b.mu.Lock()
	tags := b.tagCounts
	b.mu.Unlock()
	if tags.known || b.config.AWS {
		return tags.known && tags.support == trusted, nil
	}
	found, err := b.probe(ctx, &b.tagCounts, b.tryTagCounts)
	return found == trusted, err
}

// trustsTagCounts reports whether tag counts are trusted now.
func (b *Bucket) trustsTagCounts() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tagCounts.support == trusted
}

// tryTagCounts writes an object with one tag and checks whether GET and HEAD report it. A
// server that refuses the tag is untrusted, which is not an error: the tags of each object
// are requested then.
func (b *Bucket) tryTagCounts(
	ctx context.Context, key string,
) (l support, written []string, err error) {
	_, written, err = b.putProbeObject(ctx, key, nil, aws.String("*"), aws.String("probe=tagged"))
	if err != nil {
		return untrusted, written, b.ignoreRefusal(err)
	}
	got, err := b.config.Client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &b.config.Bucket,
		Key:    &key,
	})
	if err != nil {
		return untrusted, written, b.ignoreRefusal(err)
	}
	// to the end, because otherwise the connection would be closed
	_, _ = io.Copy(io.Discard, io.LimitReader(got.Body, 1<<10))
	_ = got.Body.Close()
	head, err := b.head(ctx, &s3.HeadObjectInput{Bucket: &b.config.Bucket, Key: &key})
	if err != nil {
		return untrusted, written, b.ignoreRefusal(err)
	}
	if aws.ToInt32(got.TagCount) != 1 || aws.ToInt32(head.TagCount) != 1 {
		return untrusted, written, nil
	}
	return trusted, written, nil
}

// ignoreRefusal returns the error of a probe that must be repeated. It returns nil if the
// server refused the request.
func (b *Bucket) ignoreRefusal(err error) error {
	if s := awserr.Status(err); s < http.StatusBadRequest || s == http.StatusTooManyRequests ||
		s >= http.StatusInternalServerError && !b.notSupported(err) {
		return b.probeError(err)
	}
	return nil
}

// learnTagSupport updates the trust in tag counts from a response to GetObjectTagging. On AWS
// a successful response proves that the caller sees tag counts. A server that does not
// implement tags has none to report. If access is denied for one object, the counts of other
// objects are untrusted too.
func (b *Bucket) learnTagSupport(err error) {
	if awserr.Status(err) == http.StatusForbidden {
		b.distrustTagCounts()
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.tagCounts.known &&
		(b.config.AWS && err == nil || !b.config.AWS && isNotImplemented(err)) {
		b.tagCounts = capability{known: true, support: trusted}
	}
}

// distrustTagCounts requests the tags of each object from now on. It adds a note if the tags
// of earlier objects were not requested.
func (b *Bucket) distrustTagCounts() {
	b.mu.Lock()
	affected := b.tagCounts.support == trusted && b.untaggedSeen > 0
	b.tagCounts = capability{known: true, support: untrusted}
	b.mu.Unlock()
	if affected {
		b.note("bucket %s: this caller may not read the tags of some objects, or GET and HEAD do "+
			"not report their number; the tags of each object are requested from now on, but "+
			"tags of objects that were rewritten before may be lost: compare them with a backup "+
			"or with old versions", b.config.Bucket)
	}
}

// verifyTagCount returns scan.ErrChanged if the object has a different number of tags than
// will be sent. If the object has tags that neither GET nor HEAD reported, tag counts are no
// longer trusted.
func (b *Bucket) verifyTagCount(now *s3.HeadObjectOutput, read *snapshot, kept preserved) error {
	counted := b.trustsTagCounts()
	switch {
	case now.TagCount == nil && !counted: // the count is unknown
	case now.TagCount == nil && read.tagCount == 0 && kept.tagCount > 0:
		b.distrustTagCounts()
	case aws.ToInt32(now.TagCount) != kept.tagCount:
		return scan.ErrChanged
	}
	return nil
}
