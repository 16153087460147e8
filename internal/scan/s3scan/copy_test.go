package s3scan

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/awserr"
	"rotator/internal/fakeaws/fakes3"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/scan"
)

// large is an object size that exceeds the limit of one copy.
const large = 6 << 30

// changeMetadata stores an object of one part, or of several parts if size is not 0, and
// returns a change of its slot.
func (s *store) changeMetadata(source *Bucket, ref scan.Ref, size int64) scan.Change {
	s.t.Helper()
	s.value(ref, "old")
	if size > 0 {
		if err := s.fake.Zeros(bucketName, string(ref), size, 1<<30); err != nil {
			s.t.Fatal(err)
		}
	}
	item, err := source.Load(s.t.Context(), ref)
	if err != nil {
		s.t.Fatal(err)
	}
	return scan.Change{Item: item, New: spliceMetadata(item.Payload, []byte("new"))}
}

func (s *store) slot(ref scan.Ref) string {
	s.t.Helper()
	out, err := s.direct.HeadObject(s.t.Context(), &s3.HeadObjectInput{
		Bucket: aws.String(bucketName),
		Key:    aws.String(string(ref)),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return out.Metadata[slotName]
}

// wantNoUploads fails the test if an upload was neither completed nor aborted.
func (s *store) wantNoUploads() {
	s.t.Helper()
	out, err := s.direct.ListMultipartUploads(s.t.Context(), &s3.ListMultipartUploadsInput{
		Bucket: aws.String(bucketName),
	})
	if err != nil || len(out.Uploads) > 0 {
		s.t.Errorf("%d uploads remain, %v", len(out.Uploads), err)
	}
}

// concurrentChange is a change of another writer at the time of a request.
type concurrentChange struct {
	name, operation string
	size            int64
	edit            func(*store, scan.Ref)
	want            error
}

// Changes of other writers between the last HEAD and the copy are not lost.
func TestConcurrentChangeDuringCopy(t *testing.T) {
	const create, complete = "s3:CreateMultipartUpload", "s3:CompleteMultipartUpload"
	tag := func(s *store, ref scan.Ref) { s.tag(ref, "late", "1") }
	rewrite := func(s *store, ref scan.Ref) { s.write(ref, "other") }
	metadata := func(s *store, ref scan.Ref) {
		s.value(ref, "other")
		_ = s.fake.Zeros(bucketName, string(ref), large, 1<<30) // the body stays the same
	}
	for _, c := range []concurrentChange{
		{"tags before copy", "s3:CopyObject", 0, tag, nil},
		{"tags before HEAD", "s3:HeadObject", 0, tag, nil},
		{"rewrite before HEAD", "s3:HeadObject", 0, rewrite, scan.ErrChanged},
		{"rewrite before copy", "s3:CopyObject", 0, rewrite, scan.ErrChanged},
		{"deletion before HEAD", "s3:HeadObject", 0, (*store).remove, scan.ErrGone},
		{"deletion before copy", "s3:CopyObject", 0, (*store).remove, scan.ErrGone},
		{"large: tags before a part", "s3:UploadPartCopy", large, tag, scan.ErrChanged},
		{"large: metadata before a part", "s3:UploadPartCopy", large, metadata, scan.ErrChanged},
		{"large: rewrite before a part", "s3:UploadPartCopy", large, rewrite, scan.ErrChanged},
		{"large: rewrite before completion", complete, large, rewrite, scan.ErrChanged},
		{"large: deletion before the upload", create, large, (*store).remove, scan.ErrGone},
		{"large: deletion before completion", complete, large, (*store).remove, scan.ErrGone},
	} {
		t.Run(c.name, c.check)
	}
}

func (c concurrentChange) check(t *testing.T) {
	store := newStore(t, nil)
	source := store.inMetadata(nil)
	ref := scan.Ref(prefix + "k")
	first := store.changeMetadata(source, ref, c.size)
	// the probe has completed
	if err := replaceOne(t, source, first); err != nil {
		t.Fatal(err)
	}
	change := stale(store.changeMetadata(source, ref, c.size))
	reached := make(chan string, 1)
	store.faults.Set(c.operation, fault.Fault{
		Times: 1,
		Before: func(*http.Request, []byte) {
			c.edit(store, ref)
			reached <- store.rest(ref)
		},
	})
	err := replaceOne(t, source, change)
	// other parts may have been refused before the first one with the fault
	left := <-reached
	if !errors.Is(err, c.want) || c.want == nil && err != nil {
		t.Errorf("%v, want %v", err, c.want)
	}
	rest := store.rest(ref)
	if c.want == nil {
		rest = strings.Replace(rest, slotHeader+": new", slotHeader+": old", 1)
	}
	if rest != left {
		t.Errorf("the object is\n%swant\n%s", rest, left)
	}
	store.wantNoUploads()
}

// After a failed copy no upload remains. An error is not treated as success, even if S3
// returns it with status 200.
func TestCopyFails(t *testing.T) {
	embedded := func(code string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, probeName) || r.Method == http.MethodHead ||
				r.Header.Get("X-Amz-Copy-Source") == "" && r.URL.Query().Get("uploadId") == "" ||
				r.Method == http.MethodDelete {
				return false
			}
			w.WriteHeader(http.StatusOK)
			_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>why</Message></Error>", code)
			return true
		}
	}
	for _, c := range []struct {
		name, code string
		size       int64
		reason     string // of a RefusedError
		changed    bool
	}{
		{"error with status 200", "InternalError", 0, "", false},
		{"failed condition with status 200", "PreconditionFailed", 0, "", true},
		{"large: error with status 200", "InternalError", large, "", false},
		{"archived in between", "ObjectNotInActiveTierError", 0, "archived", false},
		{"too much metadata", "MetadataTooLarge", 0, "metadata-too-large", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := newStore(t, nil)
			source := store.inMetadata(store.through(embedded(c.code)))
			ref := scan.Ref(prefix + "k")
			err := replaceOne(t, source, store.changeMetadata(source, ref, c.size))
			refused := (*scan.RefusedError)(nil)
			if err == nil || errors.As(err, &refused) != (c.reason != "") ||
				refused != nil && refused.Reason != c.reason ||
				errors.Is(err, scan.ErrChanged) != c.changed {
				t.Errorf("%v, want reason %q, changed %v", err, c.reason, c.changed)
			}
			if got := store.slot(ref); got != "old" {
				t.Errorf("the slot holds %q", got)
			}
			store.wantNoUploads()
		})
	}
}

