package s3scan

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/awserr"
	"rotator/internal/fakeaws/fakes3"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/scan"
)

// change loads an object and returns a change of its body.
func (s *store) change(source *Bucket, ref scan.Ref) scan.Change {
	s.t.Helper()
	item, err := source.Load(s.t.Context(), ref)
	if err != nil {
		s.t.Fatal(err)
	}
	return scan.Change{Item: item, New: splice(item.Payload, []byte("new"))}
}

// replaceOne returns the error of a Replace of one change.
func replaceOne(t *testing.T, source *Bucket, change scan.Change) error {
	return source.Replace(t.Context(), []scan.Change{change})[0].Err
}

func (s *store) body(ref scan.Ref) string {
	s.t.Helper()
	item, err := s.source(nil).Load(s.t.Context(), ref)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(item.Payload.(*scan.Object).Body)
}

func TestCheck(t *testing.T) {
	store := newStore(t, nil)
	respond := func(status int, region string) func(*Config) {
		return store.through(func(w http.ResponseWriter, r *http.Request) bool {
			if region != "" {
				w.Header().Set("X-Amz-Bucket-Region", region)
			}
			w.WriteHeader(status)
			return true
		})
	}
	for _, c := range []struct {
		name    string
		change  func(*Config)
		missing string // expected text of a MissingError
		status  int    // expected HTTP status of any other error
	}{
		{"usable", nil, "", 0},
		{"no such bucket", func(c *Config) {
			c.Bucket = "nowhere"
		}, "there is no bucket nowhere", 0},
		{
			"directory bucket",
			func(c *Config) { c.Bucket = "fast--euw1-az1--x-s3" },
			"is a directory bucket",
			0,
		},
		{
			"other Region",
			respond(301, "us-west-2"),
			"is in us-west-2, not in eu-west-1; set s3.region to us-west-2",
			0,
		},
		{
			"other Region, signature refused",
			respond(400, "us-west-2"),
			"set s3.region to us-west-2",
			0,
		},
		{"other Region, not named", respond(301, ""), "set s3.region to its Region", 0},
		{"denied", respond(403, "eu-west-1"), "", 403},
		{"bad request", respond(400, ""), "", 400},
		{"down", respond(503, ""), "", 503},
	} {
		err := store.source(c.change).Check(t.Context())
		var missing *scan.MissingError
		switch {
		case c.missing != "" &&
			(!errors.As(err, &missing) || missing.Field != "s3.bucket" ||
				!strings.Contains(missing.Detail, c.missing)):
			t.Errorf("%s: %v, want %q", c.name, err, c.missing)
		case c.missing == "" &&
			(errors.As(err, &missing) || awserr.Status(err) != c.status ||
				(err == nil) != (c.status == 0)):
			t.Errorf("%s: %v, want status %d", c.name, err, c.status)
		}
	}
}

// An object that cannot be rewritten without loss is refused with a reason. Other errors are
// neither refusals nor scan.ErrGone.
func TestLoadRefuses(t *testing.T) {
	store := newStore(t, nil)
	putWith := func(options func(*s3.PutObjectInput)) scan.Ref {
		ref := scan.Ref(fmt.Sprint(prefix, time.Now().UnixNano()))
		store.options = options
		store.write(ref, "body")
		return ref
	}
	archived := putWith(func(in *s3.PutObjectInput) {
		in.StorageClass = types.StorageClassDeepArchive
	})
	customer := putWith(func(in *s3.PutObjectInput) {
		in.SSECustomerAlgorithm = aws.String("AES256")
		in.SSECustomerKey = aws.String(strings.Repeat("k", 32))
	})
	plain := putWith(func(*s3.PutObjectInput) {})
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
		reason string
	}{
		{"archived", archived, nil, "archived"},
		{"customer key", customer, nil, "sse-c"},
		{"metadata that cannot be a header", plain, header("X-Amz-Missing-Meta", "1"), "metadata"},
		{"too large", plain, store.through(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Length", fmt.Sprint(maxBody+1))
			w.Header().Set("ETag", `"e"`)
			return true
		}), "too-large"},
		{
			"no ETag",
			plain,
			store.through(func(w http.ResponseWriter, r *http.Request) bool { return true }),
			"no-etag",
		},
	} {
		_, err := store.source(c.change).Load(t.Context(), c.ref)
		if refused := (*scan.RefusedError)(nil); !errors.As(err, &refused) ||
			refused.Reason != c.reason {
			t.Errorf("%s: %v, want reason %s", c.name, err, c.reason)
		}
	}
}

