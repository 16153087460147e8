package s3scan

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/scan"
	"rotator/internal/scan/scantest"
)

// slotName is the user metadata entry that contains the ciphertext, slotHeader its HTTP
// header.
const slotName, slotHeader = "x-amz-key-v2", "X-Amz-Meta-X-Amz-Key-V2"

// inMetadata returns a source of objects with the ciphertext in the metadata.
func (s *store) inMetadata(change func(*Config)) *Bucket {
	return s.source(func(c *Config) {
		c.NeedsBody = func(string, map[string]string) bool { return false }
		if change != nil {
			change(c)
		}
	})
}

// value writes an object with a value in the slot.
func (s *store) value(ref scan.Ref, value string) {
	dress := s.options
	defer func() { s.options = dress }()
	s.options = func(in *s3.PutObjectInput) {
		dress(in)
		in.Metadata = maps.Clone(in.Metadata)
		in.Metadata[slotName] = value
	}
	s.write(ref, "a body that is not read")
}

// spliceMetadata is splice for a slot in the metadata.
func spliceMetadata(p scan.Payload, value []byte) scan.Payload {
	object := *p.(*scan.Object)
	object.Metadata = maps.Clone(object.Metadata)
	object.Metadata[slotName] = string(value)
	return &object
}

// checkCopyPrecondition is checkPrecondition for copies and multipart uploads. Other writes
// are allowed for probes only.
func checkCopyPrecondition(r *http.Request, body []byte) error {
	probe := strings.Contains(r.URL.Path, probeName)
	match := strings.HasPrefix(r.Header.Get("If-Match"), `"`)
	switch {
	case r.Header.Get("X-Amz-Copy-Source") != "":
		source := strings.HasPrefix(r.Header.Get("X-Amz-Copy-Source-If-Match"), `"`) ||
			r.Header.Get("X-Amz-Copy-Source-If-Unmodified-Since") != ""
		if source && (match || probe) {
			return nil
		}
	case r.URL.Query().Has("uploadId") && match:
		return nil
	case probe:
		return checkPrecondition(r, body)
	}
	return fmt.Errorf("%s %s has no condition", r.Method, r.URL)
}

func (s *store) metadataSubject() scantest.Subject {
	s.ignoredHeaders = append(s.ignoredHeaders, slotHeader)
	subject := s.subject()
	subject.Source = s.inMetadata(nil)
	subject.Reads = append(subject.Reads, "s3:HeadObject")
	subject.Writes = []string{"s3:PutObject", "s3:DeleteObject", "s3:CopyObject",
		"s3:CompleteMultipartUpload"}
	subject.Auxiliary = []string{"s3:CreateMultipartUpload", "s3:UploadPartCopy",
		"s3:AbortMultipartUpload"}
	subject.CheckPrecondition = checkCopyPrecondition
	subject.Put = func(n int) scan.Ref {
		ref := scan.Ref(fmt.Sprintf("%s%c/%d é+%%2B &?#=<'\">\n//%d", prefix, 'a'+n%5, n%5, n))
		s.value(ref, fmt.Sprintf("body %d", n))
		return ref
	}
	subject.Rewrite = func(ref scan.Ref) { s.value(ref, "other") }
	subject.Slot = func(p scan.Payload) []byte {
		return []byte(p.(*scan.Object).Metadata[slotName])
	}
	subject.Splice = spliceMetadata
	return subject
}

