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

	"rotator/internal/fakeaws/fakes3"
	"rotator/internal/scan"
)

// old makes a change one of an object that was read too long ago to be written
// without another look.
func old(c scan.Change) scan.Change {
	c.Item.Token.(*snapshot).readAt = time.Now().Add(-staleAfter - time.Millisecond)
	return c
}

// settle makes a change one of an object that was written long before it was read.
func settle(c scan.Change) scan.Change {
	c.Item.Token.(*snapshot).lastModifiedSettled = true
	return c
}

// plain stores objects without tags; ref names one.
func (s *store) plain() func(n int) scan.Ref {
	s.dress = func(in *s3.PutObjectInput) { in.Tagging = nil }
	return func(n int) scan.Ref {
		ref := scan.Ref(fmt.Sprint(prefix, n))
		s.value(ref, "old")
		return ref
	}
}

// sent is what a source sends for some work.
func (s *store) sent(work func()) map[string]int {
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

func (s *store) move(source *Bucket, ref scan.Ref) {
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

// What a write asks before it, by what the read has told and how long ago.
func TestAskedBeforeAWrite(t *testing.T) {
	owner := func(in *s3.CreateBucketInput) {
		in.ObjectOwnership = types.ObjectOwnershipObjectWriter
	}
	for _, c := range []struct {
		name     string
		make     func(*s3.CreateBucketInput)
		tagging  string
		metadata bool
		old      bool
		want     map[string]int
	}{
		{"body", nil, "", false, false, map[string]int{"s3:PutObject": 1}},
		{
			"body, read long ago",
			nil,
			"",
			false,
			true,
			map[string]int{"s3:HeadObject": 1, "s3:PutObject": 1},
		},
		{
			"body, tags",
			nil,
			"a=b",
			false,
			false,
			map[string]int{"s3:GetObjectTagging": 1, "s3:HeadObject": 1, "s3:PutObject": 1},
		},
		{
			"body, ACLs",
			owner,
			"",
			false,
			false,
			map[string]int{"s3:GetObjectAcl": 1, "s3:HeadObject": 1, "s3:PutObject": 1},
		},
		{"metadata", nil, "", true, false, map[string]int{"s3:CopyObject": 1}},
		{
			"metadata, tags, which are copied",
			nil,
			"a=b",
			true,
			false,
			map[string]int{"s3:CopyObject": 1},
		},
		{
			"metadata, read long ago",
			nil,
			"",
			true,
			true,
			map[string]int{"s3:HeadObject": 1, "s3:CopyObject": 1},
		},
		{
			"metadata, ACLs",
			owner,
			"",
			true,
			false,
			map[string]int{"s3:GetObjectAcl": 1, "s3:HeadObject": 1, "s3:CopyObject": 1},
		},
	} {
		store := newStore(t, c.make)
		put := store.plain()
		source, change := store.source(nil), store.change
		if c.metadata {
			source = store.inMetadata(nil)
			change = func(b *Bucket, ref scan.Ref) scan.Change {
				return store.changeMetadata(b, ref, 0)
			}
		}
		first := settle(change(source, put(0)))
		// the probes are behind us
		if err := source.Replace(t.Context(), []scan.Change{first})[0].Err; err != nil {
			t.Fatal(err)
		}
		source.sampleIndex = 0 // of a hundred, which the sample asks about: not the next one
		store.dress = func(in *s3.PutObjectInput) { in.Tagging = optional(c.tagging) }
		next := settle(change(source, put(1)))
		if c.old {
			next = old(next)
		}
		var err error
		if got := store.sent(func() {
			err = source.Replace(t.Context(), []scan.Change{next})[0].Err
		}); err != nil || !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, sent %v, want %v", c.name, err, got, c.want)
		}
	}
}

// What others do to an object after it was read, and the ETag does not show, is kept
// when the read is older than a second.
func TestChangedAfterTheWindow(t *testing.T) {
	type edit func(s *store, ref scan.Ref)
	content := func(s *store, ref scan.Ref) {
		s.dress = func(in *s3.PutObjectInput) {
			in.Tagging, in.ContentType = nil, aws.String("text/theirs")
		}
		s.value(ref, "old")
	}
	tag := func(s *store, ref scan.Ref) { s.tag(ref, "late", "1") }
	for name, happens := range map[string]edit{"tagged": tag, "another content type": content} {
		store := newStore(t, nil)
		put := store.plain()
		source := store.source(nil)
		store.move(source, put(0)) // counts of tags are believed
		change := old(store.change(source, put(1)))
		happens(store, change.Item.Ref)
		rest := store.rest(change.Item.Ref)
		if err := source.Replace(t.Context(), []scan.Change{change})[0].Err; !errors.Is(err,
			scan.ErrChanged) {
			t.Errorf("%s: %v, want ErrChanged", name, err)
		}
		if store.rest(change.Item.Ref) != rest {
			t.Errorf("%s: the object was written", name)
		}
		store.move(source, change.Item.Ref) // as the engine goes on
		if got := store.rest(change.Item.Ref); got != rest {
			t.Errorf("%s: the object is\n%swant\n%s", name, got, rest)
		}
	}
}

// silent hides the count of tags from the answers to a method.
type silent struct{ http.ResponseWriter }

func (s silent) WriteHeader(status int) {
	s.Header().Del("X-Amz-Tagging-Count")
	s.ResponseWriter.WriteHeader(status)
}

// A server that does not say how many tags there are is asked about each object, and
// loses none.
func TestServerCountsNoTags(t *testing.T) {
	for _, methods := range []string{"GET HEAD", "GET", "HEAD"} {
		store := newStore(t, nil)
		source := store.source(store.through(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(methods, r.Method) || r.URL.RawQuery == "tagging=" {
				return false
			}
			store.faults.Handler(store.fake).ServeHTTP(silent{w}, r)
			return true
		}))
		put := store.plain()
		store.move(source, put(0))
		tagged := put(1)
		store.tag(tagged, "team", "a")
		rest := store.rest(tagged)
		for range 2 {
			store.move(source, tagged)
			store.value(tagged, "old")
			store.tag(tagged, "team", "a")
			if got := store.rest(tagged); got != rest {
				t.Errorf("%s: the object is\n%swant\n%s", methods, got, rest)
			}
		}
		if got := store.faults.Counts()["s3:GetObjectTagging"]; got != 3 {
			t.Errorf("%s: asked for tags %d times, want 3", methods, got)
		}
	}
}