// Errors of a request are returned as they are.
func TestLoadErrors(t *testing.T) {
	store := newStore(t, nil)
	ref := store.put(0)
	for code, status := range map[string]int{
		"ExpiredToken":   400,
		"InvalidRequest": 400,
		"AccessDenied":   403,
		"NoSuchBucket":   404,
		"SlowDown":       503,
	} {
		_, err := store.source(store.through(func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>why</Message></Error>", code)
			return true
		})).Load(t.Context(), ref)
		if refused := (*scan.RefusedError)(nil); err == nil || errors.As(err, &refused) ||
			errors.Is(err, scan.ErrGone) {
			t.Errorf("%s: %v, want the error of the request", code, err)
		}
	}
}

// A write is refused if a PUT of the new body would change the kind of the checksum. Reading
// such an object is not refused.
func TestChecksumOfNewBody(t *testing.T) {
	store := newStore(t, nil)
	store.options = func(in *s3.PutObjectInput) {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256
	}
	store.ignoredHeaders = nil
	for _, c := range []struct {
		name   string
		size   int64 // of a multipart upload with parts of 1 MiB; 0 for a PUT
		change func(*Config)
		reason string
	}{
		{"PUT", 0, nil, ""},
		{"upload of one part", 1 << 20, nil, "checksum"},
		{"upload of several parts", 8 << 20, nil, "checksum"},
		{"XXHash", 0, store.through(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("X-Amz-Checksum-Xxhash64", "AAAAAAAAAAA=")
			r.Header.Del("X-Amz-Checksum-Mode")
			return false
		}), "checksum"},
	} {
		store.reshape = func(key string) {
			if c.size > 0 {
				_ = store.fake.Zeros(bucketName, key, c.size, 1<<20)
			}
		}
		source := store.source(c.change)
		change := store.change(source, store.put(0))
		rest, body := store.rest(change.Item.Ref), store.body(change.Item.Ref)
		if parts := strings.Contains(rest,
			"X-Amz-Checksum-Type: COMPOSITE"); parts != (c.size > 0) {
			t.Fatalf("%s: composite checksum %v: %s", c.name, parts, rest)
		}
		err := replaceOne(t, source, change)
		refused := (*scan.RefusedError)(nil)
		if c.reason == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if !errors.As(err, &refused) || refused.Reason != c.reason {
			t.Errorf("%s: %v, want reason %s", c.name, err, c.reason)
		}
		if store.rest(change.Item.Ref) != rest || store.body(change.Item.Ref) != body {
			t.Errorf("%s: the object was written", c.name)
		}
	}
}

// A concurrent change of metadata within the same second, which changes neither ETag nor
// Last-Modified, is not lost.
func TestMetadataChange(t *testing.T) {
	for name, options := range map[string]func(*s3.PutObjectInput){
		"metadata": func(in *s3.PutObjectInput) {
			in.Metadata = map[string]string{"tenant": "other"}
		},
		"content type": func(in *s3.PutObjectInput) { in.ContentType = aws.String("text/other") },
		"class": func(in *s3.PutObjectInput) {
			in.StorageClass = types.StorageClassOnezoneIa
		},
	} {
		store := newStore(t, nil)
		source := store.source(nil)
		change := store.change(source, store.put(0))
		store.options = options
		ref := store.put(0)
		rest := store.rest(ref)
		if err := replaceOne(t, source, change); !errors.Is(err, scan.ErrChanged) {
			t.Errorf("%s: %v, want ErrChanged", name, err)
		}
		if store.body(ref) != "body 0" || store.rest(ref) != rest {
			t.Errorf("%s: the object was written", name)
		}
	}
}

