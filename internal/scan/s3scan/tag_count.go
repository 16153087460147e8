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
func (r *asRead) fresh() bool { return time.Since(r.at) <= staleAfter }

// askedOf is of how many objects without tags one is asked for them all the same.
const askedOf = 100

// The count of tags is left out of an answer where there are none, where the caller
// may not read them (API_GetObject, x-amz-tagging-count), and by servers that do not
// know it. So its absence means none only where we have been shown that it would be
// there; what that is known of has one of these levels.
const (
	untold = unsafe
	told   = enforced
)

// untagged says that an object had no tags when it was read, and that this is known.
// Of each hundred one, whichever it is, is asked about all the same: a permission may be
// one of some objects, or be taken back.
func (b *Bucket) untagged(ctx context.Context, read *asRead) (bool, error) {
	if read.tags > 0 {
		return false, nil
	}
	known, err := b.tellsTags(ctx)
	if err != nil || !known {
		return false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	turn := b.believed % askedOf
	if turn == 0 {
		b.picked = rand.IntN(askedOf)
	}
	b.believed++
	return turn != b.picked, nil
}

// tellsTags says that answers to GET and HEAD tell us how many tags an object has. Of
// AWS that is documented of whoever may read them, which the first answer to
// GetObjectTagging shows; other servers are tried.
func (b *Bucket) tellsTags(ctx context.Context) (bool, error) {
	b.mu.Lock()
	tags := b.tagCounts
	b.mu.Unlock()
	if tags.known || b.config.AWS {
		return tags.known && tags.level == told, nil
	}
	found, err := b.probe(ctx, &b.tagCounts, b.tryTags)
	return found == told, err
}

// counted says what is known of that by now.
func (b *Bucket) counted() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tagCounts.level == told
}

// tryTags makes an object with a tag and looks whether a GET and a HEAD count it. A
// server that refuses the tag is not relied on, and no reason to stop: each object is
// asked about then.
func (b *Bucket) tryTags(ctx context.Context, key string) (l level, written []string, err error) {
	_, written, err = b.plant(ctx, key, nil, aws.String("*"), aws.String("probe=tagged"))
	if err != nil {
		return untold, written, b.unanswered(err)
	}
	got, err := b.config.Client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.config.Bucket, Key: &key})
	if err != nil {
		return untold, written, b.unanswered(err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(got.Body, 1<<10)) // to its end, or the connection would be closed
	_ = got.Body.Close()
	head, err := b.head(ctx, &s3.HeadObjectInput{Bucket: &b.config.Bucket, Key: &key})
	if err != nil {
		return untold, written, b.unanswered(err)
	}
	if aws.ToInt32(got.TagCount) != 1 || aws.ToInt32(head.TagCount) != 1 {
		return untold, written, nil
	}
	return told, written, nil
}

// unanswered is the error of a probe that has to be tried again; nil where the server
// has said what it does not do.
func (b *Bucket) unanswered(err error) error {
	if s := status(err); s < http.StatusBadRequest || s == http.StatusTooManyRequests || s >= http.StatusInternalServerError && !b.lacks(err) {
		return b.probeError(err)
	}
	return nil
}

// tagsAnswered takes from an answer to GetObjectTagging what it shows: who may ask is
// told of tags, and a server without tags has none to tell of. Who is denied once may
// be denied elsewhere without a word.
func (b *Bucket) tagsAnswered(err error) {
	if status(err) == http.StatusForbidden {
		b.distrustCounts()
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.tagCounts.known && (b.config.AWS && err == nil || !b.config.AWS && unimplemented(err)) {
		b.tagCounts = guard{known: true, level: told}
	}
}

// distrustCounts has each object asked about from here on, and says so if some were
// not.
func (b *Bucket) distrustCounts() {
	b.mu.Lock()
	trusted := b.tagCounts.level == told && b.believed > 0
	b.tagCounts = guard{known: true, level: untold}
	b.mu.Unlock()
	if trusted {
		b.note("bucket %s: tags of some objects are not shown to this caller, or not counted by GET and HEAD; each object is asked about from here on, "+
			"but tags of objects that were rewritten before may be lost: compare them with a backup or with old versions", b.config.Bucket)
	}
}

// sameTags says scan.ErrChanged when the object has another number of tags than those
// that will be sent. Where it has tags that neither GET nor HEAD told of, no count is
// relied on from then on.
func (b *Bucket) sameTags(now *s3.HeadObjectOutput, read *asRead, also carried) error {
	counted := b.counted()
	switch {
	case now.TagCount == nil && !counted: // nothing is known of it
	case now.TagCount == nil && read.tags == 0 && also.count > 0:
		b.distrustCounts()
	case aws.ToInt32(now.TagCount) != also.count:
		return scan.ErrChanged
	}
	return nil
}
