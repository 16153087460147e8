package s3scan

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/awserr"
	"rotator/internal/fakeaws/fakes3"
	"rotator/internal/scan"
)

// stale returns the change as if its object was read more than staleAfter ago.
func stale(c scan.Change) scan.Change {
	c.Item.Token.(*snapshot).readAt = time.Now().Add(-staleAfter - time.Millisecond)
	return c
}

// settled returns the change as if its object was written long before it was read.
func settled(c scan.Change) scan.Change {
	c.Item.Token.(*snapshot).lastModifiedSettled = true
	return c
}

// untaggedObjects returns a function that stores the n-th object, without tags.
func (s *store) untaggedObjects() func(n int) scan.Ref {
	s.options = func(in *s3.PutObjectInput) { in.Tagging = nil }
	return func(n int) scan.Ref {
		ref := scan.Ref(fmt.Sprint(prefix, n))
		s.value(ref, "old")
		return ref
	}
}

// countRequests returns the number of requests that work sends, by operation.
func (s *store) countRequests(work func()) map[string]int {
	before := s.faults.Counts()
	work()
	counts := s.faults.Counts()
	for operation, n := range before {
		if counts[operation] -= n; counts[operation] == 0 {
			delete(counts, operation)
		}
	}
	return counts
}

func (s *store) rewrite(source *Bucket, ref scan.Ref) {
	s.t.Helper()
	item, err := source.Load(s.t.Context(), ref)
	if err != nil {
		s.t.Fatal(err)
	}
	after := splice(item.Payload, []byte("new"))
	if item.Payload.(*scan.Object).Body == nil {
		after = spliceMetadata(item.Payload, []byte("new"))
	}
	if err := source.Replace(s.t.Context(),
		[]scan.Change{{Item: item, New: after}})[0].Err; err != nil {
		s.t.Fatal(err)
	}
}

// requests returns the map of one request for each operation.
func requests(operations ...string) map[string]int {
	counts := map[string]int{}
	for _, operation := range operations {
		counts["s3:"+operation] = 1
	}
	return counts
}

// changeSmall is changeMetadata for an object of one part.
func (s *store) changeSmall(source *Bucket, ref scan.Ref) scan.Change {
	return s.changeMetadata(source, ref, 0)
}

// The requests of a write depend on what was read and on when it was read.
func TestRequestsBeforeWrite(t *testing.T) {
	owner := func(in *s3.CreateBucketInput) {
		in.ObjectOwnership = types.ObjectOwnershipObjectWriter
	}
	for _, c := range []struct {
		name     string
		make     func(*s3.CreateBucketInput)
		tagging  string
		metadata bool
		stale    bool
		want     map[string]int
	}{
		{name: "body", want: requests("PutObject")},
		{name: "body, stale", stale: true, want: requests("HeadObject", "PutObject")},
		{
			name:    "body, tags",
			tagging: "a=b",
			want:    requests("GetObjectTagging", "HeadObject", "PutObject"),
		},
		{name: "body, ACLs", make: owner,
			want: requests("GetObjectAcl", "HeadObject", "PutObject")},
		{name: "metadata", metadata: true, want: requests("CopyObject")},
		{name: "metadata, tags", tagging: "a=b", metadata: true, want: requests("CopyObject")},
		{
			name:     "metadata, stale",
			metadata: true,
			stale:    true,
			want:     requests("HeadObject", "CopyObject"),
		},
		{
			name:     "metadata, ACLs",
			make:     owner,
			metadata: true,
			want:     requests("GetObjectAcl", "HeadObject", "CopyObject"),
		},
	} {
		store := newStore(t, c.make)
		put := store.untaggedObjects()
		source, change := store.source(nil), store.change
		if c.metadata {
			source, change = store.inMetadata(nil), store.changeSmall
		}
		first := settled(change(source, put(0)))
		// the probes have completed
		if err := replaceOne(t, source, first); err != nil {
			t.Fatal(err)
		}
		source.sampleIndex = 0 // the next object is not in the sample
		store.options = func(in *s3.PutObjectInput) { in.Tagging = optional(c.tagging) }
		next := settled(change(source, put(1)))
		if c.stale {
			next = stale(next)
		}
		var err error
		got := store.countRequests(func() { err = replaceOne(t, source, next) })
		if err != nil || !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, requests %v, want %v", c.name, err, got, c.want)
		}
	}
}

// A change of another writer that the ETag does not show is preserved if the object was read
// more than staleAfter ago.
func TestChangedAfterStaleRead(t *testing.T) {
	type editFunc func(s *store, ref scan.Ref)
	content := func(s *store, ref scan.Ref) {
		s.options = func(in *s3.PutObjectInput) {
			in.Tagging, in.ContentType = nil, aws.String("text/other")
		}
		s.value(ref, "old")
	}
	tag := func(s *store, ref scan.Ref) { s.tag(ref, "late", "1") }
	for name, edit := range map[string]editFunc{"tagged": tag, "another content type": content} {
		store := newStore(t, nil)
		put := store.untaggedObjects()
		source := store.source(nil)
		store.rewrite(source, put(0)) // tag counts are trusted from now on
		change := stale(store.change(source, put(1)))
		edit(store, change.Item.Ref)
		rest := store.rest(change.Item.Ref)
		if err := replaceOne(t, source, change); !errors.Is(err, scan.ErrChanged) {
			t.Errorf("%s: %v, want ErrChanged", name, err)
		}
		if store.rest(change.Item.Ref) != rest {
			t.Errorf("%s: the object was written", name)
		}
		store.rewrite(source, change.Item.Ref) // as the engine does after ErrChanged
		if got := store.rest(change.Item.Ref); got != rest {
			t.Errorf("%s: the object is\n%swant\n%s", name, got, rest)
		}
	}
}

