package s3scan

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/scan"
)

// probeName begins the keys of our own probes, behind the prefix of the bucket;
// probeTail is the length of the random rest.
const (
	probeName = ".rotator-probe-"
	probeTail = 26 // of rand.Text
)

// isProbe says whether a key is one of our own probes.
func isProbe(prefix, key string) bool {
	tail, ok := strings.CutPrefix(key, prefix+probeName)
	return ok && len(tail) == probeTail && strings.Trim(tail, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// probe finds out, once and before the first write, whether a server that is not
// AWS enforces the condition of a PUT. It uses a fresh key of its own and deletes
// it again. Where conditions are not enforced, *scan.MissingError ends the run
// before anything is written.
func (b *Bucket) probe(ctx context.Context) error {
	if b.enforces() {
		return nil
	}
	select {
	case b.probing <- struct{}{}:
		defer func() { <-b.probing }()
	case <-ctx.Done():
		return fmt.Errorf("probe conditional writes of bucket %s: %w", b.config.Bucket, ctx.Err())
	}
	if b.enforces() {
		return nil
	}
	key := b.config.Prefix + probeName + rand.Text()
	written, err := b.tryConditions(ctx, key)
	if removed := b.remove(ctx, key, written); removed != nil {
		b.note("bucket %s: the object %s is left of a probe of conditional writes (%s); delete it", b.config.Bucket, key, code(removed))
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.probed = true
	b.mu.Unlock()
	return nil
}

func (b *Bucket) enforces() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.config.AWS || b.probed
}

// tryConditions makes the object and tries to replace it under a wrong ETag,
// which must fail, and under its own, which must not. It returns the versions
// that it wrote or may have written, "" for one without a name.
func (b *Bucket) tryConditions(ctx context.Context, key string) (written []string, err error) {
	put := func(match, noneMatch *string) (etag *string, err error) {
		out, err := b.config.Client.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.config.Bucket, Key: &key, IfMatch: match, IfNoneMatch: noneMatch,
			Body: bytes.NewReader([]byte("rotator probes conditional writes"))})
		if err == nil {
			written = append(written, aws.ToString(out.VersionId))
			return out.ETag, nil
		}
		if answered := status(err); answered == 0 || answered == http.StatusInternalServerError {
			written = append(written, "")
		}
		return nil, err
	}
	etag, err := put(nil, aws.String("*"))
	if err != nil {
		return written, b.probeError(err)
	}
	if _, err = put(aws.String(`"00000000000000000000000000000000"`), nil); status(err) != http.StatusPreconditionFailed {
		return written, b.probeError(err)
	}
	if _, err = put(etag, nil); err != nil {
		return written, b.probeError(err)
	}
	return written, nil
}

// probeError tells a server that cannot do conditional writes from one that did
// not answer; err is nil when it wrote against the condition.
func (b *Bucket) probeError(err error) error {
	if err == nil || b.lacks(err) || status(err) == http.StatusPreconditionFailed {
		return &scan.MissingError{Field: "s3", Detail: fmt.Sprintf(
			"this server does not enforce If-Match on PUT as S3 does, so a concurrent update of bucket %s could be lost; nothing was written", b.config.Bucket)}
	}
	return fmt.Errorf("probe conditional writes of bucket %s: %w", b.config.Bucket, err)
}

// remove deletes versions of the probe, also when the run is being stopped.
func (b *Bucket) remove(ctx context.Context, key string, versions []string) (failed error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	for _, version := range slices.Compact(versions) {
		in := &s3.DeleteObjectInput{Bucket: &b.config.Bucket, Key: &key, VersionId: given(version)}
		if _, err := b.config.Client.DeleteObject(ctx, in); err != nil {
			failed = err
		}
	}
	return failed
}