// Changes of other writers between the last HEAD and the PUT are not lost.
func TestConcurrentChange(t *testing.T) {
	for _, c := range []struct {
		name, operation string
		happens         func(*store, scan.Ref)
		want            error
	}{
		{
			"tags change before HEAD",
			"s3:HeadObject",
			func(s *store, ref scan.Ref) { s.tag(ref, "late", "1") },
			scan.ErrChanged,
		},
		{"deleted before HEAD", "s3:HeadObject", (*store).remove, scan.ErrGone},
		{"deleted before PUT", "s3:PutObject", (*store).remove, scan.ErrGone},
		{
			"rewritten before PUT",
			"s3:PutObject",
			func(s *store, ref scan.Ref) { s.write(ref, "other") },
			scan.ErrChanged,
		},
	} {
		store := newStore(t, nil)
		source := store.source(nil)
		first := store.change(source, store.put(1))
		// the probe has completed
		if err := replaceOne(t, source, first); err != nil {
			t.Fatal(err)
		}
		change := store.change(source, store.put(0))
		ref := change.Item.Ref
		var left string
		store.faults.Set(c.operation, fault.Fault{Before: func(*http.Request, []byte) {
			c.happens(store, ref)
			left = store.rest(ref)
		}})
		err := replaceOne(t, source, change)
		if !errors.Is(err, c.want) || store.rest(ref) != left ||
			left != "" && store.body(ref) == "new" {
			t.Errorf("%s: %v, want %v and nothing written", c.name, err, c.want)
		}
	}
}

// A new body that depends on user metadata is not written if the metadata was edited after
// the read. The ETag does not change with such an edit.
func TestGuardedMetadata(t *testing.T) {
	for _, edited := range []bool{false, true} {
		store := newStore(t, nil)
		put := store.untaggedObjects()
		source := store.source(nil)
		// tag counts are trusted from now on, so no HEAD is otherwise necessary
		store.rewrite(source, put(0))
		source.sampleIndex = 0
		change := store.change(source, put(1))
		value := scan.Value{Kind: scan.KindS, Text: "r"}
		change.Guards = []scan.Guard{{Path: []scan.Step{{Name: "region"}}, Value: value}}
		ref := change.Item.Ref
		if edited {
			store.editMetadata(ref)
		}
		rest := store.rest(ref)
		err := replaceOne(t, source, change)
		written := store.body(ref) == "new"
		if written == edited || errors.Is(err, scan.ErrChanged) != edited ||
			store.rest(ref) != rest {
			t.Errorf("metadata edited %v: written %v, %v", edited, written, err)
		}
	}
}