// A copy that is canceled aborts its upload. An upload that could not be aborted is noted.
func TestStoppedCopyIsAborted(t *testing.T) {
	for _, left := range []bool{false, true} {
		store := newStore(t, nil)
		source := store.inMetadata(nil)
		ref := scan.Ref(prefix + "k")
		change := store.changeMetadata(source, ref, large)
		if _, err := source.probeUploads(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		store.faults.Set("s3:UploadPartCopy", fault.Fault{
			Before: func(*http.Request, []byte) { stop() },
		})
		if left {
			store.faults.Set("s3:AbortMultipartUpload", fault.Fault{Kind: fault.Throttle})
		}
		if err := source.Replace(ctx, []scan.Change{change})[0].Err; err == nil {
			t.Error("no error")
		}
		if got := store.slot(ref); got != "old" {
			t.Errorf("the slot holds %q", got)
		}
		noted := strings.Contains(fmt.Sprint(source.Notes()),
			"a multipart upload of "+string(ref)+" could not be aborted")
		if noted != left {
			t.Errorf("notes %q, want the upload noted: %v", source.Notes(), left)
		}
		if !left {
			store.wantNoUploads()
		}
	}
}

// A composite checksum stays composite, even for an object of one small part.
func TestChecksumOfOnePart(t *testing.T) {
	store := newStore(t, nil)
	source := store.inMetadata(nil)
	store.options = func(in *s3.PutObjectInput) {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256
	}
	store.reshape = func(key string) { _ = store.fake.Zeros(bucketName, key, 1<<20, 8<<20) }
	store.ignoredHeaders = nil
	ref := scan.Ref(prefix + "k")
	change := store.changeMetadata(source, ref, 0)
	rest := store.rest(ref)
	if !strings.Contains(rest, "X-Amz-Checksum-Type: COMPOSITE") {
		t.Fatalf("the object has no composite checksum: %s", rest)
	}
	if err := replaceOne(t, source, change); err != nil {
		t.Fatal(err)
	}
	if got := strings.Replace(store.rest(ref), slotHeader+": new", slotHeader+": old",
		1); got != rest {
		t.Errorf("%s\nwant %s", got, rest)
	}
}

// The timeout of a copy is longer than that of other requests.
func TestLongTimeout(t *testing.T) {
	for name, size := range map[string]int64{"whole": 0, "parts": large} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t, nil)
			bounded := awshttp.NewBuildableClient().WithTimeout(time.Second).
				WithTransportOptions(func(t *http.Transport) { t.DisableKeepAlives = true })
			source := store.inMetadata(func(c *Config) {
				c.Client = s3.New(store.client.Options(), func(o *s3.Options) {
					o.HTTPClient = bounded
				})
			})
			source.copies = capability{known: true, support: enforced}
			source.uploads = source.copies
			change := store.changeMetadata(source, prefix+"k", size)
			store.faults.Set("*", fault.Fault{
				Delay: 1200 * time.Millisecond,
				Of: func(r *http.Request) bool {
					return r.Header.Get("X-Amz-Copy-Source") != "" ||
						r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
				},
			})
			if err := replaceOne(t, source, change); err != nil ||
				store.slot(change.Item.Ref) != "new" {
				t.Error(err)
			}
		})
	}
}

