package s3scan

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/scan"
)

// What a GET or HEAD has told of an object need not be asked again right before the
// write, as long as it is young. It tells all that a write sends again but the ACL,
// the annotations and the tags, and of tags how many there are: none is all that has
// to be known of them.

// staleAfter is how old the answer to a GET or HEAD may be when a write relies on it,
// counted from before the question. A limiter can hold an item for longer.
const staleAfter = time.Second

// fresh says that what was read is young enough to write on it. It is asked as the
// last thing before the write.
func (r *snapshot) fresh() bool { return time.Since(r.readAt) <= staleAfter }

// askedOf is of how many objects without tags one is asked for them all the same.
const sampleEvery = 100

// The count of tags is left out of an answer where there are none, where the caller
// may not read them (API_GetObject, x-amz-tagging-count), and by servers that do not
// know it. So its absence means none only where we have been shown that it would be
// there; what that is known of has one of these levels.
const (
	untrusted = unsupported
	trusted   = enforced
)

// untagged says that an object had no tags when it was read, and that this is known.
// Of each hundred one, whichever it is, is asked about all the same: a permission may be
// one of some objects, or be taken back.
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

// tellsTags says that answers to GET and HEAD tell us how many tags an object has. Of
// AWS that is documented of whoever may read them, which the first answer to
// GetObjectTagging shows; other servers are tried.
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

// counted says what is known of that by now.
func (b *Bucket) trustsTagCounts() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tagCounts.support == trusted
}

// tryTags makes an object with a tag and looks whether a GET and a HEAD count it. A
// server that refuses the tag is not relied on, and no reason to stop: each object is
// asked about then.
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
	// to its end, or the connection would be closed
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

// unanswered is the error of a probe that has to be tried again; nil where the server
// has said what it does not do.
func (b *Bucket) ignoreRefusal(err error) error {
	if s := status(err); s < http.StatusBadRequest || s == http.StatusTooManyRequests ||
		s >= http.StatusInternalServerError && !b.notSupported(err) {
		return b.probeError(err)
	}
	return nil
}

// tagsAnswered takes from an answer to GetObjectTagging what it shows: who may ask is
// told of tags, and a server without tags has none to tell of. Who is denied once may
// be denied elsewhere without a word.
func (b *Bucket) learnTagSupport(err error) {
	if status(err) == http.StatusForbidden {
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

// distrustCounts has each object asked about from here on, and says so if some were
// not.
func (b *Bucket) distrustTagCounts() {
	b.mu.Lock()
	affected := b.tagCounts.support == trusted && b.untaggedSeen > 0
	b.tagCounts = capability{known: true, support: untrusted}
	b.mu.Unlock()
	if affected {
		b.note("bucket %s: tags of some objects are not shown to this caller, or not counted by "+
			"GET and HEAD; each object is asked about from here on, "+
			"but tags of objects that were rewritten before may be lost: compare them with a "+
			"backup or with old versions", b.config.Bucket)
	}
}

// sameTags says scan.ErrChanged when the object has another number of tags than those
// that will be sent. Where it has tags that neither GET nor HEAD told of, no count is
// relied on from then on.
func (b *Bucket) verifyTagCount(now *s3.HeadObjectOutput, read *snapshot, kept preserved) error {
	counted := b.trustsTagCounts()
	switch {
	case now.TagCount == nil && !counted: // nothing is known of it
	case now.TagCount == nil && read.tagCount == 0 && kept.tagCount > 0:
		b.distrustTagCounts()
	case aws.ToInt32(now.TagCount) != kept.tagCount:
		return scan.ErrChanged
	}
	return nil
}