// editMetadata copies an object onto itself with other user metadata. The body and therefore
// the ETag stay the same.
func (s *store) editMetadata(ref scan.Ref) {
	s.t.Helper()
	key := string(ref)
	source := url.PathEscape(bucketName + "/" + key)
	_, err := s.direct.CopyObject(s.t.Context(), &s3.CopyObjectInput{
		Bucket:            aws.String(bucketName),
		Key:               &key,
		CopySource:        &source,
		MetadataDirective: types.MetadataDirectiveReplace,
		Metadata:          map[string]string{"region": "edited"},
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// A property that the caller is not allowed to read is an error, not an absent property.
func TestAccessDenied(t *testing.T) {
	for _, c := range []struct {
		action string
		aws    bool
	}{
		{"s3:GetObjectTagging", false},
		{"s3:GetObjectAcl", false},
		{"s3:GetBucketOwnershipControls", false},
		{"s3:GetObjectRetention", true},
		{"s3:GetObjectLegalHold", true},
		{"s3:HeadObject", true},
		{"s3:PutObject", true},
	} {
		store := newStore(t, func(in *s3.CreateBucketInput) {
			in.ObjectOwnership = types.ObjectOwnershipObjectWriter
		})
		source := store.source(store.annotations("", func(c2 *Config) { c2.AWS = c.aws }))
		ref := store.put(0)
		change := store.change(source, ref)
		store.fake.SetPolicy(func(call fakes3.Call) bool { return call.Action != c.action })
		err := replaceOne(t, source, change)
		store.fake.SetPolicy(nil)
		if awserr.Status(err) != http.StatusForbidden || store.body(ref) != "body 0" {
			t.Errorf("without %s: %v, want 403 and nothing written", c.action, err)
		}
	}
}

// annotations returns a function that makes the fake respond to ListObjectAnnotations.
func (s *store) annotations(list string, change func(*Config)) func(*Config) {
	through := s.through(func(w http.ResponseWriter, r *http.Request) bool {
		if !r.URL.Query().Has("annotation") {
			return false
		}
		_, _ = fmt.Fprintf(w,
			"<ListObjectAnnotationsResult><Annotations>%s</Annotations>"+
				"</ListObjectAnnotationsResult>", list)
		return true
	})
	return func(c *Config) { through(c); change(c) }
}

// On AWS nothing is probed, annotations are requested, and the grant of the owner is sent
// again.
func TestOnAWS(t *testing.T) {
	onAWS := func(c *Config) { c.AWS = true }
	store := newStore(t, func(in *s3.CreateBucketInput) {
		in.ObjectOwnership = types.ObjectOwnershipObjectWriter
	})
	ref := store.put(0)
	source := store.source(store.annotations("", onAWS))
	grant := ""
	store.faults.Set("s3:PutObject", fault.Fault{
		Before: func(r *http.Request, _ []byte) {
			grant += r.Header.Get("X-Amz-Grant-Full-Control")
		},
	})
	if err := replaceOne(t, source, store.change(source, ref)); err != nil {
		t.Fatal(err)
	}
	if n := store.faults.Counts()["s3:PutObject"]; n != 1 || grant != `id="owner-111122223333"` {
		t.Errorf("%d PUT requests, grant of the owner %q", n, grant)
	}
	annotated := store.source(
		store.annotations("<AnnotationEntry><AnnotationName>a</AnnotationName></AnnotationEntry>",
			onAWS))
	err := replaceOne(t, annotated, store.change(annotated, store.put(1)))
	if refused := (*scan.RefusedError)(nil); !errors.As(err, &refused) ||
		refused.Reason != "annotations" {
		t.Errorf("an annotated object: %v, want reason annotations", err)
	}
}

// A retention that has ended is not sent again, because S3 refuses a date in the past.
func TestEndedRetention(t *testing.T) {
	store := newStore(t, func(in *s3.CreateBucketInput) {
		in.ObjectLockEnabledForBucket = aws.Bool(true)
	})
	source := store.source(nil)
	store.options = func(in *s3.PutObjectInput) {
		in.ObjectLockMode = types.ObjectLockModeGovernance
		in.ObjectLockRetainUntilDate = aws.Time(time.Now().Add(-time.Hour))
	}
	ref := store.put(0)
	change := store.change(source, ref)
	store.faults.Set("s3:PutObject", fault.Fault{Before: func(r *http.Request, _ []byte) {
		if until := r.Header.Get("X-Amz-Object-Lock-Retain-Until-Date"); until != "" {
			t.Errorf("retention until %s was sent", until)
		}
	}})
	if err := replaceOne(t, source, change); err != nil {
		t.Fatal(err)
	}
}

// A server that does not enforce the condition of a PUT receives only probes, and no probe
// object remains.
func TestProbe(t *testing.T) {
	without := func(header string) func(http.ResponseWriter, *http.Request) bool {
		return func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				r.Header.Del(header)
			}
			return false
		}
	}
	respond := func(status int, header string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || r.Header.Get(header) == "" {
				return false
			}
			w.WriteHeader(status)
			return true
		}
	}
	for _, c := range []struct {
		name    string
		handle  func(http.ResponseWriter, *http.Request) bool
		missing bool // whether the error is a MissingError, which ends the run
	}{
		{"If-Match is ignored", without("If-Match"), true},
		{"If-Match is not implemented", respond(501, "If-Match"), true},
		{"If-None-Match is not implemented", respond(501, "If-None-Match"), true},
		{"If-Match never holds", respond(412, "If-Match"), true},
		{"denied", respond(403, "If-None-Match"), false},
		{"down", respond(503, "If-Match"), false},
	} {
		for _, versioned := range []bool{false, true} {
			store := newStore(t, func(in *s3.CreateBucketInput) {
				in.ObjectLockEnabledForBucket = &versioned
			})
			source := store.source(store.through(c.handle))
			ref := store.put(0)
			err := replaceOne(t, source, store.change(source, ref))
			var missing *scan.MissingError
			if err == nil || errors.Is(err, scan.ErrChanged) ||
				errors.As(err, &missing) != c.missing {
				t.Errorf("%s: %v, want a MissingError: %v", c.name, err, c.missing)
			}
			if missing != nil && missing.Field != "s3" {
				t.Errorf("%s: field %s", c.name, missing.Field)
			}
			out, err := store.direct.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{
				Bucket: aws.String(bucketName),
			})
			if err != nil || len(out.Versions) != 1 || len(out.DeleteMarkers) != 0 ||
				store.body(ref) != "body 0" {
				t.Errorf("%s: %d versions and %d delete markers (%v), body %q",
					c.name, len(out.Versions), len(out.DeleteMarkers), err, store.body(ref))
			}
		}
	}
}

