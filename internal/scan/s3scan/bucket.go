// Package s3scan reads and rewrites the objects of an S3 bucket. A listing can be resumed
// after any key. A new body is written by a conditional PUT. If only the metadata changes,
// the object is copied onto itself with a conditional copy, so its body is not transferred.
// Both requests send again every property that they would otherwise reset. An object with a
// property that cannot be sent again is refused with a reason and left unchanged.
//
// The only condition of a PUT is the ETag, which covers the body. Properties that the ETag
// does not cover were read at most one second before the write, or are read again immediately
// before it. A change of tags, ACL or metadata between this read and the write is lost, as
// with any other writer. A copy can have the condition that its source was not modified since
// it was read, which covers the metadata. The encryption context of an object under SSE-KMS
// is not preserved, because no response contains it (API_GetObject).
package s3scan

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/awserr"
	"rotator/internal/redact"
	"rotator/internal/scan"
)

// Config selects the objects to read.
type Config struct {
	Client *s3.Client // its own retries must be turned off
	Bucket string
	Prefix string // prefix of the keys; "" selects the whole bucket
	// Globs match the part of the key after the last slash of Prefix.
	Globs scan.Globs
	// AWS is true for Amazon S3. For other servers, conditional writes are probed before the
	// first write, and features that only Amazon S3 has are not used.
	AWS bool
	// NeedsBody reports whether the body of an object must be read, given its key and user
	// metadata. If it is nil, all bodies are read. A body that is not needed is never
	// downloaded.
	NeedsBody func(key string, metadata map[string]string) bool
	// AllBodies also reads bodies that the format does not need, unless they are too large.
	AllBodies bool
	// Memory limits the bytes of all bodies in memory; nil means no limit.
	Memory *scan.MemoryBudget
	// PageLimit is the maximum number of keys of a page. 0 means 1,000, the maximum of S3.
	PageLimit int32
	// Warn is called once for each condition that the server does not enforce, when this is
	// found. The same text is also a note. It may be nil.
	Warn func(text string)
	// Connections is the number of connections to open before Page returns the first of
	// several pages. 0 opens none in advance.
	Connections int
}

// Bucket gives access to the objects of one bucket under a prefix. It is safe for concurrent
// use.
type Bucket struct {
	config      Config
	probing     chan struct{} // held by the goroutine that sends a probe
	partPermits chan struct{} // holds one element for each part that is being copied
	longTimeout func(*s3.Options)
	connectOnce sync.Once    // opens the connections
	listLimit   atomic.Int32 // maximum number of keys of the next listing; 0 means PageLimit

	mu     sync.Mutex
	puts   capability // the conditions that the server enforces for each kind of write
	copies capability
	// copies with the condition that the source was not modified
	unmodified              capability
	uploads                 capability
	tagCounts               capability // whether the tag counts of GET and HEAD can be trusted
	untaggedSeen            int        // number of objects without a tag count so far
	sampleIndex             int        // which of the next sampleEvery of them is verified
	acls                    *bool      // whether objects have ACLs; nil if unknown
	lockPermissionsVerified bool       // the caller is known to see Object Lock headers
	notes                   []string
}

// New returns a Bucket. It sends no request.
func New(c Config) *Bucket {
	b := &Bucket{
		config:      c,
		probing:     make(chan struct{}, 1),
		partPermits: make(chan struct{}, maxConcurrentParts),
	}
	b.config.Client, b.longTimeout = withLongTimeout(c.Client)
	return b
}

// Notes returns facts about the bucket for the report.
func (b *Bucket) Notes() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.notes)
}

func (b *Bucket) note(format string, args ...any) { b.addNote(fmt.Sprintf(format, args...)) }

// addNote adds a note and reports whether it is new.
func (b *Bucket) addNote(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Contains(b.notes, text) {
		return false
	}
	b.notes = append(b.notes, text)
	return true
}

// warn adds a note and calls Config.Warn, for facts that the user must know before a write.
func (b *Bucket) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if b.addNote(text) && b.config.Warn != nil {
		b.config.Warn(text)
	}
}