// zeros replaces the body of each object by zeros in parts.
func zeros(size, part int64) func(*store) {
	return func(s *store) {
		s.reshape = func(key string) {
			if err := s.fake.Zeros(bucketName, key, size, part); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// A change of the metadata preserves all other properties of an object, including the
// checksum and, if S3 derives it from the body, the ETag.
func TestMetadataConformance(t *testing.T) {
	kms := func(in *s3.PutObjectInput) {
		in.ServerSideEncryption = types.ServerSideEncryptionAwsKms
		in.SSEKMSKeyId = aws.String("arn:aws:kms:eu-west-1:111122223333:key/k")
		in.BucketKeyEnabled, in.ChecksumAlgorithm = aws.Bool(true), types.ChecksumAlgorithmSha256
	}
	lockAndACLs := func(in *s3.CreateBucketInput) {
		in.ObjectLockEnabledForBucket = aws.Bool(true)
		in.ObjectOwnership = types.ObjectOwnershipObjectWriter
	}
	locked := func(in *s3.PutObjectInput) {
		in.ObjectLockMode = types.ObjectLockModeGovernance
		in.ObjectLockRetainUntilDate = aws.Time(time.Now().Add(time.Hour).Truncate(time.Second))
		in.ObjectLockLegalHoldStatus = types.ObjectLockLegalHoldStatusOn
		in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32c
		in.GrantFullControl = aws.String(`id="owner-111122223333"`)
		in.GrantRead = aws.String(
			`id="friend", uri="http://acs.amazonaws.com/groups/global/AuthenticatedUsers"`)
		in.GrantReadACP = aws.String(`id="friend"`)
		in.GrantWriteACP = aws.String(`id="auditor"`)
	}
	sha := func(in *s3.PutObjectInput) { in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256 }
	whole := func(*store) {}
	for _, c := range []struct {
		name    string
		make    func(*s3.CreateBucketInput)
		options func(*s3.PutObjectInput)
		reshape func(*store)
		newETag bool // each write has a different ETag
	}{
		{"plain", nil, func(*s3.PutObjectInput) {}, whole, false},
		{"SSE-KMS, SHA-256", nil, kms, whole, true},
		{"Object Lock, ACLs", lockAndACLs, locked, whole, false},
		{"composite SHA-256", nil, sha, zeros(23<<20, 8<<20), false},
		{"6 GiB in parts", nil, func(*s3.PutObjectInput) {}, zeros(6<<30, 500<<20), false},
		{
			"6 GiB in parts, Object Lock, ACLs, SSE-KMS",
			lockAndACLs,
			func(in *s3.PutObjectInput) { locked(in); kms(in) },
			zeros(6<<30+1, 1<<30),
			true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			scantest.Run(t, func(t *testing.T) scantest.Subject {
				store := newStore(t, c.make)
				store.options, store.ignoredHeaders = c.options, nil
				if c.newETag {
					store.ignoredHeaders = []string{"Etag"}
				}
				c.reshape(store)
				subject := store.metadataSubject()
				subject.LastWriterWins = !c.newETag
				return subject
			})
		})
	}
}

// The metadata of a 6 GiB object is changed without transferring its body.
func TestLargeBodyIsNotTransferred(t *testing.T) {
	store := newStore(t, nil)
	const ref, size = scan.Ref(prefix + "large"), 6 << 30
	store.value(ref, "old")
	if err := store.fake.Zeros(bucketName, string(ref), size, 64<<20); err != nil {
		t.Fatal(err)
	}
	source := store.inMetadata(nil)
	receivedBefore, sentBefore := store.fake.Traffic()
	item, err := source.Load(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if object := item.Payload.(*scan.Object); object.Size != size || object.Body != nil ||
		object.Metadata[slotName] != "old" {
		t.Errorf("loaded size %d, %d bytes of body, slot %q", object.Size, len(object.Body),
			object.Metadata[slotName])
	}
	if err := source.Replace(t.Context(), []scan.Change{
		{Item: item, New: spliceMetadata(item.Payload, []byte("new"))},
	})[0].Err; err != nil {
		t.Fatal(err)
	}
	received, sent := store.fake.Traffic()
	now := store.fake.Versions(bucketName)[string(ref)][0]
	if now.Size != size || now.Headers.Get(slotHeader) != "new" {
		t.Errorf("now %d bytes, slot %q", now.Size, now.Headers.Get(slotHeader))
	}
	t.Logf("%d bytes received and %d bytes sent by the server for an object of %d bytes",
		received-receivedBefore,
		sent-sentBefore, now.Size)
	if received-receivedBefore > 100<<10 || sent-sentBefore > 100<<10 {
		t.Error("the body was transferred")
	}
}
