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

	"rotator/internal/fakeaws/fakes3"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/scan"
)

// change asks for another body of a loaded object.
func (s *store) change(source *Bucket, ref scan.Ref) scan.Change {
	s.t.Helper()
	item, err := source.Load(s.t.Context(), ref)
	if err != nil {
		s.t.Fatal(err)
	}
	return scan.Change{Item: item, New: splice(item.Payload, []byte("new"))}
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
	answer := func(status int, region string) func(*Config) {
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
		missing string // what a MissingError says
		status  int    // of any other error
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
			answer(301, "us-west-2"),
			"is in us-west-2, not in eu-west-1; set s3.region to us-west-2",
			0,
		},
		{
			"other Region, signature refused",
			answer(400, "us-west-2"),
			"set s3.region to us-west-2",
			0,
		},
		{"other Region, not named", answer(301, ""), "set s3.region to its Region", 0},
		{"denied", answer(403, "eu-west-1"), "", 403},
		{"bad request", answer(400, ""), "", 400},
		{"down", answer(503, ""), "", 503},
	} {
		err := store.source(c.change).Check(t.Context())
		var missing *scan.MissingError
		switch {
		case c.missing != "" &&
			(!errors.As(err, &missing) || missing.Field != "s3.bucket" ||
				!strings.Contains(missing.Detail, c.missing)):
			t.Errorf("%s: %v, want %q", c.name, err, c.missing)
		case c.missing == "" &&
			(errors.As(err, &missing) || status(err) != c.status ||
				(err == nil) != (c.status == 0)):
			t.Errorf("%s: %v, want status %d", c.name, err, c.status)
		}
	}
}

// An object that cannot be rewritten as it is, is refused by name; one that is
// not there is gone; other errors are neither.
func TestLoadRefuses(t *testing.T) {
	store := newStore(t, nil)
	dressed := func(dress func(*s3.PutObjectInput)) scan.Ref {
		ref := scan.Ref(fmt.Sprint(prefix, time.Now().UnixNano()))
		store.dress = dress
		store.write(ref, "body")
		return ref
	}
	archived := dressed(func(in *s3.PutObjectInput) {
		in.StorageClass = types.StorageClassDeepArchive
	})
	customer := dressed(func(in *s3.PutObjectInput) {
		in.SSECustomerAlgorithm = aws.String("AES256")
		in.SSECustomerKey = aws.String(strings.Repeat("k", 32))

	})
	plain := dressed(func(*s3.PutObjectInput) {})
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
		{"metadata that is no header", plain, header("X-Amz-Missing-Meta", "1"), "metadata"},
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
			t.Errorf("%s: %v, want it refused as %s", c.name, err, c.reason)
		}
	}
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
		})).Load(t.Context(), plain)
		if refused := (*scan.RefusedError)(nil); err == nil || errors.As(err, &refused) ||
			errors.Is(err, scan.ErrGone) {
			t.Errorf("%s: %v, want the error of the request", code, err)
		}
	}
}

// A checksum that the PUT of a new body would make one of another kind refuses the
// write, and only that: an object in which nothing moves is read like any other.
func TestChecksumOfNewBody(t *testing.T) {
	store := newStore(t, nil)
	store.dress = func(in *s3.PutObjectInput) {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256
	}
	store.hidden = nil
	for _, c := range []struct {
		name   string
		size   int64 // of an upload in parts of 1 MiB; 0 is one of a PUT
		change func(*Config)
		reason string
	}{
		{"of a PUT", 0, nil, ""},
		{"of one part", 1 << 20, nil, "checksum"},
		{"of several parts", 8 << 20, nil, "checksum"},
		{"an XXHash", 0, store.through(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("X-Amz-Checksum-Xxhash64", "AAAAAAAAAAA=")
			r.Header.Del("X-Amz-Checksum-Mode")
			return false
		}), "checksum"},
	} {
		store.shape = func(key string) {
			if c.size > 0 {
				_ = store.fake.Zeros(bucketName, key, c.size, 1<<20)
			}
		}
		source := store.source(c.change)
		change := store.change(source, store.put(0))
		rest, body := store.rest(change.Item.Ref), store.body(change.Item.Ref)
		if parts := strings.Contains(rest,
			"X-Amz-Checksum-Type: COMPOSITE"); parts != (c.size > 0) {
			t.Fatalf("%s: a checksum of parts is %v: %s", c.name, parts, rest)
		}
		err := source.Replace(t.Context(), []scan.Change{change})[0].Err
		refused := (*scan.RefusedError)(nil)
		if c.reason == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if !errors.As(err, &refused) || refused.Reason != c.reason {
			t.Errorf("%s: %v, want it refused as %s", c.name, err, c.reason)
		}
		if store.rest(change.Item.Ref) != rest || store.body(change.Item.Ref) != body {
			t.Errorf("%s: the object was written", c.name)
		}
	}
}

