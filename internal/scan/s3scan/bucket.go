// Package s3scan reads and rewrites the objects of an S3 bucket: a listing that
// can go on behind any key, conditional PUTs of new bodies, and conditional copies
// of objects onto themselves where the metadata alone changes, so that no body
// passes through. Either sends again everything of the object that it would drop.
// An object with something that cannot be sent again is refused by name and left
// as it is.
//
// The ETag, the one condition that a PUT can have, covers the body alone. What it
// does not cover is what the read has told, a second before the write at most, or is
// read again right before it; a change of tags, ACL or metadata in the moment between
// is lost, as it would be with any writer. A copy has the condition that its source was
// not modified since, which covers the metadata. Not seen by anybody who reads an
// object, and so not carried over: an encryption context of its own under SSE-KMS
// (API_GetObject returns none).
package s3scan

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"rotator/internal/redact"
	"rotator/internal/scan"
)

// Config says which objects to read.
type Config struct {
	Client *s3.Client // with its own retries off
	Bucket string
	Prefix string // of the keys; "" is the whole bucket
	// Globs match the part of the key after the last slash of Prefix.
	Globs scan.Globs
	// AWS is true for the real service. Elsewhere conditional writes are probed
	// before the first write, and what only AWS has is not asked for.
	AWS bool
	// NeedsBody says whether the body of an object has to be read, by its key and
	// user metadata; nil means always. A body that is not needed is never
	// downloaded, whatever its size.
	NeedsBody func(key string, metadata map[string]string) bool
	// Room is where bodies that are read take room; nil is without bound.
	Memory *scan.MemoryBudget
	// PageLimit is the most keys of a page; 0 means 1,000, which is S3's most.
	PageLimit int32
	// Warn is called immediately for each condition that the server does not
	// enforce, which is also noted. It may be nil.
	Warn func(text string)
	// Connections is for how many requests at once connections are opened before the
	// first of several pages is handed out; 0 leaves it to the requests.
	Connections int
}

// Bucket is the objects of one bucket under a prefix. It is safe for concurrent
// use.
type Bucket struct {
	config      Config
	probing     chan struct{} // held by the goroutine that probes
	partPermits chan struct{} // holds one for each part that is being copied
	longTimeout func(*s3.Options)
	connectOnce sync.Once    // of connections
	listLimit   atomic.Int32 // number of keys in the next listing; 0 means PageLimit

	mu     sync.Mutex
	puts   capability // what the server enforces
	copies capability
	// copies under the condition that the source is not modified since
	unmodified              capability
	uploads                 capability
	tagCounts               capability // whether GET and HEAD tell us how many tags there are
	untaggedSeen            int        // objects of which they told that there are none
	sampleIndex             int        // which of the next askedOf of them is asked about
	acls                    *bool      // whether objects have ACLs of their own; nil until asked
	lockPermissionsVerified bool       // the headers of Object Lock are known to be shown to us
	notes                   []string
}

// New makes a Bucket. It asks nothing of the service.
func New(c Config) *Bucket {
	b := &Bucket{
		config:      c,
		probing:     make(chan struct{}, 1),
		partPermits: make(chan struct{}, maxConcurrentParts),
	}
	b.config.Client, b.longTimeout = withLongTimeout(c.Client)
	return b
}

// Notes are facts about the bucket that belong in the report.
func (b *Bucket) Notes() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.notes)
}

func (b *Bucket) note(format string, args ...any) { b.addNote(fmt.Sprintf(format, args...)) }

// add adds a note, and reports whether it is new.
func (b *Bucket) addNote(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Contains(b.notes, text) {
		return false
	}
	b.notes = append(b.notes, text)
	return true
}

// warn adds a note and logs it as a warning, for facts that the user must know
// before a write.
func (b *Bucket) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if b.addNote(text) && b.config.Warn != nil {
		b.config.Warn(text)
	}
}

// NoteUnprobed notes that the conditions of this server were not tested,
// because the test needs a write. It is for commands that write nothing.
func (b *Bucket) NoteUnprobed() {
	if b.config.AWS {
		return
	}
	writes := "PUT"
	if b.config.NeedsBody != nil {
		writes = "PUT and CopyObject"
	}
	b.warn("bucket %s: this endpoint is not AWS, and it was not tested whether it enforces the "+
		"conditions of %s, because the test needs a write; rotator run tests it before its first "+
		"write to the bucket",
		b.config.Bucket, writes)
}

// Check says, without writing, whether the bucket can be used:
// *scan.MissingError when it is not there, in another Region, or of a kind whose
// listing has no order to go on from.
func (b *Bucket) Check(ctx context.Context) error {
	if strings.HasSuffix(b.config.Bucket, "--x-s3") {
		return &scan.MissingError{Field: "s3.bucket", Detail: fmt.Sprintf(
			"%s is a directory bucket, whose listing has no order, so a stopped run could not go "+
				"on; copy the objects to a general purpose bucket", b.config.Bucket)}
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
	switch status(err) {
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
	if s := status(err); s == http.StatusForbidden || s == http.StatusBadRequest {
		// The response to a HEAD has no reason; it may be the clock of this machine,
		// or the name.
		_, err = b.config.Client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
			Bucket:  &b.config.Bucket,
			Prefix:  &b.config.Prefix,
			MaxKeys: aws.Int32(1),
		})
	}
	if code(err) == "InvalidBucketName" {
		return &scan.MissingError{Field: "s3.bucket", Detail: fmt.Sprintf(
			"%q cannot be the name of a bucket", b.config.Bucket)}
	}
	if err != nil {
		return fmt.Errorf("look at bucket %s: %w", b.config.Bucket, err)
	}
	b.noteVersioning(ctx)
	b.noteProbes(ctx)
	return nil
}

// noteVersioning notes what a converged pass does not say.
func (b *Bucket) noteVersioning(ctx context.Context) {
	versioning, err := b.config.Client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{
		Bucket: &b.config.Bucket,
	})
	switch {
	case err != nil:
		b.note("bucket %s: whether it keeps old versions could not be read (%s); old versions "+
			"keep their ciphertext and are not rewritten",
			b.config.Bucket, redact.Code(code(err)))
	case versioning.Status != "":
		b.note("bucket %s has versioning: old versions of its objects keep their ciphertext, "+
			"under whatever key it is, and are not rewritten", b.config.Bucket)
	}
}

// regionOf is the Region of a bucket, which S3 names when it refuses a request
// that was sent to another (API_HeadBucket); "" when it does not.
func regionOf(err error) string {
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil {
		return ""
	}
	return answer.Response.Header.Get("X-Amz-Bucket-Region")
}

// status is the HTTP status of an error; 0 when there was no answer, or no error.
// So it never tells that a request succeeded: the SDK gives a lost connection the
// type of an answer, with status 0.
func status(err error) int {
	var answered interface{ HTTPStatusCode() int }
	if errors.As(err, &answered) {
		return answered.HTTPStatusCode()
	}
	return 0
}

// code is the service's code of an error, "" if it has none.
func code(err error) string {
	if api := (smithy.APIError)(nil); errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// lacks says that a server which is not AWS does not know what it was asked.
func (b *Bucket) notSupported(err error) bool {
	if b.config.AWS || err == nil {
		return false
	}
	return isNotImplemented(err) || status(err) == http.StatusMethodNotAllowed ||
		code(err) == "MethodNotAllowed"
}

// unimplemented says that a server does not know what it was asked, of whatever object.
func isNotImplemented(err error) bool {
	return status(err) == http.StatusNotImplemented || code(err) == "NotImplemented"
}
