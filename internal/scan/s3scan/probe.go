package s3scan

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/redact"
	"rotator/internal/scan"
)

// probeName begins the keys of our own probes, behind the prefix of the bucket;
// probeTail is the length of the random rest.
const (
	probeName      = ".rotator-probe-"
	probeSuffixLen = 26 // of rand.Text
)

// isProbe says whether a key is one of our own probes.
func isProbeKey(prefix, key string) bool {
	tail, ok := strings.CutPrefix(key, prefix+probeName)
	return ok && len(tail) == probeSuffixLen &&
		strings.Trim(tail, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// guard is what is known of the conditions of one kind of write.
type capability struct {
	known   bool
	support support
}

// level is how far a server enforces the conditions of a kind of write.
type support int

const (
	unsupported support = iota // not that of what is read: this kind of write is not used
	sourceOnly                 // not that of what is overwritten: it is looked at before and after
	enforced                   // all
)

// probePuts finds out whether the server enforces the condition of a PUT. Where it
// does not, *scan.MissingError ends the run before anything is written.
func (b *Bucket) probePuts(ctx context.Context) error {
	_, err := b.probe(ctx, &b.puts, b.tryPuts)
	return err
}

// attempt tries conditions on an object of our own. It returns the versions that it
// wrote or may have written, "" for one without a name.
type probeFunc func(ctx context.Context, key string) (l support, written []string, err error)

// probe finds out, once and before the first write of a kind, whether a server that
// is not AWS enforces its conditions. It uses a fresh key of its own and deletes it
// again.
func (b *Bucket) probe(ctx context.Context, of *capability, try probeFunc) (support, error) {
	if g := b.capability(of); g.known {
		return g.support, nil
	}
	select {
	case b.probing <- struct{}{}:
		defer func() { <-b.probing }()
	case <-ctx.Done():
		return unsupported, fmt.Errorf("probe conditional writes of bucket %s: %w",
			b.config.Bucket, ctx.Err())
	}
	if g := b.capability(of); g.known {
		return g.support, nil
	}
	key := b.config.Prefix + probeName + rand.Text()
	found, written, err := try(ctx, key)
	if removed := b.deleteVersions(ctx, key, written); removed != nil {
		b.note("bucket %s: the object %s is left of a probe of conditional writes (%s); delete it",
			b.config.Bucket, key, redact.Code(code(removed)))
	}
	if err != nil {
		return unsupported, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !of.known { // nothing has shown otherwise meanwhile
		*of = capability{known: true, support: found}
	}
	return of.support, nil
}

// noteProbes notes objects of probes that runs before left, which were killed meanwhile.
// The listing of a pass names them too, but not in a run that goes on behind them.
func (b *Bucket) noteProbes(ctx context.Context) {
	if b.config.AWS { // where nothing is probed
		return
	}
	out, err := b.config.Client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
		Bucket: &b.config.Bucket,
		Prefix: aws.String(b.config.Prefix + probeName),
	})
	if err != nil {
		return // which the listing of the pass says again
	}
	for _, object := range out.Contents {
		if isProbeKey(b.config.Prefix, aws.ToString(object.Key)) {
			b.noteProbe(b.config.Prefix)
		}
	}
}

// noteProbe notes that there are objects of probes behind a prefix.
func (b *Bucket) noteProbe(prefix string) {
	b.note("bucket %s: an object %s... is left of a probe of conditional writes, if no run is "+
		"under way; delete it", b.config.Bucket, prefix+probeName)
}

// guard is what is known; AWS enforces all conditions, unless it has shown otherwise.
func (b *Bucket) capability(of *capability) capability {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.config.AWS && !of.known {
		return capability{known: true, support: enforced}
	}
	return *of
}

// wrongETag is that of no object.
const wrongETag = `"00000000000000000000000000000000"`

// plant makes the object of a probe, which must be new.
func (b *Bucket) putProbeObject(
	ctx context.Context, key string, match, noneMatch, tagging *string,
) (etag *string, written []string, err error) {
	out, err := b.config.Client.PutObject(ctx, &s3.PutObjectInput{
		Bucket:      &b.config.Bucket,
		Key:         &key,
		IfMatch:     match,
		IfNoneMatch: noneMatch,
		Tagging:     tagging,
		Body:        bytes.NewReader([]byte("rotator probes conditional writes")),
	})
	if err != nil {
		return nil, possiblyWritten(err), err
	}
	return out.ETag, []string{aws.ToString(out.VersionId)}, nil
}

// maybe is the version that a write may have made which failed.
func possiblyWritten(err error) []string {
	if answered := status(err); answered == 0 || answered == http.StatusOK ||
		answered == http.StatusInternalServerError {
		return []string{""}
	}
	return nil
}

// tryPuts makes the object and tries to replace it under a wrong ETag, which must
// fail, and under its own, which must not.
func (b *Bucket) tryPuts(ctx context.Context, key string) (l support, written []string, err error) {
	etag, written, err := b.putProbeObject(ctx, key, nil, aws.String("*"), nil)
	if err != nil {
		return unsupported, written, b.probeError(err)
	}
	_, more, err := b.putProbeObject(ctx, key, aws.String(wrongETag), nil, nil)
	written = append(written, more...)
	if status(err) != http.StatusPreconditionFailed {
		return unsupported, written, b.probeError(err)
	}
	_, more, err = b.putProbeObject(ctx, key, etag, nil, nil)
	written = append(written, more...)
	if err != nil {
		return unsupported, written, b.probeError(err)
	}
	return enforced, written, nil
}

// probeError tells a server that cannot do conditional writes from one that did
// not answer; err is nil when it wrote against the condition.
func (b *Bucket) probeError(err error) error {
	if err == nil || b.notSupported(err) || status(err) == http.StatusPreconditionFailed {
		return &scan.MissingError{Field: "s3", Detail: fmt.Sprintf(
			"this server does not enforce If-Match on PUT as S3 does, so a concurrent update of "+
				"bucket %s could be lost; nothing was written", b.config.Bucket)}
	}
	return fmt.Errorf("probe conditional writes of bucket %s: %w", b.config.Bucket, err)
}

// remove deletes versions of the probe, also when the run is being stopped.
func (b *Bucket) deleteVersions(ctx context.Context, key string, versions []string) (failed error) {
	ctx, cancel := scan.Cleanup(ctx)
	defer cancel()
	for _, version := range slices.Compact(versions) {
		in := &s3.DeleteObjectInput{
			Bucket:    &b.config.Bucket,
			Key:       &key,
			VersionId: optional(version),
		}
		if _, err := b.config.Client.DeleteObject(ctx, in); err != nil {
			failed = err
		}
	}
	return failed
}