// Metadata that somebody replaces within the same second, with the same body,
// changes neither ETag nor Last-Modified, and is not lost all the same.
func TestMetadataChangedAlone(t *testing.T) {
	for name, dress := range map[string]func(*s3.PutObjectInput){
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
		store.dress = dress
		ref := store.put(0)
		rest := store.rest(ref)
		if err := source.Replace(t.Context(), []scan.Change{change})[0].Err; !errors.Is(err,
			scan.ErrChanged) {
			t.Errorf("%s: %v, want ErrChanged", name, err)
		}
		if store.body(ref) != "body 0" || store.rest(ref) != rest {
			t.Errorf("%s: the object was written", name)
		}
	}
}

// What happens between our last look and our PUT.
func TestLastMoment(t *testing.T) {
	for _, c := range []struct {
		name, operation string
		happens         func(*store, scan.Ref)
		want            error
	}{
		{
			"tags change before the last look",
			"s3:HeadObject",
			func(s *store, ref scan.Ref) { s.tag(ref, "late", "1") },
			scan.ErrChanged,
		},
		{"deleted before the last look", "s3:HeadObject", (*store).remove, scan.ErrGone},
		{"deleted before the PUT", "s3:PutObject", (*store).remove, scan.ErrGone},
		{
			"rewritten before the PUT",
			"s3:PutObject",
			func(s *store, ref scan.Ref) { s.write(ref, "foreign") },
			scan.ErrChanged,
		},
	} {
		store := newStore(t, nil)
		source := store.source(nil)
		first := store.change(source, store.put(1))
		// the probe is behind us
		if err := source.Replace(t.Context(), []scan.Change{first})[0].Err; err != nil {
			t.Fatal(err)
		}
		change := store.change(source, store.put(0))
		ref := change.Item.Ref
		var left string
		store.faults.Set(c.operation, fault.Fault{Before: func(*http.Request, []byte) {
			c.happens(store, ref)
			left = store.rest(ref)
		}})
		err := source.Replace(t.Context(), []scan.Change{change})[0].Err
		if !errors.Is(err, c.want) || store.rest(ref) != left ||
			left != "" && store.body(ref) == "new" {
			t.Errorf("%s: %v, want %v and nothing written", c.name, err, c.want)
		}
	}
}

// TestGuardedMetadata: a new body that depends on user metadata is not written
// if the metadata was edited after the read, even directly after it. The ETag
// does not show such an edit.
func TestGuardedMetadata(t *testing.T) {
	for _, edited := range []bool{false, true} {
		store := newStore(t, nil)
		put := store.plain()
		source := store.source(nil)
		store.move(source, put(0)) // counts of tags are believed: nothing else needs a look
		source.sampleIndex = 0
		change := store.change(source, put(1))
		value := scan.Value{Kind: scan.KindS, Text: "r"}
		change.Guards = []scan.Guard{{Path: []scan.Step{{Name: "region"}}, Value: value}}
		ref := change.Item.Ref
		if edited {
			store.editMetadata(ref)
		}
		rest := store.rest(ref)
		err := source.Replace(t.Context(), []scan.Change{change})[0].Err
		written := store.body(ref) == "new"
		if written == edited || errors.Is(err, scan.ErrChanged) != edited ||
			store.rest(ref) != rest {
			t.Errorf("metadata edited %v: written %v, %v", edited, written, err)
		}
	}
}

// editMetadata copies an object onto itself with other user metadata: its body, and so
// its ETag, stays the same.
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

// What we are not allowed to see is never taken for absent.
func TestDeniedIsNotAbsent(t *testing.T) {
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
		err := source.Replace(t.Context(), []scan.Change{change})[0].Err
		store.fake.SetPolicy(nil)
		if status(err) != http.StatusForbidden || store.body(ref) != "body 0" {
			t.Errorf("without %s: %v, want it denied and nothing written", c.action, err)
		}
	}
}

// annotations makes the fake answer ListObjectAnnotations.
func (s *store) annotations(list string, change func(*Config)) func(*Config) {
	through := s.through(func(w http.ResponseWriter, r *http.Request) bool {
		if !r.URL.Query().Has("annotation") {
			return false
		}
		_, _ = fmt.Fprintf(w,
			`<ListObjectAnnotationsResult><Annotations>%s</Annotations></ListObjectAnnotationsResult>`, list)
		return true
	})
	return func(c *Config) { through(c); change(c) }
}