// NoteUnprobed notes that the conditions of this server were not tested, because the test
// requires a write. It is for commands that write nothing.
func (b *Bucket) NoteUnprobed() {
	if b.config.AWS {
		return
	}
	writes := "PUT"
	if b.config.NeedsBody != nil {
		writes = "PUT and CopyObject"
	}
	b.note("bucket %s: this endpoint is not AWS. Whether it enforces the conditions of %s was "+
		"not tested, because the test requires a write; rotator run tests it before its first "+
		"write to the bucket",
		b.config.Bucket, writes)
}

// Check reports, without writing, whether the bucket can be used. It returns a
// *scan.MissingError if the bucket does not exist, is in another Region, or is a directory
// bucket, whose listings are not ordered.
func (b *Bucket) Check(ctx context.Context) error {
	if strings.HasSuffix(b.config.Bucket, "--x-s3") {
		return &scan.MissingError{Field: "s3.bucket", Detail: fmt.Sprintf(
			"%s is a directory bucket; its listings are not ordered, so an interrupted run could "+
				"not be resumed; copy the objects to a general purpose bucket", b.config.Bucket)}
	}
	_, err := b.config.Client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.config.Bucket})
	here := b.config.Client.Options().Region
	if region := regionOf(err); region != "" && region != here {
		return &scan.MissingError{
			Field: "s3.bucket",
			Detail: fmt.Sprintf("bucket %s is in %s, not in %s; set s3.region to %s",
				b.config.Bucket, region, here, region),
		}
	}
	switch awserr.Status(err) {
	case http.StatusNotFound:
		return &scan.MissingError{
			Field:  "s3.bucket",
			Detail: fmt.Sprintf("there is no bucket %s; check the name", b.config.Bucket),
		}
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect:
		return &scan.MissingError{
			Field: "s3.bucket",
			Detail: fmt.Sprintf("bucket %s is not in %s; set s3.region to its Region",
				b.config.Bucket, here),
		}
	}
	if s := awserr.Status(err); s == http.StatusForbidden || s == http.StatusBadRequest {
		// A response to HEAD has no error code. The cause can be the clock of this machine or
		// the bucket name.
		_, err = b.config.Client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
			Bucket:  &b.config.Bucket,
			Prefix:  &b.config.Prefix,
			MaxKeys: aws.Int32(1),
		})
	}
	if awserr.Code(err) == "InvalidBucketName" {
		return &scan.MissingError{Field: "s3.bucket", Detail: fmt.Sprintf(
			"%q cannot be the name of a bucket", b.config.Bucket)}
	}
	if err != nil {
		return fmt.Errorf("check bucket %s: %w", b.config.Bucket, err)
	}
	b.noteVersioning(ctx)
	b.noteProbes(ctx)
	return nil
}

// CheckAccess sends a request that names no object. It returns nil if the credentials are valid
// for the bucket.
func (b *Bucket) CheckAccess(ctx context.Context) error {
	_, err := b.config.Client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.config.Bucket})
	if err != nil {
		return fmt.Errorf("check access to bucket %s: %w", b.config.Bucket, err)
	}
	return nil
}

// noteVersioning notes that a pass does not rewrite old versions.
func (b *Bucket) noteVersioning(ctx context.Context) {
	versioning, err := b.config.Client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{
		Bucket: &b.config.Bucket,
	})
	switch {
	case err != nil:
		b.note("bucket %s: its versioning status could not be read (%s); old versions, if there "+
			"are any, keep their ciphertexts and are not rewritten",
			b.config.Bucket, redact.Code(awserr.Code(err)))
	case versioning.Status != "":
		b.note("bucket %s has versioning: old versions of its objects keep their ciphertexts and "+
			"keys, and are not rewritten", b.config.Bucket)
	}
}

// regionOf returns the Region of a bucket. S3 returns it when it refuses a request that was
// sent to another Region (API_HeadBucket). It is "" for other errors.
func regionOf(err error) string {
	return awserr.Header(err, "X-Amz-Bucket-Region")
}

// notSupported reports whether the error means that a server other than AWS does not support
// the request.
func (b *Bucket) notSupported(err error) bool {
	if b.config.AWS || err == nil {
		return false
	}
	return isNotImplemented(err) || awserr.Status(err) == http.StatusMethodNotAllowed ||
		awserr.Code(err) == "MethodNotAllowed"
}

// isNotImplemented reports whether the error means that the server does not implement the
// operation for any object.
func isNotImplemented(err error) bool {
	return awserr.Status(err) == http.StatusNotImplemented || awserr.Code(err) == "NotImplemented"
}