// Concurrent first writes run one probe.
func TestProbeOnce(t *testing.T) {
	store := newStore(t, nil)
	source := store.source(nil)
	errs := make(chan error)
	const writers = 6
	for n := range writers {
		change := store.change(source, store.put(n))
		go func() {
			errs <- source.Replace(context.WithoutCancel(t.Context()), []scan.Change{change})[0].Err
		}()
	}
	for range writers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if counts := store.faults.Counts(); counts["s3:PutObject"] != writers+3 ||
		counts["s3:DeleteObject"] != 1 {
		t.Errorf("requests: %v, want %d PUT requests, 3 of them probes", counts, writers+3)
	}
}

// Probe objects that a killed run left are not items. They are noted.
func TestProbeObjectsAreSkipped(t *testing.T) {
	store := newStore(t, nil)
	source := store.source(nil)
	probeKey := prefix + probeName + strings.Repeat("A", probeSuffixLen)
	items := []scan.Ref{prefix, scan.Ref(probeKey + "A"), scan.Ref(probeKey + "/a"),
		scan.Ref(prefix + probeName),
		scan.Ref(prefix + "sub/" + probeName + strings.Repeat("A", probeSuffixLen))}
	for _, ref := range items {
		store.write(ref, "")
	}
	if err := source.Check(t.Context()); err != nil ||
		strings.Contains(fmt.Sprint(source.Notes()), "left by a capability probe") {
		t.Errorf("another object is noted as a probe: %v, %v", err, source.Notes())
	}
	store.write(scan.Ref(probeKey), "")
	resumed := store.source(nil) // a run that resumes after the key of the probe
	if err := resumed.Check(t.Context()); err != nil ||
		!strings.Contains(fmt.Sprint(resumed.Notes()), "left by a capability probe") {
		t.Errorf("a probe object exists, but the notes are %v, %v", resumed.Notes(), err)
	}
	partitions, err := source.Partitions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	page, err := source.Page(t.Context(), partitions[0], nil)
	if err != nil || !page.Last {
		t.Fatalf("page: %v, last %v", err, page.Last)
	}
	var got []scan.Ref
	for _, item := range page.Items {
		got = append(got, item.Ref)
	}
	slices.Sort(items)
	if !slices.Equal(got, items) {
		t.Errorf("items %q, want %q", got, items)
	}
	if notes := fmt.Sprint(source.Notes()); !strings.Contains(notes, "left by a capability probe") {
		t.Errorf("notes: %s", notes)
	}
}

// A listing that goes back, is not ordered or makes no progress is an error. A key that a listing
// repeats, also over the boundary of two pages, is one item.
func TestListingOutOfOrder(t *testing.T) {
	listing := func(keys ...string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = fmt.Fprint(w, "<ListBucketResult><IsTruncated>true</IsTruncated>")
			for _, key := range keys {
				_, _ = fmt.Fprintf(w, "<Contents><Key>%s</Key></Contents>", key)
			}
			_, _ = fmt.Fprint(w, "</ListBucketResult>")
			return true
		}
	}
	store := newStore(t, nil)
	partitions, err := store.source(func(c *Config) { c.Prefix = "" }).Partitions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string][]string{
		"StartAfter is ignored": {"a", "b", "c"},
		"not ordered":           {"d", "c"},
		"no key":                nil,
		"no progress":           {"b", "b"},
	} {
		if _, err := store.source(store.through(listing(keys...))).Page(t.Context(), partitions[0],
			scan.Cursor("b")); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, keys := range map[string][]string{
		"ordered":             {"c", "d"},
		"repeated":            {"c", "c", "d", "d", "d"},
		"repeated over pages": {"b", "c", "d", "d"},
	} {
		page, err := store.source(store.through(listing(keys...))).Page(t.Context(), partitions[0],
			scan.Cursor("b"))
		if err != nil || string(page.Next) != "d" || len(page.Items) != 2 {
			t.Errorf("%s: %v, next %q, %d items", name, err, page.Next, len(page.Items))
		}
	}
}