// On AWS itself nothing is probed, annotations are looked for, and the ACL of the
// owner is sent again.
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
	if err := source.Replace(t.Context(),
		[]scan.Change{store.change(source, ref)})[0].Err; err != nil {
		t.Fatal(err)
	}
	if n := store.faults.Counts()["s3:PutObject"]; n != 1 || grant != `id="owner-111122223333"` {
		t.Errorf("%d PUTs, the owner's grant %q", n, grant)
	}
	annotated := store.source(
		store.annotations("<AnnotationEntry><AnnotationName>a</AnnotationName></AnnotationEntry>",
			onAWS))
	err := annotated.Replace(t.Context(),
		[]scan.Change{store.change(annotated, store.put(1))})[0].Err
	if refused := (*scan.RefusedError)(nil); !errors.As(err, &refused) ||
		refused.Reason != "annotations" {
		t.Errorf("an annotated object: %v, want it refused", err)
	}
}

// A retention that has ended is not sent again: S3 refuses a date in the past.
func TestEndedRetention(t *testing.T) {
	store := newStore(t, func(in *s3.CreateBucketInput) {
		in.ObjectLockEnabledForBucket = aws.Bool(true)
	})
	source := store.source(nil)
	store.dress = func(in *s3.PutObjectInput) {
		in.ObjectLockMode = types.ObjectLockModeGovernance
		in.ObjectLockRetainUntilDate = aws.Time(time.Now().Add(-time.Hour))

	}
	ref := store.put(0)
	change := store.change(source, ref)
	store.faults.Set("s3:PutObject", fault.Fault{Before: func(r *http.Request, _ []byte) {
		if until := r.Header.Get("X-Amz-Object-Lock-Retain-Until-Date"); until != "" {
			t.Errorf("a retention until %s was sent", until)
		}
	}})
	if err := source.Replace(t.Context(), []scan.Change{change})[0].Err; err != nil {
		t.Fatal(err)
	}
}

// A server that does not enforce the condition of a PUT gets no write of ours but
// those of the probe, and keeps nothing of it.
func TestProbe(t *testing.T) {
	without := func(header string) func(http.ResponseWriter, *http.Request) bool {
		return func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				r.Header.Del(header)
			}
			return false
		}
	}
	answer := func(status int, header string) func(http.ResponseWriter, *http.Request) bool {
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
		missing bool // the run stops; otherwise it may be tried again
	}{
		{"If-Match is ignored", without("If-Match"), true},
		{"If-Match is not implemented", answer(501, "If-Match"), true},
		{"If-None-Match is not implemented", answer(501, "If-None-Match"), true},
		{"If-Match never holds", answer(412, "If-Match"), true},
		{"denied", answer(403, "If-None-Match"), false},
		{"down", answer(503, "If-Match"), false},
	} {
		for _, versioned := range []bool{false, true} {
			store := newStore(t, func(in *s3.CreateBucketInput) {
				in.ObjectLockEnabledForBucket = &versioned
			})
			source := store.source(store.through(c.handle))
			ref := store.put(0)
			err := source.Replace(t.Context(), []scan.Change{store.change(source, ref)})[0].Err
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
				t.Errorf("%s: %d versions and %d markers are left (%v), the object holds %q",
					c.name, len(out.Versions), len(out.DeleteMarkers), err, store.body(ref))
			}
		}
	}
}

// Many first writes at once probe once.
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
		t.Errorf("requests: %v, want %d PUTs, of which 3 probe", counts, writers+3)
	}
}

// A probe that somebody's killed run left is no item, and is mentioned.
func TestProbesAreNoItems(t *testing.T) {
	store := newStore(t, nil)
	source := store.source(nil)
	ours := prefix + probeName + strings.Repeat("A", probeSuffixLen)
	items := []scan.Ref{prefix, scan.Ref(ours + "A"), scan.Ref(ours + "/a"),
		scan.Ref(prefix + probeName),
		scan.Ref(prefix + "sub/" + probeName + strings.Repeat("A", probeSuffixLen))}
	for _, ref := range items {
		store.write(ref, "")
	}
	if err := source.Check(t.Context()); err != nil ||
		strings.Contains(fmt.Sprint(source.Notes()), "left of a probe") {
		t.Errorf("what is no probe passes for one: %v, %v", err, source.Notes())
	}
	store.write(scan.Ref(ours), "")
	behind := store.source(nil) // of a run that goes on behind it
	if err := behind.Check(t.Context()); err != nil ||
		!strings.Contains(fmt.Sprint(behind.Notes()), "left of a probe") {
		t.Errorf("a probe is left, and noted is %v, %v", behind.Notes(), err)
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
	if notes := fmt.Sprint(source.Notes()); !strings.Contains(notes, "left of a probe") {
		t.Errorf("notes: %s", notes)
	}
}

// A listing that goes in circles, or has no order, is an error.
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
		"no order":              {"d", "c"},
		"nothing":               nil,
	} {
		if _, err := store.source(store.through(listing(keys...))).Page(t.Context(), partitions[0],
			scan.Cursor("b")); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if page, err := store.source(store.through(listing("c", "d"))).Page(t.Context(), partitions[0],
		scan.Cursor("b")); err != nil || string(page.Next) != "d" {
		t.Errorf("in order: %v, next %q", err, page.Next)
	}
}