// Who may not read tags is not told of them, and that is never taken for none: not
// without the permission, not with one for some objects alone, and not after it was
// taken back, which is seen within two hundred objects, and said.
func TestMayNotReadTags(t *testing.T) {
	denied := func(keys string) func(fakes3.Call) bool {
		return func(c fakes3.Call) bool {
			return c.Action != "s3:GetObjectTagging" || !strings.HasPrefix(c.Key, keys) ||
				strings.Contains(c.Key, probeName)
		}
	}
	for _, onAWS := range []bool{false, true} {
		store := newStore(t, nil)
		source := store.source(store.annotations("", func(c *Config) { c.AWS = onAWS }))
		put := store.plain()
		store.fake.SetPolicy(func(c fakes3.Call) bool { return c.Action != "s3:GetObjectTagging" })
		change := store.change(source, put(0))
		if err := source.Replace(t.Context(),
			[]scan.Change{change})[0].Err; status(err) != http.StatusForbidden {
			t.Errorf("AWS %v, not permitted: %v, want it denied", onAWS, err)
		}
		store.fake.SetPolicy(nil)

		source = store.source(store.annotations("", func(c *Config) { c.AWS = onAWS }))
		store.move(source, put(1))
		store.fake.SetPolicy(denied(prefix + "2"))
		hidden := 0
		for range 2 * sampleEvery {
			ref := put(2)
			if err := source.Replace(t.Context(),
				[]scan.Change{store.change(source,
					ref)})[0].Err; status(err) == http.StatusForbidden {
				break
			}
			hidden++
		}
		if hidden >= 2*sampleEvery || !strings.Contains(fmt.Sprint(source.Notes()), "may be lost") {
			t.Errorf("AWS %v: %d objects were written whose tags are not shown, notes %q", onAWS,
				hidden, source.Notes())
		}
		change = store.change(source, put(2))
		if err := source.Replace(t.Context(),
			[]scan.Change{change})[0].Err; status(err) != http.StatusForbidden {
			t.Errorf("AWS %v, after a denial: %v, want it denied", onAWS, err)
		}
		store.fake.SetPolicy(nil)
	}
}

// A server that counts the tags of some objects alone is found by the sample, which
// loses no tags, and neither does what comes after it.
func TestServerCountsSomeTags(t *testing.T) {
	store := newStore(t, nil)
	hidden := prefix + "2"
	source := store.source(store.through(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/"+bucketName+"/"+hidden || r.URL.RawQuery == "tagging=" {
			return false
		}
		store.faults.Handler(store.fake).ServeHTTP(silent{w}, r)
		return true
	}))
	put := store.plain()
	// the probes are behind us
	store.move(source, put(1))
	// the next one is asked about
	source.untaggedSeen, source.sampleIndex = sampleEvery-1, sampleEvery-1
	for range 2 {
		ref := put(2)
		store.tag(ref, "team", "a")
		rest := store.rest(ref)
		store.move(source, ref)
		if got := store.rest(ref); got != rest {
			t.Errorf("the object is\n%swant\n%s", got, rest)
		}
	}
	if !strings.Contains(fmt.Sprint(source.Notes()), "may be lost") {
		t.Errorf("notes %q", source.Notes())
	}
}

// On AWS the first answer to GetObjectTagging is the proof, and annotations, of which
// no GET tells, are asked for with each object.
func TestRequestsOnAWS(t *testing.T) {
	store := newStore(t, nil)
	put := store.plain()
	answer := store.annotations("", func(c *Config) { c.AWS = true })
	source := store.source(answer)
	first := store.sent(func() { store.move(source, put(0)) })
	second := store.sent(func() { store.move(source, put(1)) })
	want := map[string]int{"s3:GetObject": 1, "s3:PutObject": 1}
	if first["s3:GetObjectTagging"] != 1 || !maps.Equal(second, want) {
		t.Errorf("sent %v and %v, want %v for the second", first, second, want)
	}
}
