package s3scan

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/scan"
)

// withoutHeader is a server that ignores a header of copies and uploads.
func withoutHeader(header string) func(http.ResponseWriter, *http.Request) bool {
	return func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("X-Amz-Copy-Source") != "" || r.URL.Query().Has("uploadId") {
			r.Header.Del(header)
		}
		return false
	}
}

// withStatus is a server that responds to copies and uploads with this header with a status.
func withStatus(status int, header string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get(header) == "" ||
			r.Header.Get("X-Amz-Copy-Source") == "" && !r.URL.Query().Has("uploadId") {
			return false
		}
		w.WriteHeader(status)
		return true
	}
}

// probedServer is a server and the expected behavior with it.
type probedServer struct {
	name   string
	handle func(http.ResponseWriter, *http.Request) bool
	write  string // the operation that writes an object of one part; "" if it must not be written
	parts  string // the reason why an object of several parts is refused, or "written"
	noted  string
}

// A server that is not AWS receives copies only if it enforces the condition on the source.
// Otherwise small objects are read and PUT again. If the condition on the target is not
// enforced, objects are compared before and after. Notes report both, and no probe object
// remains.
func TestProbeOfCopies(t *testing.T) {
	const source, target = "X-Amz-Copy-Source-If-Match", "If-Match"
	const compared = "compared immediately before and after"
	const readAgain = "its body is read and PUT again"
	const copied, put = "s3:CopyObject", "s3:PutObject"
	all := func(http.ResponseWriter, *http.Request) bool { return false }
	for _, p := range []probedServer{
		{"all enforced", all, copied, "written", ""},
		{"target ignored", withoutHeader(target), copied, "written", compared},
		{"target not implemented", withStatus(501, target), copied, "written", compared},
		{"source ignored", withoutHeader(source), put, "cannot-copy", readAgain},
		{"source not implemented", withStatus(501, source), put, "cannot-copy", readAgain},
		{"source returns 304", withStatus(304, source), put, "cannot-copy", readAgain},
		{"source never holds", withStatus(412, source), put, "cannot-copy", readAgain},
		{"metadata not replaced", withoutHeader("X-Amz-Meta-Probe"), put, "written", readAgain},
		{"denied", withStatus(403, source), "", "", ""},
		{"down", withStatus(503, target), "", "", ""},
	} {
		for _, size := range []int64{0, large} {
			for _, versioned := range []bool{false, true} {
				t.Run(fmt.Sprint(p.name, size, versioned), func(t *testing.T) {
					p.check(t, newStore(t, func(in *s3.CreateBucketInput) {
						in.ObjectLockEnabledForBucket = &versioned
					}), size)
				})
			}
		}
	}
}

func (p probedServer) check(t *testing.T, store *store, size int64) {
	source := store.inMetadata(store.through(p.handle))
	ref := scan.Ref(prefix + "k")
	change := store.changeMetadata(source, ref, size)
	want, reason := p.write != "", ""
	if size > 0 && p.parts != "written" {
		want, reason = false, p.parts
	}
	rest := store.rest(ref)
	err := replaceOne(t, source, change)
	refused := (*scan.RefusedError)(nil)
	if (err == nil) != want || errors.As(err, &refused) != (reason != "") ||
		refused != nil && refused.Reason != reason || errors.Is(err, scan.ErrChanged) {
		t.Errorf("%v, want written %v, reason %q", err, want, reason)
	}
	if got := store.slot(ref); (got == "new") != want {
		t.Errorf("the slot holds %q", got)
	}
	if got := strings.Replace(store.rest(ref), slotHeader+": new", slotHeader+": old",
		1); got != rest {
		t.Errorf("outside the slot: %s\nwant %s", got, rest)
	}
	if notes := fmt.Sprint(source.Notes()); !strings.Contains(notes, p.noted) && size == 0 ||
		p.noted == "" && len(source.Notes()) > 0 {
		t.Errorf("notes: %q, want %q", notes, p.noted)
	}
	if writes := store.faults.Counts()[p.write]; size == 0 && want && writes == 0 {
		t.Errorf("requests: %v", store.faults.Counts())
	}
	if keys := store.fake.Versions(bucketName); len(keys) != 1 {
		t.Errorf("%d objects remain", len(keys))
	}
	store.wantNoUploads()
}

// A condition that a server does not enforce for copies is reported once, before anything but
// a probe is written. This is the case whether the first write is a copy or a PUT.
func TestWarnedBeforeTheFirstWrite(t *testing.T) {
	for _, first := range []string{"copy", "put"} {
		store := newStore(t, nil)
		var warned []string
		ignoring := withoutHeader("If-Match")
		handle := func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && !strings.Contains(r.URL.Path, probeName) &&
				len(warned) == 0 {
				t.Errorf("%s: %s %s comes before the warning", first, r.Method, r.URL.Path)
			}
			return ignoring(w, r)
		}
		ref := scan.Ref(prefix + "k")
		source := store.inMetadata(func(c *Config) {
			store.through(handle)(c)
			c.Warn = func(text string) { warned = append(warned, text) }
			c.NeedsBody = func(string, map[string]string) bool { return first == "put" }
		})
		store.value(ref, "old")
		item, err := source.Load(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			change := scan.Change{Item: item, New: spliceMetadata(item.Payload, []byte("new"))}
			if first == "put" {
				object := *item.Payload.(*scan.Object)
				object.Body = []byte("another body")
				change.New = &object
			}
			_ = source.Replace(t.Context(), []scan.Change{change}) // the second write is refused
		}
		if len(warned) != 1 || !strings.Contains(warned[0], "does not enforce If-Match") {
			t.Errorf("%s: warnings %q", first, warned)
		}
	}
}

// A command that writes nothing reports that a server other than AWS was not tested, and
// sends it no request.
func TestUnprobed(t *testing.T) {
	for _, onAWS := range []bool{false, true} {
		store := newStore(t, nil)
		source := store.inMetadata(func(c *Config) { c.AWS = onAWS })
		source.NoteUnprobed()
		notes := fmt.Sprint(source.Notes())
		if strings.Contains(notes, "before its first write") == onAWS ||
			len(store.faults.Counts()) > 0 {
			t.Errorf("AWS %v: notes %s, requests %v", onAWS, notes, store.faults.Counts())
		}
	}
}
