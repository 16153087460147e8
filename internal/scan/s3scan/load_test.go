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

	"rotator/internal/fakeaws/fault"
	"rotator/internal/scan"
)

// bodies asks for the bodies of objects without a slot in their metadata.
func bodies(c *Config) {
	c.NeedsBody = func(_ string, metadata map[string]string) bool {
		return metadata[slotName] == ""
	}
}

// A body is read where the format needs it, and only then.
func TestNeedsBody(t *testing.T) {
	store := newStore(t, nil)
	source := store.source(bodies)
	store.dress = func(in *s3.PutObjectInput) {
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
		if asked := store.faults.Counts()["s3:GetObject"] - before; (asked > 0) != (want != "") {
			t.Errorf("%s: %d GETs", ref, asked)
		}
	}
}

// An object that is replaced between HEAD and GET is looked at again, so that its
// metadata decides on its own body.
func TestReplacedBetweenHeadAndGet(t *testing.T) {
	for _, c := range []struct {
		name    string
		replace func(*store, int)
		times   int
		want    error
		body    string
	}{
		{
			"by one that needs no body",
			func(s *store, _ int) { s.value(prefix+"k", "blob") },
			1,
			nil,
			"",
		},
		{
			"by one that needs its body",
			func(s *store, _ int) { s.write(prefix+"k", "other") },
			1,
			nil,
			"other",
		},
		{
			"again and again",
			func(s *store, n int) { s.write(prefix+"k", fmt.Sprint("other ", n)) },
			loadAttempts,
			scan.ErrChanged,
			"",
		},
		{"by nothing", func(s *store, _ int) { s.remove(prefix + "k") }, 1, scan.ErrGone, ""},
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

// What cannot be rewritten is refused by name also where the body is not read.
func TestHeadRefuses(t *testing.T) {
	store := newStore(t, nil)
	dressed := func(name string, dress func(*s3.PutObjectInput)) scan.Ref {
		store.dress = dress
		store.value(scan.Ref(prefix+name), "blob")
		return scan.Ref(prefix + name)
	}
	archived := dressed("archived", func(in *s3.PutObjectInput) {
		in.StorageClass = types.StorageClassGlacier
	})
	customer := dressed("customer", func(in *s3.PutObjectInput) {
		in.SSECustomerAlgorithm = aws.String("AES256")
		in.SSECustomerKey = aws.String(strings.Repeat("k", 32))

	})
	plain := dressed("plain", func(*s3.PutObjectInput) {})
	header := func(name, value string) func(*Config) {
		return store.through(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set(name, value)
			return false
		})
	}
	for _, c := range []struct {
		name   string
		ref    scan.Ref
		change func(*Config)
		reason string // "" when it loads
	}{
		{"archived", archived, nil, "archived"},
		{
			"archived, and restored",
			archived,
			header("X-Amz-Restore",
				`ongoing-request="false", expiry-date="Fri, 21 Dec 2029 00:00:00 GMT"`),
			"",
		},
		{
			"archived, and being restored",
			archived,
			header("X-Amz-Restore", `ongoing-request="true"`),
			"archived",
		},
		{
			"in an archive tier",
			plain,
			header("X-Amz-Archive-Status", "DEEP_ARCHIVE_ACCESS"),
			"archived",
		},
		{"customer key", customer, nil, "sse-c"},
		{"metadata that is no header", plain, header("X-Amz-Missing-Meta", "1"), "metadata"},
		{
			"no ETag",
			plain,
			store.through(func(w http.ResponseWriter, r *http.Request) bool { return true }),
			"no-etag",
		},
		{
			"of any size, with any checksum",
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
			t.Errorf("%s: %v, want it refused as %q", c.name, err, c.reason)
		}
	}
}

// An error of a HEAD gets the name that S3 gives it in the answer to a GET.
func TestHeadErrorsAreNamed(t *testing.T) {
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
		if code(err) != name {
			t.Errorf("%v, want %s", err, name)
		}
	}
}

// A body that is needed and too large is refused before it is asked for.
func TestLargeBodyIsNotRead(t *testing.T) {
	store := newStore(t, nil)
	store.write(prefix+"body", "x")
	if err := store.fake.Zeros(bucketName, prefix+"body", maxBody+1, 0); err != nil {
		t.Fatal(err)
	}
	_, err := store.source(bodies).Load(t.Context(), prefix+"body")
	if refused := (*scan.RefusedError)(nil); !errors.As(err, &refused) ||
		refused.Reason != "too-large" || store.faults.Counts()["s3:GetObject"] > 0 {
		t.Errorf("a large body: %v after %d GETs", err, store.faults.Counts()["s3:GetObject"])
	}
}
