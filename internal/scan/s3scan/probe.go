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

	"rotator/internal/awserr"
	"rotator/internal/redact"
	"rotator/internal/scan"
)

// The key of a probe is the prefix of the bucket, probeName and a random suffix of
// probeSuffixLen characters.
const (
	probeName      = ".rotator-probe-"
	probeSuffixLen = 26 // the length of rand.Text
)

// isProbeKey reports whether a key is that of a probe.
func isProbeKey(prefix, key string) bool {
	tail, ok := strings.CutPrefix(key, prefix+probeName)
	return ok && len(tail) == probeSuffixLen &&
		strings.Trim(tail, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// capability is the cached result of a probe.
type capability struct {
	known   bool
	support support
}

// support is the degree to which a server enforces the conditions of one kind of write.
type support int

const (
	// the condition on the source is not enforced: this kind of write is not used
	unsupported support = iota
	// the condition on the target is not enforced: the object is compared before and after
	sourceOnly
	enforced // all conditions are enforced
)

// probePuts verifies that the server enforces the condition of a PUT. If it does not,
// probePuts returns a *scan.MissingError, which ends the run before anything is written.
func (b *Bucket) probePuts(ctx context.Context) error {
	_, err := b.probe(ctx, &b.puts, b.tryPuts)
	return err
}

// probeFunc tests conditions on a probe object. It returns the versions that it wrote or may
// have written, with "" for a version without an ID.
type probeFunc func(ctx context.Context, key string) (l support, written []string, err error)

// probe runs try before the first write of a kind, and caches the result. It uses a new key
// and deletes its object afterwards. On AWS it runs nothing.
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
		b.note("bucket %s: the object %s of a capability probe could not be deleted (%s); delete "+
			"it",
			b.config.Bucket, key, redact.Code(awserr.Code(removed)))
	}
	if err != nil {
		return unsupported, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !of.known { // another request may have disproved it in the meantime
		*of = capability{known: true, support: found}
	}
	return of.support, nil
}

// noteProbes notes probe objects that killed runs left in the bucket. The listing of a pass
// notes them too, but a run that resumes after their keys does not list them.
func (b *Bucket) noteProbes(ctx context.Context) {
	if b.config.AWS { // AWS is never probed
		return
	}
	out, err := b.config.Client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
		Bucket: &b.config.Bucket,
		Prefix: aws.String(b.config.Prefix + probeName),
	})
	if err != nil {
		return // the listing of the pass reports the same error
	}
	for _, object := range out.Contents {
		if isProbeKey(b.config.Prefix, aws.ToString(object.Key)) {
			b.noteProbe(b.config.Prefix)
		}
	}
}

// noteProbe notes that probe objects exist under a prefix.
func (b *Bucket) noteProbe(prefix string) {
	b.note("bucket %s: an object %s... was left by a capability probe, unless another run is in "+
		"progress; delete it", b.config.Bucket, prefix+probeName)
}

// capability returns the cached result. On AWS all conditions are enforced unless a response
// has disproved it.
func (b *Bucket) capability(of *capability) capability {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.config.AWS && !of.known {
		return capability{known: true, support: enforced}
	}
	return *of
}

// wrongETag is an ETag that no object has.
const wrongETag = `"00000000000000000000000000000000"`

// putProbeObject writes the probe object under the given conditions.
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

// possiblyWritten returns the version that a failed write may have created.
func possiblyWritten(err error) []string {
	if status := awserr.Status(err); status == 0 || status == http.StatusOK ||
		status == http.StatusInternalServerError {
		return []string{""}
	}
	return nil
}

// tryPuts creates an object, then tries to replace it with a wrong ETag, which must fail, and
// with its own ETag, which must succeed.
func (b *Bucket) tryPuts(ctx context.Context, key string) (l support, written []string, err error) {
	etag, written, err := b.putProbeObject(ctx, key, nil, aws.String("*"), nil)
	if err != nil {
		return unsupported, written, b.probeError(err)
	}
	_, more, err := b.putProbeObject(ctx, key, aws.String(wrongETag), nil, nil)
	written = append(written, more...)
	if awserr.Status(err) != http.StatusPreconditionFailed {
		return unsupported, written, b.probeError(err)
	}
	_, more, err = b.putProbeObject(ctx, key, etag, nil, nil)
	written = append(written, more...)
	if err != nil {
		return unsupported, written, b.probeError(err)
	}
	return enforced, written, nil
}

// probeError converts the error of a probe to a *scan.MissingError if the server does not
// support conditional writes. err is nil if the server ignored the condition. Other errors
// are inconclusive and are returned as they are.
func (b *Bucket) probeError(err error) error {
	if err == nil || b.notSupported(err) || awserr.Status(err) == http.StatusPreconditionFailed {
		return &scan.MissingError{Field: "s3", Detail: fmt.Sprintf(
			"this server does not enforce If-Match on PUT as S3 does, so a concurrent update in "+
				"bucket %s could be lost; nothing was written", b.config.Bucket)}
	}
	return fmt.Errorf("probe conditional writes of bucket %s: %w", b.config.Bucket, err)
}

// deleteVersions deletes the versions of a probe object, even while the run is being stopped.
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
