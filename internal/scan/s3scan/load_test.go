package s3scan

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/awserr"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/scan"
)

// bodies configures a source that reads the bodies of objects without a slot in the metadata.
func bodies(c *Config) {
	c.NeedsBody = func(_ string, metadata map[string]string) bool {
		return metadata[slotName] == ""
	}
}

// A body is read only if the format needs it.
func TestNeedsBody(t *testing.T) {
	store := newStore(t, nil)
	source := store.source(bodies)
	store.options = func(in *s3.PutObjectInput) {
		in.ServerSideEncryption, in.SSEKMSKeyId = types.ServerSideEncryptionAwsKms, aws.String("k")
	}
	store.write(prefix+"body", "a body")
	store.value(prefix+"metadata", "blob")
	for ref, want := range map[scan.Ref]string{prefix + "body": "a body", prefix + "metadata": ""} {
		before := store.faults.Counts()["s3:GetObject"]
		item, err := source.Load(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		object := item.Payload.(*scan.Object)
		if string(object.Body) != want || (object.Body == nil) != (want == "") ||
			!object.ServerSideKMS || object.Size == 0 {
			t.Errorf("%s: body %q, size %d, SSE-KMS %v", ref, object.Body, object.Size,
				object.ServerSideKMS)
		}
		if sent := store.faults.Counts()["s3:GetObject"] - before; (sent > 0) != (want != "") {
			t.Errorf("%s: %d GET requests", ref, sent)
		}
	}
}

// An object that is replaced between HEAD and GET is read again, so that its own metadata
// determines whether its body is read.
func TestReplacedBetweenHeadAndGet(t *testing.T) {
	for _, c := range []struct {
		name    string
		replace func(*store, int)
		times   int
		want    error
		body    string
	}{
		{
			"by an object that needs no body",
			func(s *store, _ int) { s.value(prefix+"k", "blob") },
			1,
			nil,
			"",
		},
		{
			"by an object that needs its body",
			func(s *store, _ int) { s.write(prefix+"k", "other") },
			1,
			nil,
			"other",
		},
		{
			"repeatedly",
			func(s *store, n int) { s.write(prefix+"k", fmt.Sprint("other ", n)) },
			loadAttempts,
			scan.ErrChanged,
			"",
		},
		{"by a deletion", func(s *store, _ int) { s.remove(prefix + "k") }, 1, scan.ErrGone, ""},
	} {
		store := newStore(t, nil)
		source := store.source(bodies)
		store.write(prefix+"k", "first")
		n := 0
		store.faults.Set("s3:GetObject", fault.Fault{
			Times:  c.times,
			Before: func(*http.Request, []byte) { n++; c.replace(store, n) },
		})
		item, err := source.Load(t.Context(), prefix+"k")
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if c.want == nil && string(item.Payload.(*scan.Object).Body) != c.body {
			t.Errorf("%s: body %q, want %q", c.name, item.Payload.(*scan.Object).Body, c.body)
		}
	}
}

// An object that cannot be rewritten is refused even if its body is not read.
func TestHeadRefuses(t *testing.T) {
	store := newStore(t, nil)
	putWith := func(name string, options func(*s3.PutObjectInput)) scan.Ref {
		store.options = options
		store.value(scan.Ref(prefix+name), "blob")
		return scan.Ref(prefix + name)
	}
	archived := putWith("archived", func(in *s3.PutObjectInput) {
		in.StorageClass = types.StorageClassGlacier
	})
	customer := putWith("customer", func(in *s3.PutObjectInput) {
		in.SSECustomerAlgorithm = aws.String("AES256")
		in.SSECustomerKey = aws.String(strings.Repeat("k", 32))
	})
	plain := putWith("plain", func(*s3.PutObjectInput) {})
	header := func(name, value string) func(*Config) {
		return store.through(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set(name, value)
			return false
		})
	}
	const restored = `ongoing-request="false", expiry-date="Fri, 21 Dec 2029 00:00:00 GMT"`
	none := store.through(func(http.ResponseWriter, *http.Request) bool { return true })
	for _, c := range []struct {
		name   string
		ref    scan.Ref
		change func(*Config)
		reason string // "" if Load succeeds
	}{
		{"archived", archived, nil, "archived"},
		{"restored", archived, header("X-Amz-Restore", restored), ""},
		{"being restored", archived, header("X-Amz-Restore", `ongoing-request="true"`), "archived"},
		{"archive tier", plain, header("X-Amz-Archive-Status", "DEEP_ARCHIVE_ACCESS"), "archived"},
		{"customer key", customer, nil, "sse-c"},
		{"metadata that cannot be a header", plain, header("X-Amz-Missing-Meta", "1"), "metadata"},
		{"no ETag", plain, none, "no-etag"},
		{
			"any size and checksum",
			plain,
			store.through(func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("ETag", `"e"`)
				w.Header().Set("Content-Length", fmt.Sprint(int64(large)))
				w.Header().Set("X-Amz-Checksum-Xxhash64", "AAAAAAAAAAA=")
				return true
			}),
			"",
		},
	} {
		_, err := store.inMetadata(c.change).Load(t.Context(), c.ref)
		refused := (*scan.RefusedError)(nil)
		if errors.As(err, &refused) != (c.reason != "") ||
			refused != nil && refused.Reason != c.reason || c.reason == "" && err != nil {
			t.Errorf("%s: %v, want reason %q", c.name, err, c.reason)
		}
	}
}

// An error of a HEAD has the error code of the same error of a GET.
func TestHeadErrorCodes(t *testing.T) {
	store := newStore(t, nil)
	for name, status := range map[string]int{
		"ExpiredToken":       400,
		"InvalidAccessKeyId": 403,
		"AccessDenied":       403,
	} {
		_, err := store.inMetadata(store.through(func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(status)
			if r.Method != http.MethodHead {
				_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>why</Message></Error>", name)
			}
			return true
		})).Load(t.Context(), prefix+"k")
		if awserr.Code(err) != name {
			t.Errorf("%v, want %s", err, name)
		}
	}
}

// A body that is too large is refused before it is requested.
func TestLargeBodyIsNotRead(t *testing.T) {
	store := newStore(t, nil)
	store.write(prefix+"body", "x")
	if err := store.fake.Zeros(bucketName, prefix+"body", maxBody+1, 0); err != nil {
		t.Fatal(err)
	}
	_, err := store.source(bodies).Load(t.Context(), prefix+"body")
	if refused := (*scan.RefusedError)(nil); !errors.As(err, &refused) ||
		refused.Reason != "too-large" || store.faults.Counts()["s3:GetObject"] > 0 {
		t.Errorf("a large body: %v after %d GET requests", err,
			store.faults.Counts()["s3:GetObject"])
	}
}