// A copy has the part size of the object if all parts have the same size.
func TestLayout(t *testing.T) {
	store := newStore(t, nil)
	source := store.inMetadata(nil)
	const mib = 1 << 20
	for _, c := range []struct{ size, part, want int64 }{
		{large, 8 * mib, 8 * mib},
		{large, 5 << 30, 5 << 30},
		{large, 5 * mib, 5 * mib},
		{large + 1, 1 << 30, 1 << 30},
		{large, 0, defaultPartSize},
		{large, large, defaultPartSize}, /* one part, too large to copy */
		{50e12, 5e9 + 1, 5e9 + 1},
		{50e12, 0, 5e9},
		{7, 0, defaultPartSize},
		{0, 0, defaultPartSize},
		{1 * mib, 8 * mib, 1 * mib},
	} {
		ref := scan.Ref(prefix + "k")
		store.changeMetadata(source, ref, 0)
		if err := store.fake.Zeros(bucketName, string(ref), c.size, c.part); err != nil {
			t.Fatal(err)
		}
		item, err := source.Load(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		got, err := source.partSize(t.Context(), string(ref), item.Token.(*snapshot))
		if err != nil || got != c.want {
			t.Errorf("%d bytes in parts of %d: part size %d, %v, want %d", c.size, c.part, got, err,
				c.want)
		}
	}
}

// On a server that does not enforce the condition on the target, an update immediately after
// the copy is detected.
func TestVerifyAfterCopy(t *testing.T) {
	for name, edit := range map[string]func(*store, scan.Ref){
		"metadata": func(s *store, ref scan.Ref) { s.value(ref, "other") },
		"tags":     func(s *store, ref scan.Ref) { s.tag(ref, "late", "1") },
		"gone":     (*store).remove,
		"nothing":  func(*store, scan.Ref) {},
	} {
		store := newStore(t, nil)
		ref := scan.Ref(prefix + "k")
		source := store.inMetadata(store.through(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("X-Amz-Copy-Source") == "" {
				return false
			}
			r.Header.Del("If-Match")
			store.fake.ServeHTTP(w, r)
			if !strings.Contains(r.URL.Path, probeName) {
				edit(store, ref)
			}
			return true
		}))
		err := replaceOne(t, source, store.changeMetadata(source, ref, 0))
		want := map[string]error{
			"metadata": scan.ErrChanged,
			"tags":     scan.ErrChanged,
			"gone":     scan.ErrGone,
		}[name]
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

// On AWS nothing is probed. A copy preserves annotations, a multipart upload does not.
func TestCopyOnAWS(t *testing.T) {
	const one = "<AnnotationEntry><AnnotationName>a</AnnotationName></AnnotationEntry>"
	for _, size := range []int64{0, large} {
		store := newStore(t, nil)
		source := store.inMetadata(store.annotations(one, func(c *Config) { c.AWS = true }))
		ref := scan.Ref(prefix + "k")
		err := replaceOne(t, source, store.changeMetadata(source, ref, size))
		refused := (*scan.RefusedError)(nil)
		if errors.As(err, &refused) != (size > 0) ||
			refused != nil && refused.Reason != "annotations" || size == 0 && err != nil {
			t.Errorf("annotated object of %d bytes: %v", size, err)
		}
		counts := store.faults.Counts()
		if counts["s3:PutObject"] != 0 ||
			size == 0 &&
				(counts["s3:CopyObject"] != 1 || counts["s3:GetObjectTagging"] != 0 ||
					counts["s3:GetObject"] != 0) {
			t.Errorf("%d bytes: requests %v", size, counts)
		}
		store.wantNoUploads()
	}
}

// A property that the caller is not allowed to read is an error, not an absent property.
func TestDeniedCopy(t *testing.T) {
	for action, size := range map[string]int64{
		"s3:GetObjectAcl":               0,
		"s3:GetBucketOwnershipControls": 0,
		"s3:CopyObject":                 0,
		"s3:GetObjectTagging":           large,
		"s3:CreateMultipartUpload":      large,
		"s3:UploadPartCopy":             large,
		"s3:CompleteMultipartUpload":    large,
	} {
		store := newStore(t, func(in *s3.CreateBucketInput) {
			in.ObjectOwnership = types.ObjectOwnershipObjectWriter
		})
		source := store.inMetadata(store.annotations("", func(c *Config) { c.AWS = true }))
		ref := scan.Ref(prefix + "k")
		change := store.changeMetadata(source, ref, size)
		store.fake.SetPolicy(func(call fakes3.Call) bool { return call.Action != action })
		err := replaceOne(t, source, change)
		store.fake.SetPolicy(nil)
		if awserr.Status(err) != http.StatusForbidden || store.slot(ref) != "old" {
			t.Errorf("without %s: %v, want 403 and nothing written", action, err)
		}
		store.wantNoUploads()
	}
}

// A change that one write cannot make is refused.
func TestCannotWrite(t *testing.T) {
	store := newStore(t, nil)
	source := store.inMetadata(nil)
	change := store.changeMetadata(source, scan.Ref(prefix+"k"), 0)
	both := splice(change.New, []byte("body"))
	for name, payload := range map[string]scan.Payload{
		"no change":                change.Item.Payload,
		"body and metadata":        both,
		"a body that was not read": splice(change.Item.Payload, []byte("body")),
	} {
		err := source.Replace(t.Context(), []scan.Change{{Item: change.Item, New: payload}})[0].Err
		if refused := (*scan.RefusedError)(nil); !errors.As(err, &refused) ||
			refused.Reason != "cannot-write" {
			t.Errorf("%s: %v, want reason cannot-write", name, err)
		}
	}
	if counts := store.faults.Counts(); counts["s3:PutObject"]+counts["s3:CopyObject"] != 0 {
		t.Errorf("requests: %v", counts)
	}
}

// An SSE-KMS object without a bucket key stays without one, whatever the default of the
// bucket is. A retention that has ended is not sent.
func TestCopySends(t *testing.T) {
	p := properties{
		encryption:  types.ServerSideEncryptionAwsKms,
		kmsKey:      "k",
		lockMode:    types.ObjectLockModeGovernance,
		retainUntil: time.Now().Add(-time.Hour).UnixMilli(),
	}
	b := New(Config{Bucket: "b"})
	in := b.copyInput(&scan.Object{Key: "é +%\x00/a"}, &snapshot{properties: p}, grants{})
	if aws.ToString(in.CopySource) != "b/%C3%A9%20%2B%25%00/a" || in.BucketKeyEnabled == nil ||
		*in.BucketKeyEnabled || in.ObjectLockMode != "" || in.ObjectLockRetainUntilDate != nil {
		t.Errorf("%+v", in)
	}
	p.encryption = types.ServerSideEncryptionAes256
	in = b.copyInput(&scan.Object{}, &snapshot{properties: p}, grants{})
	if in.BucketKeyEnabled != nil {
		t.Error("a bucket key was sent without SSE-KMS")
	}
	arn := New(Config{Bucket: "arn:aws:s3:eu-west-1:111122223333:accesspoint/a"})
	if got := aws.ToString(arn.copySource("k")); got !=
		"arn%3Aaws%3As3%3Aeu-west-1%3A111122223333%3Aaccesspoint/a/object/k" {
		t.Error(got)
	}
	for algorithm, refused := range map[types.ChecksumAlgorithm]bool{
		types.ChecksumAlgorithmSha256:  true,
		types.ChecksumAlgorithmXxhash3: true,
		types.ChecksumAlgorithmCrc32:   false,
		"":                             false,
	} {
		whole := checksum{algorithm: algorithm, kind: types.ChecksumTypeFullObject}
		parts := checksum{algorithm: algorithm, kind: types.ChecksumTypeComposite}
		if (whole.checkUpload() != nil) != refused || parts.checkUpload() != nil {
			t.Errorf("%s: full object %v, composite %v", algorithm, whole.checkUpload(),
				parts.checkUpload())
		}
	}
}

// On a server without conditional copies, changes of other writers are not lost either, and
// an object that is too large is refused.
func TestRewriteMetadata(t *testing.T) {
	for _, c := range []struct {
		name   string
		size   int64
		edit   func(*store, scan.Ref)
		want   error
		reason string
	}{
		{
			"metadata changed",
			0,
			func(s *store, ref scan.Ref) { s.value(ref, "other") },
			scan.ErrChanged,
			"",
		},
		{
			"rewritten",
			0,
			func(s *store, ref scan.Ref) { s.write(ref, "other") },
			scan.ErrChanged,
			"",
		},
		{"deleted", 0, (*store).remove, scan.ErrGone, ""},
		{"too large", maxBody + 1, func(*store, scan.Ref) {}, nil, "cannot-copy"},
	} {
		store := newStore(t, nil)
		source := store.inMetadata(store.through(func(w http.ResponseWriter, r *http.Request) bool {
			r.Header.Del("X-Amz-Copy-Source-If-Match")
			return false
		}))
		change := store.changeMetadata(source, scan.Ref(prefix+"k"), c.size)
		c.edit(store, change.Item.Ref)
		rest := store.rest(change.Item.Ref)
		err := replaceOne(t, source, change)
		refused := (*scan.RefusedError)(nil)
		if c.want != nil && !errors.Is(err, c.want) ||
			errors.As(err, &refused) != (c.reason != "") ||
			refused != nil && refused.Reason != c.reason {
			t.Errorf("%s: %v, want %v, reason %q", c.name, err, c.want, c.reason)
		}
		if store.rest(change.Item.Ref) != rest {
			t.Errorf("%s: the object was written", c.name)
		}
	}
}