// withoutTagCount is a response without the tag count.
type withoutTagCount struct{ http.ResponseWriter }

func (s withoutTagCount) WriteHeader(status int) {
	s.Header().Del("X-Amz-Tagging-Count")
	s.ResponseWriter.WriteHeader(status)
}

// On a server that does not report tag counts, the tags of each object are requested and
// preserved.
func TestTagCountsMissing(t *testing.T) {
	for _, methods := range []string{"GET HEAD", "GET", "HEAD"} {
		store := newStore(t, nil)
		source := store.source(store.through(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(methods, r.Method) || r.URL.RawQuery == "tagging=" {
				return false
			}
			store.faults.Handler(store.fake).ServeHTTP(withoutTagCount{w}, r)
			return true
		}))
		put := store.untaggedObjects()
		store.rewrite(source, put(0))
		tagged := put(1)
		store.tag(tagged, "team", "a")
		rest := store.rest(tagged)
		for range 2 {
			store.rewrite(source, tagged)
			store.value(tagged, "old")
			store.tag(tagged, "team", "a")
			if got := store.rest(tagged); got != rest {
				t.Errorf("%s: the object is\n%swant\n%s", methods, got, rest)
			}
		}
		if got := store.faults.Counts()["s3:GetObjectTagging"]; got != 3 {
			t.Errorf("%s: %d requests for tags, want 3", methods, got)
		}
	}
}

// If the caller may not read tags, a missing count does not mean zero tags. This is the case
// without the permission, with a permission for some objects only, and after the permission
// was revoked. The last is detected within 2*sampleEvery objects and noted.
func TestTagsDenied(t *testing.T) {
	denied := func(keys string) func(fakes3.Call) bool {
		return func(c fakes3.Call) bool {
			return c.Action != "s3:GetObjectTagging" || !strings.HasPrefix(c.Key, keys) ||
				strings.Contains(c.Key, probeName)
		}
	}
	for _, onAWS := range []bool{false, true} {
		store := newStore(t, nil)
		source := store.source(store.annotations("", func(c *Config) { c.AWS = onAWS }))
		put := store.untaggedObjects()
		store.fake.SetPolicy(func(c fakes3.Call) bool { return c.Action != "s3:GetObjectTagging" })
		change := store.change(source, put(0))
		if err := replaceOne(t, source, change); awserr.Status(err) != http.StatusForbidden {
			t.Errorf("AWS %v, no permission: %v, want 403", onAWS, err)
		}
		store.fake.SetPolicy(nil)

		source = store.source(store.annotations("", func(c *Config) { c.AWS = onAWS }))
		store.rewrite(source, put(1))
		store.fake.SetPolicy(denied(prefix + "2"))
		hidden := 0
		for range 2 * sampleEvery {
			ref := put(2)
			if err := replaceOne(t, source,
				store.change(source, ref)); awserr.Status(err) == http.StatusForbidden {
				break
			}
			hidden++
		}
		if hidden >= 2*sampleEvery || !strings.Contains(fmt.Sprint(source.Notes()), "may be lost") {
			t.Errorf("AWS %v: %d objects with unreadable tags were written, notes %q", onAWS,
				hidden, source.Notes())
		}
		change = store.change(source, put(2))
		if err := replaceOne(t, source, change); awserr.Status(err) != http.StatusForbidden {
			t.Errorf("AWS %v, after 403: %v, want 403", onAWS, err)
		}
		store.fake.SetPolicy(nil)
	}
}

// A server that reports tag counts for some objects only is detected by the sample. The tags
// of the sampled object and of later objects are preserved.
func TestTagCountsPartial(t *testing.T) {
	store := newStore(t, nil)
	hidden := prefix + "2"
	source := store.source(store.through(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/"+bucketName+"/"+hidden || r.URL.RawQuery == "tagging=" {
			return false
		}
		store.faults.Handler(store.fake).ServeHTTP(withoutTagCount{w}, r)
		return true
	}))
	put := store.untaggedObjects()
	// the probes have completed
	store.rewrite(source, put(1))
	// the next object is in the sample
	source.untaggedSeen, source.sampleIndex = sampleEvery-1, sampleEvery-1
	for range 2 {
		ref := put(2)
		store.tag(ref, "team", "a")
		rest := store.rest(ref)
		store.rewrite(source, ref)
		if got := store.rest(ref); got != rest {
			t.Errorf("the object is\n%swant\n%s", got, rest)
		}
	}
	if !strings.Contains(fmt.Sprint(source.Notes()), "may be lost") {
		t.Errorf("notes %q", source.Notes())
	}
}

// On AWS the first response to GetObjectTagging proves that tag counts are reported.
// Annotations are requested for each object, because no response to GET contains them.
func TestRequestsOnAWS(t *testing.T) {
	store := newStore(t, nil)
	put := store.untaggedObjects()
	annotated := store.annotations("", func(c *Config) { c.AWS = true })
	source := store.source(annotated)
	first := store.countRequests(func() { store.rewrite(source, put(0)) })
	second := store.countRequests(func() { store.rewrite(source, put(1)) })
	want := map[string]int{"s3:GetObject": 1, "s3:PutObject": 1}
	if first["s3:GetObjectTagging"] != 1 || !maps.Equal(second, want) {
		t.Errorf("requests %v and %v, want %v for the second", first, second, want)
	}
}
